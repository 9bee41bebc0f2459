"""How a layer's channel weights are to be computed, read from the graph that the forward left."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_vae.attr.engine.autograd_path import AutogradPath, LinearCut


@dataclass(frozen=True)
class Head:
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
class LayerPlan:
    """How one layer's channel weights are computed, and why.

    Attributes:
        path: ``pooled`` (the weight is pooled over positions once), ``masked`` (an elementwise
            operation lies between, so it is pooled once per image), ``vector_jacobian`` (batched
            backward passes) or ``off_path`` (the codes do not depend on the layer).
        reason: One sentence for people.
        cut: The linear maps that the closed forms use; None for the other paths.
        head: How the codes hang on the cut's output, where that is simple; else None.
        largest: Number of elements of the largest value between features and codes, which tells
            the memory that a backward pass takes; 0 where none is made.
    """

    path: str
    reason: str
    cut: LinearCut | None = field(default=None, repr=False)
    head: Head | None = field(default=None, repr=False)
    largest: int = field(default=0, repr=False)


def plan_layer(codes: Tensor, features: Tensor, *, pooled: bool = True) -> LayerPlan:
    """Choose the way to the channel weights from what the forward really did.

    Args:
        codes: (B, D), with the graph of the forward.
        features: (B, K, *spatial), a tensor of that graph.
        pooled: Whether pooled gradients of these very features are wanted; there is no closed form
            for others.
    """
    path = AutogradPath(codes, get_gradient_edge(features))
    if not path.connected:
        return LayerPlan("off_path", "the codes do not depend on the features")
    cut = path.linear_cut(tuple(features.shape)) if pooled else None
    if cut is None:
        reason = (
            "the features do not go straight into a linear map"
            if pooled
            else "not the pooled gradient of the layer's own features is wanted"
        )
        return LayerPlan("vector_jacobian", reason, largest=path.largest_value())
    target = " and ".join(
        f"a linear map {linear.weight.shape[1]} -> {linear.weight.shape[0]}"
        for linear in cut.linears
    )
    via = "".join(f" through {name}" for name in (*cut.pooling, *cut.elementwise))
    kind = "masked" if cut.elementwise else "pooled"
    head = _head(codes, cut)
    return LayerPlan(kind, f"the features reach {target}{via or ' unchanged'}", cut, head)


def _head(codes: Tensor, cut: LinearCut) -> Head | None:
    """Codes that are picked from the cut's output, or from one more Linear above it."""
    if len(cut.linears) > 1:
        return None
    batch, (linear,) = len(codes), cut.linears
    above = AutogradPath(codes, linear.output)
    if above.is_constant(batch):
        return Head(linear.output)
    hidden = above.linear_cut((batch, linear.weight.shape[0]))
    if hidden is None or len(hidden.linears) > 1 or hidden.pooling:
        return None
    edge = hidden.linears[0].output
    return Head(edge, hidden) if AutogradPath(codes, edge).is_constant(batch) else None
