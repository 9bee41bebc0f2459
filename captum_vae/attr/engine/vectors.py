"""Many vectors at one value of a recorded graph, stored without what is equal in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Vectors:
    """T cotangents or tangents of one value: ``rows * gate``, broadcast to (T, *shape).

    The row of a Linear is the same for every image, and the gradient of a mean the same at every
    position; such an axis has size 1 here until an operation makes a difference along it.

    Attributes:
        rows: (T, *shape), with axes of size 1 along which all numbers are equal.
        shape: Shape of the value.
        gate: What multiplies all rows alike, (*shape) with axes of size 1 where it is equal, while
            it is kept apart from rows that are equal over positions; else None.
        own: Whether nobody else holds the rows, so that they may be overwritten.
    """

    rows: Tensor
    shape: tuple[int, ...]
    gate: Tensor | None = None
    own: bool = False

    def __len__(self) -> int:
        """The number of vectors, T."""
        return len(self.rows)

    def product(self) -> Tensor:
        """Rows times gate, (T, *shape) with axes of size 1."""
        return self.rows if self.gate is None else self.rows * self.gate

    def dense(self) -> Tensor:
        """All numbers, (T, *shape)."""
        return self.product().expand(len(self.rows), *self.shape)

    def samples(self) -> Tensor:
        """All numbers of one sample or of every one, (T, 1 or B, *shape[1:])."""
        product = self.product()
        return product.expand(*product.shape[:2], *self.shape[1:])

    @property
    def same_everywhere(self) -> bool:
        """Whether rows (T, b, C, *positions) are equal over all positions, of which there are."""
        return math.prod(self.shape[2:]) > 1 and math.prod(self.rows.shape[3:]) == 1

    def scaled(self, factor: Tensor | float) -> Vectors:
        """Times a number, or a tensor that broadcasts to the value's shape."""
        if isinstance(factor, Tensor) and self.same_everywhere:
            if math.prod(factor.shape[2:]) > 1:
                gate = factor if self.gate is None else self.gate * factor
                return Vectors(self.rows, self.shape, gate)
            return Vectors(self.rows * factor, self.shape, self.gate)
        if not isinstance(factor, Tensor):
            return self if factor == 1 else Vectors(self.rows * factor, self.shape, self.gate)
        if self.own and not torch.is_grad_enabled() and self.rows.shape[1:] == factor.shape:
            return Vectors(self.rows.mul_(factor), self.shape, own=True)  # a fresh one costs more
        return Vectors(self.product() * factor, self.shape)

    def reshaped(self, shape: Sequence[int]) -> Vectors:
        """The same numbers, in their order, as vectors of another shape."""
        shape = tuple(shape)
        if shape == self.shape:
            return self
        rows = self.product()
        if (
            self.shape and rows.shape[1] != self.shape[0] and self.shape[:1] == shape[:1]
        ):  # equal for all samples
            rows = rows.expand(len(rows), 1, *self.shape[1:])
            return Vectors(rows.reshape(len(rows), 1, *shape[1:]), shape)
        return Vectors(self.dense().reshape(len(rows), *shape), shape)

    def to(self, dtype: torch.dtype) -> Vectors:
        """The same numbers in a dtype."""
        if self.rows.dtype == dtype and (self.gate is None or self.gate.dtype == dtype):
            return self
        gate = None if self.gate is None else self.gate.to(dtype)
        return Vectors(self.rows.to(dtype), self.shape, gate)

    def __add__(self, other: Vectors) -> Vectors:
        """The sum, vector by vector."""
        return Vectors(self.product() + other.product(), self.shape)


def split_axis(values: Tensor, axis: int, sizes: Sequence[int]) -> Tensor:
    """One axis made several, of which one size may be -1."""
    split: Tensor = values.unflatten(axis, tuple(sizes))  # type: ignore[no-untyped-call]
    return split


def merged(stack: Tensor) -> Tensor:
    """(T, B, ...) -> (T * B, ...), in the order of memory in which convolutions are fastest."""
    samples = stack.flatten(0, 1)
    if samples.dim() == 4 and samples.device.type == "cpu":
        return samples.contiguous(memory_format=torch.channels_last)
    return samples
