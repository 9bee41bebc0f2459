"""Reading, from the autograd graph, how features reached the latent codes.

The graph records what the forward really did, whatever the modules are called and whatever was
functional, hooked or wrapped. ``linear_cut`` looks for one shape of path: features pass through a
region of reshapes, elementwise operations and poolings, and leave it through linear maps alone.
Every node met must be known by name; anything else means that no cut is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

_ORDER_PRESERVING = {
    "AliasBackward0",
    "CloneBackward0",
    "ReshapeAliasBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
    "ToCopyBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "ViewBackward0",
}
_ELEMENTWISE = {
    "AbsBackward0",
    "AddBackward0",
    "CeluBackward0",
    "ClampBackward1",
    "DivBackward0",
    "EluBackward0",
    "EluBackward1",
    "ExpBackward0",
    "GeluBackward0",
    "HardshrinkBackward0",
    "HardsigmoidBackward0",
    "HardswishBackward0",
    "HardtanhBackward0",
    "LeakyReluBackward0",
    "LeakyReluBackward1",
    "LogSigmoidBackward0",
    "MaximumBackward0",
    "MinimumBackward0",
    "MishBackward0",
    "MulBackward0",
    "NativeDropoutBackward0",
    "NegBackward0",
    "PowBackward0",
    "PreluKernelBackward0",
    "ReluBackward0",
    "RsubBackward0",
    "RsubBackward1",
    "SigmoidBackward0",
    "SiluBackward0",
    "SoftplusBackward0",
    "SoftshrinkBackward0",
    "SubBackward0",
    "TanhBackward0",
    "ThresholdBackward0",
}
_BATCH_NORM = {"CudnnBatchNormBackward0", "MiopenBatchNormBackward0", "NativeBatchNormBackward0"}
_SELECTIONS = {"SelectBackward0", "SliceBackward0", "SplitBackward0", "SplitWithSizesBackward0"}
_SUMS = {"MeanBackward1", "SumBackward1"}


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
        linears: the linear maps, each fed by the whole region.
        elementwise: names of the operations in the region whose derivative is not 1.
        pooling: names of the poolings in the region.
        pool_share: (O,) total weight with which each pooled position gathers its inputs, when
            the region pools to several positions; else None.
        pool_output: edge of the pooling's output when ``pool_share`` is given.
    """

    linears: tuple[LinearMap, ...]
    elementwise: tuple[str, ...]
    pooling: tuple[str, ...]
    pool_share: Tensor | None = None
    pool_output: GradientEdge | None = None


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
            (math.prod(meta.shape) for node in self.nodes for meta in _metadata(node)), default=0
        )

    def is_constant(self, batch: int) -> bool:
        """Whether codes are picked or summed from the features' values of their own sample.

        Then d codes / d features is the same for every sample, and depends on nothing.
        """
        return all(
            _shape(node, 0)[:1] == (batch,)
            and (
                node.name() in _ORDER_PRESERVING
                or (node.name() in _SELECTIONS | _SUMS and not _touches_batch(node))
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
        share = _pool_share(self.pools[0])
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
                shape if self.path.is_features(child, number) else _shape(child, number)
                for _, child, number in inputs
            ]
            if is_linear(node):
                if [slot for slot, _, _ in inputs] != [_LINEAR_INPUT[node.name()]]:
                    return False
                self.linears.append(node)
            elif self._belongs(node, shapes):
                self.members.add(node)
            else:
                return False
        return bool(self.linears)

    def _belongs(self, node: Node, input_shapes: Sequence[tuple[int, ...]]) -> bool:
        name, output = node.name(), _shape(node, 0)
        if not output or output[0] != self.batch or any(s[0] != self.batch for s in input_shapes):
            return False
        if name in _ORDER_PRESERVING:
            return True
        if name in _ELEMENTWISE or (name in _BATCH_NORM and not _saved(node, "training")):
            if any(s != output for s in input_shapes):
                return False
            self.elementwise.append(name)
            return True
        if len(input_shapes) == 1 and _pools_each_channel(node, input_shapes[0], self.channels):
            self.pools.append(node)
            return True
        return False

    def _only_way_in(self, pool: Node) -> bool:
        """Whether every path from the features starts with this pooling, dtype casts aside."""
        for node in self.members:
            inputs = self.path.inputs_on_path(node)
            from_features = any(self._is_unpooled(child, number) for _, child, number in inputs)
            if from_features and node is not pool and node.name() not in _ORDER_PRESERVING:
                return False
        ((_, child, number),) = self.path.inputs_on_path(pool)
        return self._is_unpooled(child, number)

    def _is_unpooled(self, node: Node, number: int) -> bool:
        while not self.path.is_features(node, number):
            if node.name() not in _ORDER_PRESERVING:
                return False
            ((_, node, number),) = self.path.inputs_on_path(node)
        return True


_LINEAR_INPUT = {"AddmmBackward0": 1, "MmBackward0": 0, "ConvolutionBackward0": 0}


def is_linear(node: Node) -> bool:
    """Whether the node multiplies its input by a weight: a Linear, or a convolution."""
    return node.name() in _LINEAR_INPUT


def linear_map(node: Node) -> LinearMap | None:
    """The node as ``weight @ input``, or None when it is not one over all of a sample's values.

    A convolution counts when its kernel covers the whole unpadded input, so that it has one
    output position and is a Linear in all but name.
    """
    name = node.name()
    slot = _LINEAR_INPUT[name]
    child, number = node.next_functions[slot]
    if child is None:
        return None
    if name == "ConvolutionBackward0":
        weight = _saved(node, "weight")
        covers = tuple(weight.shape[2:]) == tuple(_saved(node, "input").shape[2:])
        if (
            not covers
            or _saved(node, "transposed")
            or _saved(node, "groups") != 1
            or any(_saved(node, "padding"))
            or any(step != 1 for step in _saved(node, "dilation"))
        ):
            return None
        weight = weight.flatten(1)
    else:
        if name == "AddmmBackward0" and _saved(node, "alpha") != 1:
            return None
        weight = _saved(node, "mat2").t()
    return LinearMap(name, GradientEdge(node, 0), GradientEdge(child, number), weight)


def _touches_batch(node: Node) -> bool:
    dim = _saved(node, "dim")
    dims = _signed(dim if isinstance(dim, tuple) else (dim,))
    return not dims or any(d in (0, -len(_saved(node, "self_sym_sizes"))) for d in dims)


def _pools_each_channel(node: Node, input_shape: tuple[int, ...], channels: int) -> bool:
    if len(input_shape) < 3 or input_shape[1] != channels:
        return False
    name = node.name()
    if name == "MeanBackward1":
        dims = {d % len(input_shape) for d in _signed(_saved(node, "dim"))}
        return dims == set(range(2, len(input_shape)))
    return name.startswith(("AdaptiveAvgPool", "AvgPool", "MaxPool", "AdaptiveMaxPool"))


def _pool_share(node: Node) -> Tensor | None:
    """How much weight each pooled position gives to its inputs in all, (O,).

    1 for a maximum and for an average over what is there; less where an average counts padding.
    """
    pooled = _shape(node, 0)[2:]
    name = node.name()
    if not name.startswith("AvgPool"):
        return torch.ones(math.prod(pooled))
    spatial = _saved(node, "self").shape[2:]
    pool = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(spatial)]
    options: dict[str, Any] = {
        "kernel_size": _saved(node, "kernel_size"),
        "stride": _saved(node, "stride") or None,
        "padding": _saved(node, "padding"),
        "ceil_mode": _saved(node, "ceil_mode"),
        "count_include_pad": _saved(node, "count_include_pad"),
    }
    if len(spatial) > 1:
        options["divisor_override"] = _saved(node, "divisor_override")
    share: Tensor = pool(torch.ones(1, 1, *spatial), **options)
    return share.flatten() if tuple(share.shape[2:]) == tuple(pooled) else None


def _saved(node: Node, name: str) -> Any:
    return getattr(node, f"_saved_{name}")


def _signed(values: Iterable[int]) -> list[int]:
    return [v - 2**64 if v >= 2**63 else v for v in values]


def _metadata(node: Node) -> list[Any]:
    return getattr(node, "_input_metadata", [])


def _shape(node: Node, number: int) -> tuple[int, ...]:
    metadata = _metadata(node)
    return tuple(metadata[number].shape) if number < len(metadata) else ()
