"""What consumes the features, in closed form: convolutions, Linears, and sums with a side branch.

Let a region map channel k by itself, and u[b, k, p] = sum over p' of d region[b, k, p] / d
A[b, k, p'] be what "one everywhere in channel k" becomes behind it: 1 where features are consumed
as they are, a slope or a mask behind an activation. A consumer y, linear in the region's value,
makes of it the tangent

    z[b, k, o, q] = d y[b, o, q] / d "one everywhere in channel k"

which for a convolution is its kernel summed over positions, under u (see ``Convolution``). With
g[b, t, o, q] = d codes[b, t] / d y[b, o, q], taken with all that happens behind y,

    alpha[b, t, k] = (1/P) sum over consumers y, o and q of g[b, t, o, q] z[b, k, o, q]

Cotangents thus stop at the consumers' outputs: the largest tensors, with a number for every code
and every position of the features, are never made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from captum_vae.attr.engine.convolution import convolution_of
from captum_vae.attr.engine.derivatives import Input, Multiplied, cropped, derivative_of
from captum_vae.attr.engine.operations import LINEAR_INPUT, shape_of
from captum_vae.attr.engine.propagation import Edge, Propagation
from captum_vae.attr.engine.region import Exit, Region
from captum_vae.attr.engine.vectors import Vectors, merged, split_axis
from captum_vae.posterior.read_back import is_traced


class Consumers:
    """The exits of a region, with what "one everywhere in channel k" becomes at each.

    Args:
        region: What lies between the features and the exits.
        features: (B, K, *spatial).
        dtype: In which weights are computed.
        most: Number of values that may be kept for one consumer.
    """

    def __init__(self, region: Region, features: Tensor, dtype: torch.dtype, most: int) -> None:
        """Send ones through the region."""
        path, (_, channels, *spatial) = region.path, features.shape
        outside = set(path.nodes) - region.members
        ones = torch.ones(
            1, 1, channels, *[1] * len(spatial), dtype=features.dtype, device=features.device
        )
        start = {path.source: Vectors(ones, tuple(features.shape))}
        sources = {exit_.source for exit_ in region.exits}
        found = Propagation(path, outside).tangents(start, sources)
        self.parts = [
            _consumer(exit_, found[exit_.source], channels, dtype, most)
            for exit_ in region.exits
            if exit_.source in found
        ]

    @property
    def edges(self) -> set[Edge]:
        """The consumers' outputs."""
        return {part.edge for part in self.parts}

    def weights(self, cotangents: Mapping[Edge, Vectors]) -> Tensor:
        """Alpha times the number of positions, (1 or B, T, K), of cotangents at the outputs."""
        terms = [
            part.weights(cotangents[part.edge]) for part in self.parts if part.edge in cotangents
        ]
        return sum(terms[1:], terms[0])

    def tangents(self, channels: slice) -> dict[Edge, Vectors]:
        """Tangents of "one everywhere in channel k" at the outputs, for some channels."""
        found: dict[Edge, Vectors] = {}
        for part in self.parts:
            vectors = part.tangents(channels)
            found[part.edge] = found[part.edge] + vectors if part.edge in found else vectors
        return found


class Consumer:
    """One exit, linear in the region's value.

    Args:
        exit_: The operation.
        u: What "one everywhere in channel k" becomes at its input, (1 or B, K, *positions).
        dtype: In which weights are computed.
        most: Number of values of z that may be kept.
    """

    def __init__(self, exit_: Exit, u: Tensor, dtype: torch.dtype, most: int) -> None:
        """Compute nothing yet."""
        self.node, self.u, self.dtype, self.most = exit_.node, u, dtype, most
        self.given = Input(exit_.slot, exit_.source, exit_.shape, dtype)
        self.shape = shape_of(exit_.node, 0)

    @property
    def edge(self) -> Edge:
        """The output."""
        return self.node, 0

    def weights(self, cotangents: Vectors) -> Tensor:
        """Sum over o and q of g z, (1 or B, T, K)."""
        raise NotImplementedError

    def tangents(self, channels: slice) -> Vectors:
        """The rows z of some channels, in the dtype of the output."""
        raise NotImplementedError


class ConvolutionConsumer(Consumer):
    """A convolution or a transposed one."""

    def __init__(self, exit_: Exit, u: Tensor, dtype: torch.dtype, most: int) -> None:
        """Take its weight in the dtype wanted."""
        super().__init__(exit_, u, dtype, most)
        self.convolution = convolution_of(exit_.node).to(dtype)

    def weights(self, cotangents: Vectors) -> Tensor:  # noqa: D102
        if cotangents.same_everywhere:
            return self._of_one_row_per_channel(cotangents)
        if not self._pays(len(cotangents)):
            return self._of_whole_gradients(cotangents)
        stack = cotangents.samples().to(self.dtype).transpose(0, 1)  # (b, T, O, *positions)
        found = []
        if _outputs_innermost(stack) and self._is_kept and not is_traced():
            # Once, where every chunk of dimensions would copy z into this order again.
            self._z = self._z.permute(0, 1, 2, 4, 5, 3).contiguous().permute(0, 1, 2, 5, 3, 4)
        for images, z in self._blocks():
            found.append(_contracted(_images(stack, images), z))
        return found[0] if len(found) == 1 else torch.cat(found)

    def tangents(self, channels: slice) -> Vectors:  # noqa: D102
        z = self.convolution.of_each_channel(self.u, channels)  # (b, g, K/g, O/g, *positions)
        groups, each = z.shape[1], range(*channels.indices(self.u.shape[1]))
        if groups == 1:
            rows = z.squeeze(1).transpose(0, 1)
        else:
            wide = z.new_zeros(z.shape[2], groups, len(z), groups, *z.shape[3:])
            for group in range(groups):
                wide[:, group, :, group] = z[:, group].transpose(0, 1)
            rows = wide.transpose(0, 1).flatten(0, 1).flatten(2, 3)[each.start : each.stop]
        return Vectors(rows, self.shape)

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Give z, some images at a time unless it may be kept."""
        if self._is_kept:
            yield slice(None), self._z
            return
        step = max(1, self.most // max(1, self._size))
        for start in range(0, len(self.u), step):
            images = slice(start, start + step)
            yield images, self.convolution.of_each_channel(self.u[images])

    @property
    def _is_kept(self) -> bool:
        """Whether z of all images is kept for every chunk of vectors."""
        return len(self.u) == 1 or self.most >= len(self.u) * self._size or is_traced()

    @cached_property
    def _z(self) -> Tensor:
        return self.convolution.of_each_channel(self.u)

    @property
    def _size(self) -> int:
        """Number of values of one image's z."""
        channels = self.u.shape[1] // self.convolution.groups
        return channels * math.prod(self.shape[1:])

    def _pays(self, vectors: int) -> bool:
        """Whether T kernels' work is more than that of T products and of one kernel per image."""
        kernel = math.prod(self.convolution.kernel)
        return len(self.u) == 1 or vectors * (kernel - 1) > 3 * kernel

    def _of_one_row_per_channel(self, cotangents: Vectors) -> Tensor:
        """Cotangents l[t, o] m[b, o, q]: the sum over q of m z comes first, once for all T."""
        rows = cotangents.rows.flatten(2).to(self.dtype).transpose(0, 1)  # (b, T, O)
        mask = cotangents.gate
        if mask is None:
            mask = rows.new_ones(1, *self.shape[1:])
        mask = mask.to(self.dtype).expand(len(mask), *self.shape[1:])
        found = []
        for images, z in self._blocks():
            some, own = _images(mask, images), _images(rows, images)
            some = split_axis(some, 1, (z.shape[1], -1)).flatten(3)[:, :, None]  # (b, g, 1, O/g, Q)
            mixed = (some * z.flatten(4)).sum(4)  # (b, g, K/g, O/g)
            own = split_axis(own, 2, (z.shape[1], -1)).transpose(1, 2)  # (b, g, T, O/g)
            found.append((own @ mixed.mT).transpose(1, 2).flatten(2))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _of_whole_gradients(self, cotangents: Vectors) -> Tensor:
        """The plain way, where it is less work: the input's gradient times u, over positions."""
        stack, sizes = cotangents.samples(), self.u.shape[2:]
        back = self.convolution.transpose(sizes, self.shape[2:])
        whole = split_axis(cropped(back(merged(stack.to(self.dtype))), sizes), 0, stack.shape[:2])
        return (whole * self.u).flatten(3).sum(3).transpose(0, 1)


class LinearConsumer(Consumer):
    """A Linear over all of a sample's values."""

    @cached_property
    def _z(self) -> Tensor:
        """(1 or B, K, H)."""
        matrix = Multiplied(self.node, [self.given]).matrix.to(self.dtype)
        u = self.u.reshape(*self.u.shape[:2], -1)
        product = u.transpose(0, 1) @ split_axis(matrix, 0, (u.shape[1], -1))
        return product.transpose(0, 1)

    def weights(self, cotangents: Vectors) -> Tensor:  # noqa: D102
        return cotangents.samples().to(self.dtype).transpose(0, 1) @ self._z.mT

    def tangents(self, channels: slice) -> Vectors:  # noqa: D102
        return Vectors(self._z[:, channels].transpose(0, 1), self.shape)


class MixedConsumer(Consumer):
    """An elementwise operation on the region's value and another one, as a residual sum."""

    @cached_property
    def _z(self) -> Tensor:
        """(1 or B, K, P), the slope where output and channel are the same."""
        given = self.given
        ones = Vectors(self.u.reshape(len(self.u), *given.shape[1:])[None], given.shape)
        made = derivative_of(self.node, [given]).pushed({given.slot: ones})[0].samples()[0]
        return made.to(self.dtype).reshape(len(made), self.u.shape[1], -1)

    def weights(self, cotangents: Vectors) -> Tensor:  # noqa: D102
        stack = cotangents.samples().to(self.dtype)
        stack = stack.reshape(*stack.shape[:2], self.u.shape[1], -1)
        return (stack * self._z).sum(3).transpose(0, 1)

    def tangents(self, channels: slice) -> Vectors:  # noqa: D102
        z = self._z
        own = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[channels]
        rows = own[:, None, :, None] * z
        return Vectors(rows.reshape(*rows.shape[:2], *self.shape[1:]), self.shape)


def _consumer(exit_: Exit, ones: Vectors, channels: int, dtype: torch.dtype, most: int) -> Consumer:
    u = ones.samples()[0]
    u = u.reshape(len(u), channels, -1) if u.shape[1] != channels else u
    kind: type[Consumer] = MixedConsumer
    if exit_.node.name() in LINEAR_INPUT:
        is_convolution = exit_.node.name() == "ConvolutionBackward0"
        kind = ConvolutionConsumer if is_convolution else LinearConsumer
    return kind(exit_, u.to(dtype), dtype, most)


def _images(values: Tensor, images: slice) -> Tensor:
    """Some images of values that hold one for all, or every one."""
    return values if len(values) == 1 or images == slice(None) else values[images]


def _contracted(cotangents: Tensor, z: Tensor) -> Tensor:
    """Sum over o and q: (b, T, O, *Q) and (b, g, K/g, O/g, *Q) -> (b, T, K)."""
    groups, axes = z.shape[1], range(3, cotangents.dim())
    if groups > 1:
        some = split_axis(cotangents, 2, (groups, -1)).flatten(4)
        return torch.einsum("btgoq,bgkoq->btgk", some, z.flatten(4)).flatten(2)
    z = z.squeeze(1)
    if _outputs_innermost(cotangents):
        order = (0, 1, *axes, 2)
        cotangents, z = cotangents.permute(order), z.permute(order)
    cotangents, z = cotangents.flatten(2), z.flatten(2)
    if len(z) == 1 and len(cotangents) > 1:
        flat = cotangents.transpose(0, 1).flatten(0, 1) @ z.squeeze(0).mT
        return split_axis(flat, 0, (cotangents.shape[1], -1)).transpose(0, 1)
    product: Tensor = _Contraction.apply(cotangents, z)
    return product


def _outputs_innermost(cotangents: Tensor) -> bool:
    """Whether (b, T, O, h, w) hold the values of one place side by side."""
    return cotangents.dim() == 5 and cotangents.stride(2) == 1


class _Contraction(torch.autograd.Function):
    """The product g @ z.mT, (b, T, N) and (b, K, N) -> (b, T, K).

    Its gradients keep the order of g and z.
    """

    @staticmethod
    def forward(ctx: Any, cotangents: Tensor, z: Tensor) -> Tensor:
        """Remember both."""
        ctx.save_for_backward(cotangents, z)
        return cotangents @ z.mT

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Two products, where autograd's own would give the gradient of z transposed."""
        cotangents, z = ctx.saved_tensors
        first, second = ctx.needs_input_grad
        return (
            _by_rows(gradient, z).sum_to_size(cotangents.shape) if first else None,
            (gradient.mT @ cotangents).sum_to_size(z.shape) if second else None,
        )


def _by_rows(weights: Tensor, z: Tensor) -> Tensor:
    """(b, T, K) @ (b, K, N), with the vectors outermost in memory, as they are passed on."""
    if torch.is_grad_enabled() or weights.is_cuda or is_traced():
        return weights @ z
    made = z.new_empty(weights.shape[1], len(weights), z.shape[2]).transpose(0, 1)
    return torch.bmm(weights, z.expand(len(weights), -1, -1), out=made)
