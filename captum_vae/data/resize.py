"""Changing the size of images (antialiased bilinear) and of masks (exact area, never bilinear)."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_vae.checks import whole_number

MOST_PIXELS = 2**16
"""The longest side that an image may be resized to."""

ImageSize: TypeAlias = int | tuple[int, int] | None
"""(h, w), one number for a square, or None to leave the size alone."""


def height_width(size: Any, argument: str = "image_size") -> tuple[int, int] | None:
    """``size`` as (h, w), or None.

    Args:
        size: (h, w), one number for a square, or None.
        argument: What the caller calls it, for the message.

    Raises:
        TypeError: It is neither, or a side is no whole number.
        ValueError: A side is not positive, or there are not two.
    """
    if size is None:
        return None
    hint = "wanted one number, (height, width) or None"
    if isinstance(size, str) or not isinstance(size, Sequence | np.ndarray | Tensor):
        side = whole_number(argument, size, least=1, most=MOST_PIXELS, hint=hint)
        return side, side
    sides = list(size)
    if len(sides) != 2:
        raise ValueError(f"{argument} is {size!r}; {hint}")
    height, width = (
        whole_number(argument, side, least=1, most=MOST_PIXELS, hint=hint) for side in sides
    )
    return height, width


def resize_image(image: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Resize a grey (h, w) or colour (h, w, 3) image to ``size`` = (h, w).

    Bilinear, with the triangle filter widened when shrinking so that fine texture does not alias.
    """
    if size is None or image.shape[:2] == size:
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def resize_mask(mask: Tensor, size: ImageSize) -> Tensor:
    """Resize a mask so that a pixel is anomalous when at least half of its area was.

    The covered area is computed exactly for any ratio, also when growing. Interpolating a mask
    bilinearly and truncating it to uint8, as published evaluations did, loses every pixel that is
    not wholly covered: a third of the anomalous area of UCSD's masks.

    Args:
        mask: (H, W) bool with at least one pixel.
        size: (h, w), one number for a square, or None for no change.

    Returns:
        (h, w) bool, on the mask's device.

    Raises:
        TypeError: The mask is no boolean tensor.
        ValueError: It is not two-dimensional, or has no pixel.
    """
    check_mask("mask", mask)
    target = height_width(size, "size")
    if target is None or target == tuple(mask.shape):
        return mask
    rows = _area_weights(mask.shape[0], target[0]).to(mask.device)
    columns = _area_weights(mask.shape[1], target[1]).to(mask.device)
    covered = rows @ mask.to(torch.float64) @ columns.T
    return covered >= 0.5 - 1e-9


def check_mask(argument: str, mask: Any) -> None:
    """Refuse anything but a boolean mask (H, W) with at least one pixel.

    Raises:
        TypeError: It is no boolean tensor.
        ValueError: It is not two-dimensional, or has no pixel.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{argument} is a {type(mask).__name__}; wanted a torch.bool tensor (H, W)")
    if mask.dtype != torch.bool:
        raise TypeError(f"{argument} has dtype {mask.dtype}; wanted torch.bool, as in mask > 0.5")
    if mask.dim() != 2 or not mask.numel():
        raise ValueError(f"{argument} has shape {tuple(mask.shape)}; wanted (H, W)")


@lru_cache(maxsize=8)
def _area_weights(size: int, resized: int) -> Tensor:
    """(resized, size) float64: the share of each old cell in each new one; rows sum to 1."""
    edges = torch.arange(resized + 1, dtype=torch.float64) * size / resized
    cells = torch.arange(size, dtype=torch.float64)
    upper = torch.minimum(edges[1:, None], cells + 1)
    lower = torch.maximum(edges[:-1, None], cells)
    return (upper - lower).clamp(min=0) * resized / size
