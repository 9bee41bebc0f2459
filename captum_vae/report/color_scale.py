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

from captum_vae.checks import real_number

COLORMAP = "inferno"
"""Perceptually uniform and legible in grey: its lightness grows with the value."""

FAINTEST, STRONGEST = 0.35, 0.95
"""How much of the colour covers the image at the low and the high end of the scale."""

BRIGHTEST = 0.6
"""White of the image under an overlay: the colours of high values stay lighter than any image."""


@dataclass(frozen=True)
class ColorScale:
    """The values that get the first and the last colour.

    Attributes:
        low: The value of the first colour.
        high: The value of the last colour.

    Raises:
        TypeError: An end is no number.
        ValueError: ``high`` lies below ``low``, or one is not finite.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the ends."""
        if not real_number("low", self.low) <= real_number("high", self.high):
            raise ValueError(f"a colour scale from {self.low} to {self.high}; wanted low <= high")

    @classmethod
    def of(cls, maps: Sequence[Tensor], *, low: float | None = None) -> ColorScale:
        """From the smallest (or ``low``) to the largest value of all ``maps``.

        Raises:
            TypeError: A map is no tensor.
            ValueError: There are no maps, or a value is not finite.
        """
        if len(maps) == 0:
            raise ValueError("maps is empty; a colour scale needs at least one map")
        for index, one in enumerate(maps):
            _check_map(f"maps[{index}]", one)
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
        image: (C, H, W) or (H, W) in [0, 1]; shown in grey, its white at ``BRIGHTEST``.
        attention: (H, W), on the image's grid.
        scale: The values of the first and the last colour.
        colormap: The name of a matplotlib colormap.

    Returns:
        (H, W, 3) RGB in [0, 1].

    Raises:
        TypeError: The image or the map is no tensor of real numbers, or the scale is none.
        ValueError: The sizes differ, the map holds NaN or infinite values, or the colormap is
            unknown.
    """
    grey = grey_image(image)
    _check_map("attention", attention)
    if not isinstance(scale, ColorScale):
        raise TypeError(f"scale is a {type(scale).__name__}; wanted a ColorScale")
    check_colormap(colormap)
    if tuple(attention.shape) != grey.shape:
        raise ValueError(
            f"attention has shape {tuple(attention.shape)}, the image {grey.shape}; resize the "
            "map first: attribute(..., size='input')"
        )
    position = scale.position(attention.detach().double().cpu()).numpy()
    return _blend(grey, position, colormap)


def heat(attention: Tensor, scale: ColorScale, *, colormap: str = COLORMAP) -> NDArray[np.float64]:
    """The colours of a map without an image.

    Args:
        attention: (H, W).
        scale: The values of the first and the last colour.
        colormap: The name of a matplotlib colormap.

    Returns:
        (H, W, 3) RGB in [0, 1].

    Raises:
        TypeError: The map is no tensor of real numbers.
        ValueError: It holds NaN or infinite values, or the colormap is unknown.
    """
    _check_map("attention", attention)
    check_colormap(colormap)
    position = scale.position(attention.detach().double().cpu()).numpy()
    colors: NDArray[np.float64] = matplotlib.colormaps[colormap](position)[..., :3]
    return colors


def bar_colors(colormap: str = COLORMAP) -> NDArray[np.float64]:
    """Every colour of an overlay, (256, 16, 3) RGB: values upwards, images black to white across.

    A colour over an image is a mixture of the two, so a bar of one column would not hold it.
    """
    position = np.linspace(0, 1, 256)[:, None].repeat(16, 1)
    return _blend(np.linspace(0, 1, 16)[None].repeat(256, 0), position, colormap)


def grey_image(image: Tensor) -> NDArray[np.float64]:
    """(H, W) luminance in [0, 1] of an image (C, H, W) or (H, W).

    Raises:
        TypeError: The image is no tensor of real numbers.
        ValueError: It has another shape.
    """
    check_real("image", image)
    if image.dim() not in (2, 3) or not image.numel():
        raise ValueError(
            f"image has shape {tuple(image.shape)}; wanted (C, H, W) or (H, W), one image at a time"
        )
    plane = image.detach().double().cpu()
    plane = plane.mean(0) if plane.dim() == 3 else plane
    return cast("NDArray[np.float64]", plane.clamp(0, 1).numpy())


def shown_image(image: Tensor) -> NDArray[np.float64]:
    """An image as it is shown by itself: (H, W, 3) of three channels, (H, W) in grey of others.

    Raises:
        TypeError: The image is no tensor of real numbers.
        ValueError: It has another shape.
    """
    grey = grey_image(image)
    if image.dim() != 3 or len(image) != 3:
        return grey
    colours = image.detach().double().cpu().clamp(0, 1).permute(1, 2, 0)
    return cast("NDArray[np.float64]", colours.numpy())


def check_colormap(colormap: str) -> None:
    """Refuse a name that is none of matplotlib's colormaps."""
    if not isinstance(colormap, str) or colormap not in matplotlib.colormaps:
        raise ValueError(
            f"colormap={colormap!r} is not known to matplotlib; wanted a name such as {COLORMAP!r}"
        )


def _check_map(name: str, attention: Tensor) -> None:
    check_real(name, attention)
    if not attention.isfinite().all():
        raise ValueError(f"{name} has values that are NaN or infinite, which have no colour")


def check_real(name: str, values: object) -> None:
    """Refuse anything but a tensor of real numbers."""
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} is a {type(values).__name__}; wanted a tensor")
    if values.is_complex():
        raise TypeError(f"{name} has dtype {values.dtype}; wanted real numbers")


def _blend(
    grey: NDArray[np.float64], position: NDArray[np.float64], colormap: str
) -> NDArray[np.float64]:
    colors: Any = matplotlib.colormaps[colormap](position)[..., :3]
    # The root keeps the middle of the scale true to the colour bar over bright strokes too.
    cover = (FAINTEST + (STRONGEST - FAINTEST) * np.sqrt(position))[..., None]
    blended: NDArray[np.float64] = cover * colors + (1 - cover) * BRIGHTEST * grey[..., None]
    return blended
