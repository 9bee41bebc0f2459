"""Reading, from the autograd graph, how features reached the latent codes.

The graph records what the forward really did, whatever the modules are called and whatever was
functional, hooked or wrapped. ``plan_layer`` looks for one shape of path: features pass through a
region of reshapes, elementwise operations and poolings, and leave it through linear maps alone.
Every node met must be known by name; anything else means that no cut is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn import Module

from captum_vae.attr.engine.layers import describe
from captum_vae.attr.engine.operations import (
    BATCH_NORM,
    ELEMENTWISE,
    LINEAR_INPUT,
    ORDER_PRESERVING,
    SELECTIONS,
    SUMS,
    is_linear,
    metadata_of,
    pool_share,
    pools_each_channel,
    saved,
    shape_of,
    touches_batch,
)


@dataclass(frozen=True)
class LinearMap:
    """One linear node out of the region: output = weight @ input + constant.

    ``output`` is the node's own edge; ``weight`` is (H, F), F counting the region's values.
    """

    name: str
    output: GradientEdge
    input: GradientEdge
    weight: Tensor


@dataclass(frozen=True)
class LinearCut:
    """All paths from the features to the codes leave a known region through ``linears``.

    Attributes:
        linears: The linear maps, each fed by the whole region.
        elementwise: Names of the operations in the region whose derivative is not 1.
        pooling: Names of the poolings in the region.
        pool_share: (O,) total weight with which each pooled position gathers its inputs, when
            the region pools to several positions; else None.
        pool_output: Edge of the pooling's output when ``pool_share`` is given.
    """

    linears: tuple[LinearMap, ...]
    elementwise: tuple[str, ...]
    pooling: tuple[str, ...]
    pool_share: Tensor | None = None
    pool_output: GradientEdge | None = None


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
    head: SharedDerivative | None = field(default=None, repr=False)
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


def off_path(layer: Module, codes: Tensor | None = None) -> Exception:
    """The error for a layer on which the posterior does not depend.

    Args:
        layer: The layer.
        codes: What should depend on it, which may show that the model forbids gradients.
    """
    if codes is not None and codes.is_inference():
        return RuntimeError(
            f"the model runs what lies behind layer {describe(layer)} under "
            "torch.inference_mode(), where no gradients exist; use torch.no_grad() in the model "
            "instead, which is no hindrance"
        )
    return ValueError(
        f"layer {describe(layer)} is not on the path to the posterior: its features do not change "
        "it, or a detach or no_grad in the model, or a checkpoint with use_reentrant=True, hides "
        "that they do (use_reentrant=False does not); choose an encoder layer"
    )


def _head(codes: Tensor, cut: LinearCut) -> SharedDerivative | None:
    """Codes that are picked from the cut's output, or from one more Linear above it."""
    if len(cut.linears) > 1:
        return None
    batch, (linear,) = len(codes), cut.linears
    above = AutogradPath(codes, linear.output)
    if above.is_constant(batch):
        return SharedDerivative(linear.output)
    hidden = above.linear_cut((batch, linear.weight.shape[0]))
    if hidden is None or len(hidden.linears) > 1 or hidden.pooling:
        return None
    edge = hidden.linears[0].output
    return SharedDerivative(edge, hidden) if AutogradPath(codes, edge).is_constant(batch) else None


class AutogradPath:
    """The part of an autograd graph that lies between features and codes."""

    def __init__(self, codes: Tensor, features: GradientEdge) -> None:
        """Walk the graph of ``codes``, stopping at the edge of ``features``."""
        self.features = features
        self._root = codes.grad_fn
        self._on_path: set[Node] = set()
        self.nodes: list[Node] = []
        """Every node between features and codes, children before parents."""
        if self._root is not None and not self.is_features(self._root, codes.output_nr):
            self._walk(self._root)

    @property
    def connected(self) -> bool:
        """Whether the codes depend on the features at all."""
        return bool(self.nodes)

    def inputs_on_path(self, node: Node) -> list[tuple[int, Node, int]]:
        """(slot, child, output number) of each input of ``node`` that depends on the features."""
        found = []
        for slot, (child, number) in enumerate(node.next_functions):
            if child is not None and (self.is_features(child, number) or child in self._on_path):
                found.append((slot, child, number))
        return found

    def largest_value(self) -> int:
        """Number of elements of the largest intermediate value on the path."""
        return max(
            (math.prod(meta.shape) for node in self.nodes for meta in metadata_of(node)), default=0
        )

    def is_constant(self, batch: int) -> bool:
        """Whether codes are picked or summed from the features' values of their own sample.

        Then d codes / d features is the same for every sample, and depends on nothing.
        """
        return all(
            shape_of(node, 0)[:1] == (batch,)
            and (
                node.name() in ORDER_PRESERVING
                or (node.name() in SELECTIONS | SUMS and not touches_batch(node))
            )
            for node in self.nodes
        )

    def linear_cut(self, shape: tuple[int, ...]) -> LinearCut | None:
        """The cut behind features of ``shape`` (B, K, *spatial), or None where none is certain."""
        region = _Region(self, shape)
        return region.cut() if region.certain else None

    def is_features(self, node: Node, number: int) -> bool:
        """Whether this is the edge of the features themselves."""
        return node is self.features.node and number == self.features.output_nr

    def _walk(self, root: Node) -> None:
        seen = {root}
        stack = [(root, iter(root.next_functions))]
        while stack:
            node, children = stack[-1]
            for child, _ in children:
                if child is not None and child is not self.features.node and child not in seen:
                    seen.add(child)
                    stack.append((child, iter(child.next_functions)))
                    break
            else:
                stack.pop()
                if self.inputs_on_path(node):
                    self._on_path.add(node)
                    self.nodes.append(node)


class _Region:
    """Grows from the features through known operations until only linear maps lead out."""

    def __init__(self, path: AutogradPath, shape: tuple[int, ...]) -> None:
        self.path = path
        self.batch, self.channels, *spatial = shape
        self.positions = math.prod(spatial)
        self.members: set[Node] = set()
        self.linears: list[Node] = []
        self.elementwise: list[str] = []
        self.pools: list[Node] = []
        self.certain = path.connected and self._grow(shape)

    def cut(self) -> LinearCut | None:
        linears = [linear_map(node) for node in self.linears]
        known = tuple(linear for linear in linears if linear is not None)
        if not known or len(known) != len(linears):
            return None
        values = known[0].weight.shape[1]
        edges = {(linear.input.node, linear.input.output_nr) for linear in known}
        if any(linear.weight.shape[1] != values for linear in known) or len(edges) > 1:
            return None
        names = tuple(self.elementwise), tuple(node.name() for node in self.pools)
        if values == self.channels and (self.pools or self.positions == 1):
            return LinearCut(known, *names)
        if not self.pools:
            return LinearCut(known, *names) if values == self.channels * self.positions else None
        if len(self.pools) != 1 or not self._only_way_in(self.pools[0]):
            return None
        share = pool_share(self.pools[0])
        if share is None or values != self.channels * share.numel():
            return None
        return LinearCut(known, *names, share, GradientEdge(self.pools[0], 0))

    def _grow(self, shape: tuple[int, ...]) -> bool:
        """Sort every node on the path into the region, its linear exits, or what lies above.

        Nodes arrive children first, so a node all of whose inputs on the path lie in the region
        belongs to it or leaves it; one with an input in the region and another outside it mixes
        the features with something computed behind the region, which no cut allows.
        """
        for node in self.path.nodes:
            inputs = self.path.inputs_on_path(node)
            inside = [
                self.path.is_features(child, number) or child in self.members
                for _, child, number in inputs
            ]
            if not any(inside):
                continue
            if not all(inside):
                return False
            shapes = [
                shape if self.path.is_features(child, number) else shape_of(child, number)
                for _, child, number in inputs
            ]
            if is_linear(node):
                if [slot for slot, _, _ in inputs] != [LINEAR_INPUT[node.name()]]:
                    return False
                self.linears.append(node)
            elif self._belongs(node, shapes):
                self.members.add(node)
            else:
                return False
        return bool(self.linears)

    def _belongs(self, node: Node, input_shapes: Sequence[tuple[int, ...]]) -> bool:
        """Whether the node's values still lie in the order (B, K, *positions), batch first.

        Features do. A reshape leaves the order of values as it is, so that a first axis of B values
        is the batch and a second one of K the channels; an elementwise operation whose inputs have
        its own shape leaves every value at its place; a pooling of all position axes, and of no
        other, leaves fewer positions. Nothing else belongs, whatever it does.
        """
        name, output = node.name(), shape_of(node, 0)
        if not output or output[0] != self.batch or any(s[0] != self.batch for s in input_shapes):
            return False
        if name in ORDER_PRESERVING:
            return True
        if name in ELEMENTWISE or (name in BATCH_NORM and not saved(node, "training")):
            if any(s != output for s in input_shapes):
                return False
            self.elementwise.append(name)
            return True
        if len(input_shapes) == 1 and pools_each_channel(node, input_shapes[0], self.channels):
            self.pools.append(node)
            return True
        return False

    def _only_way_in(self, pool: Node) -> bool:
        """Whether every path from the features starts with this pooling, dtype casts aside."""
        for node in self.members:
            inputs = self.path.inputs_on_path(node)
            from_features = any(self._is_unpooled(child, number) for _, child, number in inputs)
            if from_features and node is not pool and node.name() not in ORDER_PRESERVING:
                return False
        ((_, child, number),) = self.path.inputs_on_path(pool)
        return self._is_unpooled(child, number)

    def _is_unpooled(self, node: Node, number: int) -> bool:
        while not self.path.is_features(node, number):
            if node.name() not in ORDER_PRESERVING:
                return False
            ((_, node, number),) = self.path.inputs_on_path(node)
        return True


def linear_map(node: Node) -> LinearMap | None:
    """The node as ``weight @ input``, or None when it is not one over all of a sample's values.

    A convolution counts when its kernel covers the whole unpadded input, so that it has one
    output position and is a Linear in all but name.
    """
    name = node.name()
    slot = LINEAR_INPUT[name]
    child, number = node.next_functions[slot]
    if child is None:
        return None
    if name == "ConvolutionBackward0":
        weight = saved(node, "weight")
        covers = tuple(weight.shape[2:]) == tuple(saved(node, "input").shape[2:])
        if (
            not covers
            or saved(node, "transposed")
            or saved(node, "groups") != 1
            or any(saved(node, "padding"))
            or any(step != 1 for step in saved(node, "dilation"))
        ):
            return None
        weight = weight.flatten(1)
    else:
        if name == "AddmmBackward0" and saved(node, "alpha") != 1:
            return None
        weight = saved(node, "mat2").t()
    return LinearMap(name, GradientEdge(node, 0), GradientEdge(child, number), weight)
