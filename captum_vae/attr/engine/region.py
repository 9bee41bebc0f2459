"""The region behind the features: what leaves every channel by itself, up to what consumes it.

Features pass through reshapes, elementwise operations, poolings and the like, and leave the region
through linear maps, or through operations that mix them with something computed behind the region,
as the sum of a residual block. Every node met must be known by name, and known to act on positions
alone; anything else means that nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from captum_vae.attr.engine.graph import AutogradPath
from captum_vae.attr.engine.operations import (
    BATCH_NORM,
    ELEMENTWISE,
    LINEAR_INPUT,
    ORDER_PRESERVING,
    is_linear,
    moves_positions_only,
    pool_share,
    pools_each_channel,
    saved,
    shape_of,
)


@dataclass(frozen=True)
class LinearMap:
    """One linear node out of the region: output = weight @ input + constant.

    ``output`` is the node's own edge; ``weight`` is (H, F), F counting the region's values.
    """

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
class Exit:
    """An operation that takes a value of the region and whose output lies behind it.

    Attributes:
        node: The operation.
        slot: Place of the region's value among its inputs.
        source: The value: a node and the number of its output.
        shape: The value's shape, (B, K, *positions) or (B, K * positions).
    """

    node: Node
    slot: int
    source: tuple[Node, int]
    shape: tuple[int, ...]


class Region:
    """Grows from the features through known operations until only known consumers lead out.

    Args:
        path: From features to codes.
        shape: Shape of the features, (B, K, *spatial).

    Attributes:
        members: The operations inside.
        exits: Those that take a value from it to outside.
        certain: Whether everything that depends on the features does so through the exits.
    """

    def __init__(self, path: AutogradPath, shape: tuple[int, ...]) -> None:
        """Sort every operation on the path."""
        self.path = path
        self.batch, self.channels, *spatial = shape
        self.positions = math.prod(spatial)
        self.members: set[Node] = set()
        self.exits: list[Exit] = []
        self.elementwise: list[str] = []
        self.pools: list[Node] = []
        self.resampled: list[Node] = []
        self.certain = path.connected and self._grow(shape)

    @property
    def names(self) -> list[str]:
        """What the features pass inside, reshapes aside."""
        return [*(n.name() for n in (*self.resampled, *self.pools)), *self.elementwise]

    def linear_cut(self) -> LinearCut | None:
        """The cut at linear maps over all positions, or None where none is certain."""
        if not self.certain or self.resampled or not all(is_linear(e.node) for e in self.exits):
            return None
        linears = [linear_map(exit_) for exit_ in self.exits]
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
        """Sort every node on the path into the region, its exits, or what lies above.

        Nodes arrive children first, so a node all of whose inputs on the path lie in the region
        belongs to it or leaves it; one with an input in the region and another outside it mixes
        the features with something computed behind the region, and leaves it too.
        """
        for node in self.path.nodes:
            inputs = self.path.inputs_on_path(node)
            inside = [
                self.path.is_features(child, number) or child in self.members
                for _, child, number in inputs
            ]
            if not any(inside):
                continue
            shapes = [
                shape if self.path.is_features(child, number) else shape_of(child, number)
                for _, child, number in inputs
            ]
            if all(inside) and not is_linear(node) and self._belongs(node, shapes):
                self.members.add(node)
                continue
            (slot, child, number), given = inputs[inside.index(True)], shapes[inside.index(True)]
            if inside.count(True) != 1 or not self._leaves(node, [i[0] for i in inputs], given):
                return False
            self.exits.append(Exit(node, slot, (child, number), given))
        return bool(self.exits)

    def _leaves(self, node: Node, slots: Sequence[int], given: tuple[int, ...]) -> bool:
        """Whether the node's derivative with respect to a value of the region is known.

        Args:
            node: An operation with one input from the region.
            slots: All its inputs on the path.
            given: Shape of the region's value, in the order (B, K, *positions).
        """
        name = node.name()
        if given[0] != self.batch or math.prod(given[1:]) % self.channels:
            return False
        if is_linear(node):
            takes_channels = name != "ConvolutionBackward0" or given[1] == self.channels
            return list(slots) == [LINEAR_INPUT[name]] and takes_channels
        return name in ELEMENTWISE and shape_of(node, 0) == given

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
        if len(input_shapes) == 1 and moves_positions_only(node, input_shapes[0], self.channels):
            self.resampled.append(node)
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


def linear_map(exit_: Exit) -> LinearMap | None:
    """The exit as ``weight @ input``, or None when it is not one over all of a sample's values.

    A convolution counts when its kernel covers the whole unpadded input, so that it has one
    output position and is a Linear in all but name.
    """
    node, name = exit_.node, exit_.node.name()
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
    return LinearMap(GradientEdge(node, 0), GradientEdge(*exit_.source), weight)
