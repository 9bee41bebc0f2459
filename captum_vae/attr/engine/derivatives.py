"""Recorded operations as the linear maps that their derivatives are.

At the values that the forward met, the derivative of an operation is a linear map J. As a backward
pass does, ``transposed`` takes cotangents c of its output to J'c of its inputs; as forward mode
does, ``pushed`` takes tangents v of its inputs to Jv. Convolutions, Linears, reshapes, selections,
sums and elementwise operations are written out, so that many vectors run through them as one large
batch, whose own derivative is exact; any other one is asked through the formula that autograd
recorded, under ``vmap``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from captum_vae.attr.engine.convolution import Convolution, convolution_of
from captum_vae.attr.engine.operations import (
    BATCH_NORM,
    CHANNELWISE_LINEAR,
    ELEMENTWISE,
    LINEAR_INPUT,
    MAX_POOLS,
    ORDER_PRESERVING,
    PIECEWISE_LINEAR,
    SELECTIONS,
    SUMS,
    average_pool,
    metadata_of,
    moves_positions_only,
    pools_each_channel,
    saved,
    shape_of,
    signed,
)
from captum_vae.attr.engine.vectors import Vectors, merged, split_axis
from captum_vae.posterior.read_back import is_traced


@dataclass(frozen=True)
class Input:
    """A value that an operation takes and that depends on the features.

    Attributes:
        slot: Its place among the operation's inputs.
        edge: The node and the number of the output that it is.
        shape: Its shape.
        dtype: Its dtype.
    """

    slot: int
    edge: tuple[Node, int]
    shape: tuple[int, ...]
    dtype: torch.dtype


class Derivative:
    """The derivative of one recorded operation at the values that the forward met.

    Args:
        node: What autograd recorded.
        inputs: The inputs that vary; the others are constants.
    """

    def __init__(self, node: Node, inputs: Sequence[Input]) -> None:
        """Read nothing yet."""
        self.node = node
        self.inputs = tuple(inputs)
        self.shape = shape_of(node, 0)

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:
        """Cotangents by number of the output -> one per input; None where it is zero."""
        raise NotImplementedError

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:
        """Tangents by slot of the input -> by number of the output."""
        raise NotImplementedError


class Reshape(Derivative):
    """Values keep their order."""

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:  # noqa: D102
        return [cotangents[0].reshaped(self.inputs[0].shape)]

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:  # noqa: D102
        ((_, tangent),) = tangents.items()
        return {0: tangent.reshaped(self.shape)}


class Elementwise(Derivative):
    """Every value becomes a function of itself: J is diagonal."""

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:  # noqa: D102
        slopes = [self.slopes.get(i.slot) for i in self.inputs]
        cotangent = cotangents[0] if len(slopes) == 1 else replace(cotangents[0], own=False)
        return [None if slope is None else cotangent.scaled(slope) for slope in slopes]

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:  # noqa: D102
        terms = [
            tangent.scaled(self.slopes[slot])
            for slot, tangent in tangents.items()
            if slot in self.slopes
        ]
        return {0: sum(terms[1:], terms[0])} if terms else {}

    @cached_property
    def slopes(self) -> Mapping[int, Tensor | float]:
        """Derivative with respect to the input at each slot, as a number or one per value."""
        name = self.node.name()
        if name in ("AddBackward0", "SubBackward0"):
            second = float(saved(self.node, "alpha"))
            return {0: 1.0, 1: second if name == "AddBackward0" else -second}
        if name == "NegBackward0":
            return {0: -1.0}
        if name in BATCH_NORM:
            return {0: self._batch_norm()}
        found = _gradients(self.node, {0: ones_of(self.node)})
        constant = name in PIECEWISE_LINEAR
        slopes = {i.slot: found[i.slot] for i in self.inputs}
        return {
            slot: _laid_out(slope.detach() if constant else slope)
            for slot, slope in slopes.items()
            if slope is not None
        }

    def _batch_norm(self) -> Tensor:
        """The weight over sqrt(variance + eps), one number per channel."""
        scale: Tensor = (saved(self.node, "running_var") + saved(self.node, "eps")).rsqrt()
        weight = saved(self.node, "weight")
        scale = scale if weight is None else scale * weight
        return scale.to(self.inputs[0].dtype).reshape(1, -1, *[1] * (len(self.shape) - 2))


class Convolved(Derivative):
    """A convolution of the input that varies with a constant weight."""

    @cached_property
    def convolution(self) -> Convolution:
        """The map itself."""
        return convolution_of(self.node)

    @cached_property
    def backwards(self) -> Convolution:
        """Its transpose."""
        return self.convolution.transpose(self.inputs[0].shape[2:], self.shape[2:])

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:  # noqa: D102
        cotangent, shape = cotangents[0], self.inputs[0].shape
        if cotangent.same_everywhere and self._shares_kernel(cotangent):
            return [self._of_one_row_per_channel(cotangent)]
        stack = cotangent.samples()
        found = cropped(self.backwards(merged(stack)), shape[2:])
        return [Vectors(split_axis(found, 0, stack.shape[:2]), shape, own=True)]

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:  # noqa: D102
        stack = tangents[0].samples()
        made = self.convolution(merged(stack))
        return {0: Vectors(split_axis(made, 0, stack.shape[:2]), self.shape, own=True)}

    def _shares_kernel(self, cotangent: Vectors) -> bool:
        """Whether rows that are equal over positions go through the kernel together.

        A graph would keep what every channel makes alone, and a GPU has not been measured.
        """
        rows, gate = cotangent.rows, cotangent.gate
        if torch.is_grad_enabled() or rows.device.type != "cpu" or is_traced(rows):
            return False
        images = rows.shape[1] if gate is None or len(gate) == 1 else 1
        return self.backwards.shares_one_kernel(len(rows) * images)

    def _of_one_row_per_channel(self, cotangent: Vectors) -> Vectors:
        """Cotangents that are the same row l[t, o] everywhere, under a mask m[b, o, q]."""
        mask = cotangent.gate
        if mask is None:
            mask = cotangent.rows.new_ones(1, *self.shape[1:])
        mask = mask.expand(len(mask), *self.shape[1:])
        rows = cotangent.rows.flatten(2).expand(-1, -1, self.shape[1])
        found = self.backwards.of_scaled_channels(mask, rows)
        shape = self.inputs[0].shape
        return Vectors(cropped(found, shape[2:]), shape, own=True)


class Multiplied(Derivative):
    """A product with a constant matrix: y = x @ W (F, H), row by row."""

    @cached_property
    def matrix(self) -> Tensor:
        """W, times the factor that ``addmm`` may have."""
        matrix: Tensor = saved(self.node, "mat2")
        factor = saved(self.node, "alpha") if self.node.name() == "AddmmBackward0" else 1
        return matrix if factor == 1 else matrix * factor

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:  # noqa: D102
        stack = cotangents[0].samples()
        return [Vectors(_times(stack, self.matrix.t()), self.inputs[0].shape)]

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:  # noqa: D102
        ((_, tangent),) = tangents.items()
        return {0: Vectors(_times(tangent.samples(), self.matrix), self.shape)}


class Summed(Derivative):
    """A sum or a mean over axes."""

    @cached_property
    def axes(self) -> list[int]:
        """The axes that are added up, of the input."""
        rank = len(self.inputs[0].shape)
        return sorted(d % rank for d in signed(saved(self.node, "dim") or ())) or list(range(rank))

    @cached_property
    def factor(self) -> float:
        """1 over the number of values for a mean, 1 for a sum."""
        if not self.node.name().startswith("Mean"):
            return 1.0
        return 1 / math.prod(self.inputs[0].shape[axis] for axis in self.axes)

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:  # noqa: D102
        rows = cotangents[0].product()
        if not saved(self.node, "keepdim"):
            for axis in self.axes:
                rows = rows.unsqueeze(axis + 1)
        return [Vectors(rows * self.factor, self.inputs[0].shape)]

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:  # noqa: D102
        ((_, tangent),) = tangents.items()
        rows = tangent.product()
        axes = [axis + 1 for axis in self.axes]
        sizes = [-1] * rows.dim()
        for axis in axes:
            sizes[axis] = self.inputs[0].shape[axis - 1]
        rows = rows.expand(*sizes).sum(axes, keepdim=saved(self.node, "keepdim"))
        return {0: Vectors(rows * self.factor, self.shape)}


class Selected(Derivative):
    """Some values along an axis: an index, a slice, or the pieces of a split."""

    @cached_property
    def axis(self) -> int:
        """The axis, of the input."""
        (axis,) = signed([saved(self.node, "dim")])
        return axis % len(self.inputs[0].shape)

    def places(self, number: int) -> slice | int:
        """What the output of that number holds of the axis."""
        node, name = self.node, self.node.name()
        size = self.inputs[0].shape[self.axis]
        if name == "SelectBackward0":
            (index,) = signed([saved(node, "index")])
            return int(index % size)
        if name == "SliceBackward0":
            start, end = (saved(node, side) for side in ("start", "end"))
            first, last = (None if side is None else signed([side])[0] for side in (start, end))
            return slice(first, last, saved(node, "step"))
        if name == "SplitBackward0":
            length = saved(node, "split_size")
            return slice(number * length, min(size, (number + 1) * length))
        lengths = signed(saved(node, "split_sizes"))
        return slice(sum(lengths[:number]), sum(lengths[: number + 1]))

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:  # noqa: D102
        shape, axis = self.inputs[0].shape, self.axis
        whole = None
        for number, cotangent in cotangents.items():
            rows = cotangent.samples() if axis else cotangent.dense()
            places = self.places(number)
            if isinstance(places, int):
                rows, places = rows.unsqueeze(axis + 1), slice(places, places + 1)
            start, end, step = places.indices(shape[axis])
            if whole is None:
                sizes = list(rows.shape)
                sizes[axis + 1] = shape[axis]
                whole = rows.new_zeros(sizes)
            whole = torch.slice_scatter(whole, rows, axis + 1, start, end, step)
        return [None if whole is None else Vectors(whole, shape)]

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:  # noqa: D102
        ((_, tangent),) = tangents.items()
        rows = tangent.product()
        sizes = [-1] * rows.dim()
        sizes[self.axis + 1] = self.inputs[0].shape[self.axis]
        rows = rows.expand(*sizes)
        every = (slice(None),) * (self.axis + 1)
        return {
            number: Vectors(rows[every + (self.places(number),)], tuple(metadata.shape))  # noqa: RUF005
            for number, metadata in enumerate(metadata_of(self.node))
        }


class Recorded(Derivative):
    """Any other operation, by the formula of its derivative that autograd recorded."""

    def transposed(self, cotangents: Mapping[int, Vectors]) -> list[Vectors | None]:  # noqa: D102
        stacks = {number: vectors.dense() for number, vectors in cotangents.items()}
        zero: set[int] = set()

        def backwards(*one: Tensor) -> list[Tensor]:
            found = _gradients(self.node, dict(zip(stacks, one, strict=True)))
            zero.update(i.slot for i in self.inputs if found[i.slot] is None)
            return [g for i in self.inputs if (g := found[i.slot]) is not None]

        found = iter(torch.vmap(backwards)(*stacks.values()))
        return [
            None if i.slot in zero else Vectors(_summed_to(next(found), i.shape), i.shape)
            for i in self.inputs
        ]

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:
        """By transposing twice: J'c is linear in c, so that its own transpose is J."""
        with torch.enable_grad():
            outputs = list(enumerate(metadata_of(self.node)))
            like = metadata_of(self.node)[0].device
            free = {
                number: torch.zeros(
                    tuple(meta.shape), dtype=meta.dtype, device=like, requires_grad=True
                )
                for number, meta in outputs
                if meta.dtype.is_floating_point
            }
            found = _gradients(self.node, free)
            back, stacks = [], []
            for i in self.inputs:
                gradient = found[i.slot]
                if i.slot in tangents and gradient is not None and gradient.requires_grad:
                    back.append(_summed_to(gradient[None], i.shape)[0])
                    stacks.append(tangents[i.slot].dense().to(gradient.dtype))
        if not back:
            return {}
        made = torch.autograd.grad(
            back,
            list(free.values()),
            stacks,
            is_grads_batched=True,
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
        return {
            number: Vectors(stack, tuple(free[number].shape))
            for number, stack in zip(free, made, strict=True)
            if stack is not None
        }


class Resampled(Recorded):
    """A pooling, padding or enlarging of every channel's positions by itself."""

    def pushed(self, tangents: Mapping[int, Vectors]) -> dict[int, Vectors]:
        """For a tangent that is equal over positions, without looking at single images.

        A maximum of equal numbers is that number, whichever place won it; so is their mean, a copy
        and what lies linearly between them. Only places that pad with zeros differ.
        """
        name, (tangent,) = self.node.name(), tangents.values()
        if tangent.gate is None and math.prod(tangent.rows.shape[3:]) == 1:
            if name in MAX_POOLS or CHANNELWISE_LINEAR.get(name) == "keeps":
                return {0: Vectors(tangent.rows, self.shape)}
        fixed = _fixed_map(self.node, self.inputs[0].shape)
        if fixed is None:
            return super().pushed(tangents)
        stack = tangent.samples()
        made = fixed(stack.flatten(0, 1))
        return {0: Vectors(split_axis(made, 0, stack.shape[:2]), self.shape)}


def derivative_of(node: Node, inputs: Sequence[Input]) -> Derivative:
    """What is known of a recorded operation, as far as the inputs that vary allow."""
    name, shape = node.name(), shape_of(node, 0)
    slots = [i.slot for i in inputs]
    kind: type[Derivative] = Recorded
    if name in ORDER_PRESERVING:
        kind = Reshape
    elif name in ELEMENTWISE or (name in BATCH_NORM and not saved(node, "training")):
        kind = Elementwise if all(i.shape == shape for i in inputs) else Recorded
    elif name in LINEAR_INPUT and slots == [LINEAR_INPUT[name]]:
        kind = Convolved if name == "ConvolutionBackward0" else Multiplied
    elif name in SUMS:
        kind = Summed
    elif name in SELECTIONS:
        kind = Selected
    elif name in MAX_POOLS or name in CHANNELWISE_LINEAR:
        ((_, channels, *_),) = [(*i.shape, 0, 0) for i in inputs]
        for known in (pools_each_channel, moves_positions_only):
            kind = Resampled if known(node, inputs[0].shape, channels) else kind
    return kind(node, inputs)


def can_be_called(node: Node) -> bool:
    """Whether the node's formula can be asked outside a backward pass: one of torch's own."""
    return not isinstance(node, BackwardCFunction) and not node.name().startswith("torch::")


def ones_of(node: Node, number: int = 0) -> Tensor:
    """Ones in the shape of one of the node's outputs."""
    metadata = metadata_of(node)[number]
    return torch.ones(tuple(metadata.shape), dtype=metadata.dtype, device=metadata.device)


def cropped(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """The first positions along the last axes."""
    for axis, size in enumerate(sizes, values.dim() - len(sizes)):
        values = values if values.shape[axis] == size else values.narrow(axis, 0, size)
    return values


def _gradients(node: Node, cotangents: Mapping[int, Tensor]) -> tuple[Tensor | None, ...]:
    """The node's own formula: cotangents by number of the output -> one per input."""
    outputs = [cotangents.get(number) for number in range(len(metadata_of(node)))]
    found = node(*outputs)  # type: ignore[operator]
    return found if isinstance(found, tuple) else (found,)


def _summed_to(stack: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Added up along the axes that the operation had broadcast, (T, ...) -> (T, *shape)."""
    if tuple(stack.shape[1:]) == shape:
        return stack
    while stack.dim() > len(shape) + 1:
        stack = stack.sum(1)
    axes = [axis for axis, n in enumerate(shape, 1) if n == 1 < stack.shape[axis]]
    return stack.sum(axes, keepdim=True) if axes else stack


def _laid_out(slope: Tensor) -> Tensor:
    """In the order of memory that ``merged`` gives to the rows that it will multiply."""
    if slope.dim() == 4 and slope.device.type == "cpu":
        return slope.contiguous(memory_format=torch.channels_last)
    return slope


def _times(stack: Tensor, matrix: Tensor) -> Tensor:
    """(T, B, F) @ (F, H), as one product."""
    flat = stack.reshape(-1, stack.shape[-1]).to(matrix.dtype)
    return split_axis((flat @ matrix), 0, stack.shape[:-1])


def _fixed_map(node: Node, input_shape: tuple[int, ...]) -> Callable[[Tensor], Tensor] | None:
    """The operation itself where it is linear, and so its own derivative."""
    if node.name() == "ConstantPadNdBackward0":
        sides = signed(saved(node, "pad"))
        return lambda x: F.pad(x, sides)
    if node.name().startswith("AvgPool"):
        return average_pool(node)
    return None
