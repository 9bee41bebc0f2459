"""The last transposed convolution of a decoder of grey images, as one matrix product."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def doubles_to_grey(layer: nn.Module) -> bool:
    """Whether a layer is a transposed convolution that :class:`DoubledToGrey` computes."""
    return (
        isinstance(layer, nn.ConvTranspose2d)
        and layer.out_channels == layer.groups == 1
        and layer.kernel_size == (4, 4)
        and layer.stride == (2, 2)
        and layer.padding == (1, 1)
        and layer.output_padding == (0, 0)
        and layer.dilation == (1, 1)
    )


class DoubledToGrey(torch.autograd.Function):
    """A transposed convolution to one channel with kernel 4, stride 2, padding 1, without bias.

    PyTorch's takes as long as one to 32 channels. Here every input pixel times the kernel, 16
    numbers, is one matrix product, and what falls on the same output pixel is added: output row 2i
    gets kernel row 1 of input row i and kernel row 3 of input row i - 1; output row 2i + 1 gets
    kernel row 2 of i and kernel row 0 of i + 1; columns alike. It can be differentiated once.
    ``apply(x, weight)`` takes x (B, C, h, w) and the weight (C, 1, 4, 4) and gives (B, 1, 2h, 2w).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply, and add rows, then columns."""
        ctx.save_for_backward(x, weight)
        images, channels, height, width = x.shape
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        # (kernel row, kernel column, B, h, w)
        products = (weight.reshape(channels, 16).mT @ pixels.mT).view(4, 4, images, height, width)
        rows = products.new_empty(4, images, height, 2, width)
        rows[:, :, :, 0] = products[1]
        rows[:, :, 1:, 0] += products[3][:, :, :-1]
        rows[:, :, :, 1] = products[2]
        rows[:, :, :-1, 1] += products[0][:, :, 1:]
        rows = rows.view(4, images, 2 * height, width)
        doubled = rows.new_empty(images, 2 * height, width, 2)
        doubled[..., 0] = rows[1]
        doubled[:, :, 1:, 0] += rows[3][:, :, :-1]
        doubled[..., 1] = rows[2]
        doubled[:, :, :-1, 1] += rows[0][:, :, 1:]
        return doubled.view(images, 1, 2 * height, 2 * width)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The 4x4 output pixels that an input pixel reaches, times the kernel and the input."""
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        images, channels, height, width = x.shape
        padded = F.pad(gradient, (1, 1, 1, 1)).squeeze(1)
        image, row, column = padded.stride()
        reached = padded.as_strided(
            (4, 4, images, height, width), (row, column, image, 2 * row, 2 * column)
        ).reshape(16, -1)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        to_input = (reached.mT @ weight.reshape(channels, 16).mT).view(
            images, height, width, channels
        )
        return to_input.permute(0, 3, 1, 2), (reached @ pixels).mT.reshape(weight.shape)
