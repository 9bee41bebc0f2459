"""A convolution as a linear map: applied, transposed, and applied to every channel by itself.

With y[o, q] = sum over k and r of W[o, k, r] A[k, s q + r - c], and u[k] a pattern over positions,

    z[k, o, q] = sum over r of W[o, k, r] u[k, s q + r - c]

is what channel k alone makes of u[k]. For u = 1 that is the kernel summed over the positions that
exist: all of them inside, fewer at a border where padding is read. It costs one convolution of one
image whose channels are not added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node

from captum_vae.attr.engine.operations import saved
from captum_vae.attr.engine.vectors import split_axis


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
        sides = [side for padding in reversed(self.padding) for side in (padding, padding)]
        patches = F.pad(u, sides)
        for axis, (side, stride, dilation) in enumerate(
            zip(self.kernel, self.stride, self.dilation, strict=True), start=2
        ):
            patches = patches.unfold(axis, dilation * (side - 1) + 1, stride)[..., ::dilation]
        places = patches.shape[2 : 2 + len(self.stride)]
        columns = patches.flatten(2 + len(self.stride)).flatten(2, -2)  # (B, K, Q, kernel)
        made = columns @ each.flatten(2).mT  # (B, K, Q, O)
        return split_axis(made, 2, places).movedim(-1, 2)[:, None]


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
