"""A convolution as a linear map: applied, transposed, and applied to every channel by itself.

With y[o, q] = sum over k and r of W[o, k, r] A[k, s q + r - c], and u[k] a pattern over positions,

    z[k, o, q] = sum over r of W[o, k, r] u[k, s q + r - c]

is what channel k alone makes of u[k]. For u = 1 that is the kernel summed over the positions that
exist: all of them inside, fewer at a border where padding is read. It costs one convolution of one
image whose channels are not added up. For many inputs A[t] = l[t, k] u[k] that differ in a number
per channel alone, y[t] = sum over k of l[t, k] z[k]: the kernel is applied once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node

from captum_vae.attr.engine.operations import saved
from captum_vae.attr.engine.vectors import split_axis

_VALUES_AT_ONCE, _PLACES_AT_ONCE = 2**20, 64


@dataclass(frozen=True)
class Convolution:
    """The linear part of a convolution or of a transposed one, of one, two or three axes.

    Attributes:
        weight: (O, K / groups, *kernel), or (K, O / groups, *kernel) when transposed, for K
            channels in and O out.
    """

    weight: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int

    def __call__(self, x: Tensor) -> Tensor:
        """(N, K, *positions) -> (N, O, *positions)."""
        return torch.convolution(
            x.to(self.weight.dtype),
            self.weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups,
        )

    @property
    def kernel(self) -> tuple[int, ...]:
        """Size of the kernel."""
        return tuple(self.weight.shape[2:])

    def transpose(self, inside: Sequence[int], outside: Sequence[int]) -> Convolution:
        """The transposed map, from outputs to inputs, which has the same weight.

        Args:
            inside: Sizes of the input's positions.
            outside: Sizes of the output's positions.
        """
        if self.transposed:
            return replace(self, transposed=False, output_padding=(0,) * len(self.stride))
        reached = [
            (size - 1) * stride - 2 * padding + dilation * (side - 1) + 1
            for size, stride, padding, dilation, side in zip(
                outside, self.stride, self.padding, self.dilation, self.kernel, strict=True
            )
        ]
        missing = tuple(i - r for i, r in zip(inside, reached, strict=True))
        return replace(self, transposed=True, output_padding=missing)

    def to(self, dtype: torch.dtype) -> Convolution:
        """The same map in another dtype."""
        return replace(self, weight=self.weight.to(dtype))

    def of_each_channel(self, u: Tensor, some: slice = slice(None)) -> Tensor:
        """What each input channel makes alone, (b, K, *positions) -> (b, g, K/g, O/g, *positions).

        Channels of a group reach that group's outputs only.

        Args:
            u: The pattern in each channel.
            some: The channels wanted; heeded where there is one group, else all are given.
        """
        if self.groups == 1 and some != slice(None):
            weight = self.weight[some] if self.transposed else self.weight[:, some]
            return replace(self, weight=weight).of_each_channel(u[:, some])
        batch, channels = u.shape[:2]
        u, groups = u.to(self.weight.dtype), self.groups
        if self.transposed:
            each = self.weight
        else:
            each = split_axis(self.weight, 0, (groups, -1)).transpose(1, 2).flatten(0, 1)
        each = each.contiguous()  # (K, O / groups, *kernel)
        if batch > 1 and not self.transposed and groups == 1 and u.device.type == "cpu":
            return self._by_products(u, each)
        weight = each if self.transposed else each.flatten(0, 1).unsqueeze(1)
        out = replace(self, weight=weight, groups=channels)(u)
        return out.reshape(batch, groups, channels // groups, each.shape[1], *out.shape[2:])

    def _by_products(self, u: Tensor, each: Tensor) -> Tensor:
        """The same by a matrix product per channel, outputs innermost: faster on a CPU."""
        columns, places = self._columns(u)
        made = columns @ each.flatten(2).mT  # (B, K, Q, O)
        return split_axis(made, 2, places).movedim(-1, 2)[:, None]

    def shares_one_kernel(self, rows: int) -> bool:
        """Whether :meth:`of_scaled_channels` costs less on a CPU than as many convolutions.

        A row then takes one multiplication for each channel, position and output, in place of as
        many as the kernel has places; less well filled products make it two. Applying the kernel
        once without adding up, a part of the result at a time, costs as much as seven rows'
        convolutions (measured at 3 x 3).
        """
        kernel = math.prod(self.kernel)
        single = self.groups == 1 and set(self.stride) == {1} and not any(self.output_padding)
        return single and kernel * rows > 2 * rows + 7 * kernel

    def of_scaled_channels(self, u: Tensor, scales: Tensor) -> Tensor:
        """The map of scales[t, b, k] u[b, k], for one group and strides of 1.

        Args:
            u: The pattern in each channel, (1 or B, K, *positions).
            scales: A number for each row and channel, (T, 1 or B, K).

        Returns:
            (T, 1 or B, O, *positions), channels innermost in memory.
        """
        u, scales = u.to(self.weight.dtype), scales.to(self.weight.dtype)
        flat = self.weight.flatten(2)
        each = flat.mT if self.transposed else flat.permute(1, 2, 0)  # (K, kernel, O)
        columns, places = self._columns(u)
        rows, channels, outputs = len(scales), u.shape[1], each.shape[2]
        size = math.prod(places)
        found = scales.new_zeros(rows, max(len(u), scales.shape[1]), size * outputs)
        # What is made of a channel alone stays in the processor's cache until it is added up.
        at_once = max(1, _VALUES_AT_ONCE // (min(size, _PLACES_AT_ONCE) * outputs))
        for image, some in enumerate(columns):
            of_image = slice(None) if len(columns) == 1 else image
            own = scales if scales.shape[1] == 1 else scales[:, of_image]
            own = own.reshape(-1, channels)
            for place in range(0, size, _PLACES_AT_ONCE):
                here = slice(place * outputs, (place + _PLACES_AT_ONCE) * outputs)
                into = found[:, of_image, here].view(len(own), -1)
                for channel in range(0, channels, at_once):
                    block = slice(channel, channel + at_once)
                    made = torch.bmm(some[block, place : place + _PLACES_AT_ONCE], each[block])
                    into.addmm_(own[:, block], made.flatten(1))
        return split_axis(found, 2, (*places, outputs)).movedim(-1, 2)

    def _columns(self, u: Tensor) -> tuple[Tensor, torch.Size]:
        """What the kernel meets at every place of a padded input, and how the places lie.

        A transposed map with strides of 1 is a plain one of the kernel read backwards.

        Returns:
            (B, K, Q, kernel) of an input (B, K, *positions), and the sizes whose product is Q.
        """
        axes = list(zip(self.kernel, self.stride, self.padding, self.dilation, strict=True))
        sides = [d * (k - 1) - p if self.transposed else p for k, _, p, d in axes]
        patches = F.pad(u, [side for one in reversed(sides) for side in (one, one)])
        for axis, (side, stride, _, dilation) in enumerate(axes, start=2):
            patches = patches.unfold(axis, dilation * (side - 1) + 1, stride)[..., ::dilation]
        places = patches.shape[2 : 2 + len(axes)]
        columns = patches.flatten(2 + len(axes)).flatten(2, -2)
        return columns.flip(-1) if self.transposed else columns, places


def convolution_of(node: Node) -> Convolution:
    """The convolution that a node recorded."""
    return Convolution(
        weight=saved(node, "weight"),
        stride=tuple(saved(node, "stride")),
        padding=tuple(saved(node, "padding")),
        dilation=tuple(saved(node, "dilation")),
        transposed=saved(node, "transposed"),
        output_padding=tuple(saved(node, "output_padding")),
        groups=saved(node, "groups"),
    )
