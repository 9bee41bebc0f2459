"""Where defects lie: the outline of one, and the places where normal images vary most."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from captum_vae.data.defect_options import checked_share

Region: TypeAlias = NDArray[np.bool_]

_MARGIN = 2
"""Pixels by which annotators draw the outline of a defect too wide."""


def outline(mask: Region, margin: int = _MARGIN) -> Region:
    """The mask (h, w) as annotators outline it: no holes or gaps, ``margin`` pixels wider."""
    # Of the rectangle around the mask alone: a defect is small, and the rest stays as it is.
    outlined: Region = np.zeros_like(mask)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not rows.size:
        return outlined
    reach = 3 * margin
    around = (
        slice(max(rows[0] - reach, 0), rows[-1] + reach + 1),
        slice(max(columns[0] - reach, 0), columns[-1] + reach + 1),
    )
    filled = np.pad(ndimage.binary_fill_holes(mask[around]), 2 * margin)
    closed = ndimage.binary_closing(filled, iterations=margin)
    inner = closed[2 * margin : -2 * margin, 2 * margin : -2 * margin]
    outlined[around] = ndimage.binary_dilation(inner, iterations=margin)
    return outlined


def varying_places(batches: Iterable[Tensor], share: float = 0.4) -> Tensor:
    """The places where images of a set differ most from one another, (h, w) bool.

    That is on the object and at its edges, where real defects lie, and not on an empty background.
    The variance over the images is averaged over channels and smoothed by 1/32 of the longer side,
    so that the places are connected.

    Args:
        batches: Batches of images (B, C, h, w), all of one size; at least two images.
        share: Share of the places that are taken.

    Raises:
        TypeError: A batch is no tensor of floats.
        ValueError: There are fewer than two images, or a share is out of range.
    """
    share = checked_share("share", share)
    total = squares = torch.zeros(())
    shift: Tensor | None = None
    count = 0
    for images in batches:
        if not isinstance(images, Tensor) or not images.is_floating_point() or images.dim() != 4:
            raise TypeError("batches holds something else than tensors of floats (B, C, h, w)")
        # Around the first image, so that little is lost where images hardly differ.
        shift = images[:1].double() if shift is None else shift
        around = images.double() - shift
        total, squares = total + around.sum(0), squares + around.square().sum(0)
        count += len(images)
    if count < 2:
        raise ValueError(f"batches holds {count} images; wanted at least two to compare")
    variance = (squares / count - (total / count).square()).mean(0).cpu().numpy()
    smooth = ndimage.gaussian_filter(variance, max(variance.shape) / 32, mode="nearest")
    return torch.from_numpy(smooth >= np.quantile(smooth, 1 - share))


def checked_places(places: Tensor) -> Region:
    """Places as an array, refused where they are no tensor (h, w) of bool with a place in it."""
    if not isinstance(places, Tensor) or places.dtype != torch.bool or places.dim() != 2:
        raise TypeError("places is no tensor (h, w) of bool, as varying_places gives")
    if not places.any():
        raise ValueError("places is False everywhere; wanted some places for defects to lie")
    return np.asarray(places.cpu().numpy())


def inner_places(places: Region) -> Region:
    """The places in which a defect can lie so that its outline lies in ``places`` as well."""
    inner: Region = ndimage.binary_erosion(places, iterations=_MARGIN)
    return inner if inner.any() else places


def share_inside(mask: Region, places: Region) -> float:
    """The share of a defect, as annotators outline it, that lies in the places."""
    outlined = outline(mask)
    return float((outlined & places).sum() / outlined.sum())


def disc_in(places: Region, share: float, random: np.random.Generator) -> Region:
    """A disc of a share of the image around one of the places, cut off where they end."""
    rows, columns = np.nonzero(places)
    chosen = random.integers(len(rows))
    y, x = np.ogrid[: places.shape[0], : places.shape[1]]
    radius = math.sqrt(share * places.size / math.pi)
    disc = np.hypot(y - rows[chosen], x - columns[chosen]) <= radius
    return np.asarray(disc & places)
