"""Changing the size of images (antialiased bilinear) and of masks (exact area, never bilinear)."""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

ImageSize: TypeAlias = int | tuple[int, int] | None
"""(h, w), one number for a square, or None to leave the size alone."""


def height_width(size: ImageSize, argument: str = "image_size") -> tuple[int, int] | None:
    """Return ``size`` as (h, w), or None.

    Raises:
        ValueError: naming ``argument``, when a side is not a positive whole number.
    """
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(not isinstance(side, int) or side < 1 for side in sides):
        raise ValueError(f"{argument} is {size!r}; wanted a positive int, (height, width) or None")
    return sides[0], sides[1]


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
        mask: (H, W) bool.
        size: (h, w), one number for a square, or None for no change.

    Returns:
        (h, w) bool, on the mask's device.

    Raises:
        TypeError: when the mask is not boolean.
        ValueError: when it is not two-dimensional.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"mask has dtype {mask.dtype}; wanted torch.bool, as in mask > 0.5")
    if mask.dim() != 2:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; wanted (H, W)")
    target = height_width(size, "size")
    if target is None or target == tuple(mask.shape):
        return mask
    rows = _area_weights(mask.shape[0], target[0]).to(mask.device)
    columns = _area_weights(mask.shape[1], target[1]).to(mask.device)
    covered = rows @ mask.to(torch.float64) @ columns.T
    return covered >= 0.5 - 1e-9


def _area_weights(size: int, resized: int) -> Tensor:
    """(resized, size) float64: the share of each old cell in each new one; rows sum to 1."""
    edges = torch.arange(resized + 1, dtype=torch.float64) * size / resized
    cells = torch.arange(size, dtype=torch.float64)
    upper = torch.minimum(edges[1:, None], cells + 1)
    lower = torch.maximum(edges[:-1, None], cells)
    return (upper - lower).clamp(min=0) * resized / size
