"""From attention values to colours over a grey image, always under a stated scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

COLORMAP = "inferno"
"""Perceptually uniform and legible in grey: its lightness grows with the value."""

FAINTEST, STRONGEST = 0.35, 0.95
"""How much of the colour covers the image at the low and the high end of the scale."""


@dataclass(frozen=True)
class ColorScale:
    """The values that get the first and the last colour.

    Raises:
        ValueError: ``high`` lies below ``low``, or one is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the ends."""
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low <= self.high):
            raise ValueError(f"a colour scale from {self.low} to {self.high}; wanted low <= high")

    @classmethod
    def of(cls, maps: Sequence[Tensor], *, low: float | None = None) -> ColorScale:
        """From the smallest (or ``low``) to the largest value of all ``maps``.

        Raises:
            ValueError: no maps, or a value that is not finite.
        """
        if not maps:
            raise ValueError("maps is empty; a colour scale needs at least one map")
        values = torch.cat([m.detach().flatten().double().cpu() for m in maps])
        return cls(float(values.min()) if low is None else low, float(values.max()))

    def position(self, values: Tensor) -> Tensor:
        """Where ``values`` lie on the scale, clamped to [0, 1]; 0 on a scale of no length."""
        length = self.high - self.low
        if length == 0:
            return torch.zeros_like(values)
        return ((values - self.low) / length).clamp(0, 1)


def overlay(
    image: Tensor, attention: Tensor, scale: ColorScale, *, colormap: str = COLORMAP
) -> NDArray[np.float64]:
    """Colour an image by its attention; the larger the value, the more colour covers it.

    Args:
        image: (C, H, W) or (H, W) in [0, 1]; shown in grey.
        attention: (H, W), on the image's grid.
        scale: the values of the first and the last colour.
        colormap: a matplotlib name.

    Returns:
        (H, W, 3) RGB in [0, 1].

    Raises:
        ValueError: the sizes differ.
    """
    grey = grey_image(image)
    if tuple(attention.shape) != grey.shape:
        raise ValueError(
            f"attention has shape {tuple(attention.shape)}, the image {grey.shape}; resize the "
            "map first: attribute(..., size='input')"
        )
    position = scale.position(attention.detach().double().cpu()).numpy()
    return _blend(grey, position, colormap)


def bar_colors(colormap: str = COLORMAP, *, background: float = 0.0) -> NDArray[np.float64]:
    """The colours of a scale as :func:`overlay` shows them over one shade, (256, 3) RGB."""
    position = np.linspace(0, 1, 256)
    return _blend(np.full(256, background), position, colormap)


def grey_image(image: Tensor) -> NDArray[np.float64]:
    """(H, W) luminance in [0, 1] of an image (C, H, W) or (H, W)."""
    plane = image.detach().double().cpu()
    plane = plane.mean(0) if plane.dim() == 3 else plane
    return cast("NDArray[np.float64]", plane.clamp(0, 1).numpy())


def _blend(
    grey: NDArray[np.float64], position: NDArray[np.float64], colormap: str
) -> NDArray[np.float64]:
    colors: Any = matplotlib.colormaps[colormap](position)[..., :3]
    # The root keeps the middle of the scale true to the colour bar over bright strokes too.
    cover = (FAINTEST + (STRONGEST - FAINTEST) * np.sqrt(position))[..., None]
    blended: NDArray[np.float64] = cover * colors + (1 - cover) * grey[..., None]
    return blended
