"""Choosing the way to a layer's channel weights from what the forward really did."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from captum_vae.attr.engine.graph import AutogradPath
from captum_vae.attr.engine.operations import is_linear, keeps_samples_apart, largest_value
from captum_vae.attr.engine.propagation import Propagation
from captum_vae.attr.engine.region import LinearCut, Region


@dataclass(frozen=True)
class SharedDerivative:
    """Where d codes / d Linear output can be had once for all images.

    Attributes:
        edge: An edge between the Linear's output and the codes, from which codes are only picked
            or summed: their derivative there is the same for every image.
        hidden: The one Linear between, where ``edge`` is its output; else None, and ``edge`` is
            the output of the cut itself.
    """

    edge: GradientEdge
    hidden: LinearCut | None = None


@dataclass(frozen=True)
class Route:
    """What many vectors are passed through between features and codes.

    Attributes:
        region: Known to leave every channel by itself, with its closed form; None where nothing is
            known of what takes the features, and tangents start at the features themselves.
        above: The operations between the region, or the features, and the codes.
    """

    region: Region | None
    above: Propagation


@dataclass(frozen=True)
class LayerPlan:
    """How one layer's channel weights are computed, and why.

    Attributes:
        path: ``pooled`` (a Linear's weight is pooled over positions once), ``masked`` (an
            elementwise operation lies between, so it is pooled once per image), ``convolved``
            (cotangents stop behind the convolutions that take the features, whose kernels are
            summed over positions), ``forward`` (one tangent per channel gives all codes),
            ``vector_jacobian`` (batched backward passes) or ``off_path`` (the codes do not depend
            on the layer).
        reason: One sentence for people.
        cut: The linear maps that ``pooled`` and ``masked`` use; None for the other paths.
        head: How the codes hang on the cut's output, where that is simple; else None.
        route: What ``convolved`` and ``forward`` pass vectors through; None for the other paths.
        largest: Number of elements of the largest value between features and codes, which tells
            the memory that a backward pass takes; 0 where none is made.
    """

    path: str
    reason: str
    cut: LinearCut | None = field(default=None, repr=False)
    head: SharedDerivative | None = field(default=None, repr=False)
    route: Route | None = field(default=None, repr=False)
    largest: int = field(default=0, repr=False)


def plan_layer(
    codes: Tensor,
    features: Tensor,
    *,
    pooled: bool = True,
    dims: int | None = None,
    create_graph: bool = False,
) -> LayerPlan:
    """Choose the way to the channel weights.

    Args:
        codes: (B, D), with the graph of the forward.
        features: (B, K, *spatial), a tensor of that graph.
        pooled: Whether pooled gradients of these very features are wanted; there is no closed form
            for others.
        dims: How many of the codes get weights; None for all D.
        create_graph: Whether the weights will be differentiated.
    """
    path = AutogradPath(codes, get_gradient_edge(features))
    if not path.connected:
        return LayerPlan("off_path", "the codes do not depend on the features")
    if not pooled:
        reason = "not the pooled gradient of the layer's own features is wanted"
        return LayerPlan("vector_jacobian", reason, largest=largest_value(path.nodes))
    region = Region(path, tuple(features.shape))
    cut = region.linear_cut()
    if cut is not None:
        target = " and ".join(
            f"a linear map {linear.weight.shape[1]} -> {linear.weight.shape[0]}"
            for linear in cut.linears
        )
        via = "".join(f" through {name}" for name in (*cut.pooling, *cut.elementwise))
        kind = "masked" if cut.elementwise else "pooled"
        reason = f"the features reach {target}{via or ' unchanged'}"
        return LayerPlan(kind, reason, cut, _head(codes, cut))
    dims = codes.shape[1] if dims is None else dims
    return _propagated(path, region, features, dims, create_graph) or LayerPlan(
        "vector_jacobian",
        "the features do not go straight into a linear map",
        largest=largest_value(path.nodes),
    )


def _propagated(
    path: AutogradPath, region: Region, features: Tensor, dims: int, create_graph: bool
) -> LayerPlan | None:
    """Vectors passed through every operation: one per channel, or one per code, the fewer."""
    batch, channels = features.shape[:2]
    known = region if region.certain else None
    above = Propagation(path, region.members if known else (), from_features=not known)
    if dims == 1 or not above.possible:
        return None
    route = Route(known, above)
    if channels < dims:
        apart = all(keeps_samples_apart(node, batch) for node in path.nodes)
        if apart and not (create_graph and above.formulas):
            reason = f"{channels} channels are fewer than {dims} latent dimensions"
            return LayerPlan("forward", reason, route=route, largest=largest_value(path.nodes))
    if known is None:
        return None
    names = [_words(exit_.node) for exit_ in region.exits]
    via = "".join(f" through {name}" for name in region.names)
    reason = f"the features reach {' and '.join(dict.fromkeys(names))}{via or ' unchanged'}"
    return LayerPlan("convolved", reason, route=route, largest=largest_value(path.nodes))


def _words(node: Node) -> str:
    if node.name() == "ConvolutionBackward0":
        return "a convolution"
    return "a linear map" if is_linear(node) else node.name()


def _head(codes: Tensor, cut: LinearCut) -> SharedDerivative | None:
    """Codes that are picked from the cut's output, or from one more Linear above it."""
    if len(cut.linears) > 1:
        return None
    batch, (linear,) = len(codes), cut.linears
    above = AutogradPath(codes, linear.output)
    if above.is_constant(batch):
        return SharedDerivative(linear.output)
    hidden = Region(above, (batch, linear.weight.shape[0])).linear_cut()
    if hidden is None or len(hidden.linears) > 1 or hidden.pooling:
        return None
    edge = hidden.linears[0].output
    return SharedDerivative(edge, hidden) if AutogradPath(codes, edge).is_constant(batch) else None
