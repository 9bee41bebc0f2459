"""Maps and masks brought to one size and smoothed, as a protocol says."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from captum_vae.data.resize import resize_mask
from captum_vae.localization.options import ComparisonSize, Frames

_TRUNCATE = 4.0
"""A Gaussian is cut off at so many standard deviations."""


def transform_maps(
    maps: Tensor, mask_size: tuple[int, int], *, compared: ComparisonSize, smoothing: float
) -> Tensor:
    """Resize and smooth maps.

    Args:
        maps: (B, h, w) floats. float64 stays so; less than float32 becomes float32.
        mask_size: (H, W) of the mask.
        compared: At which size they are compared.
        smoothing: Standard deviation of the Gaussian, in pixels of the result.

    Returns:
        Maps of the size of the comparison.
    """
    maps = _at_least_float32(maps)
    return smooth_maps(resize_maps(maps, _target(maps, mask_size, compared)), smoothing)


def prepare_maps(
    maps: Tensor,
    masks: Sequence[Tensor | None],
    labels: Sequence[int | None] | None = None,
    *,
    frames: Frames,
    compared: ComparisonSize,
    smoothing: float,
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Bring maps and masks of a batch to one size; see ``Protocol.prepare`` for shapes and errors.

    Args:
        maps: (B, h, w) floats.
        masks: B masks (H, W) of bool, or None.
        labels: B labels: 0 normal, 1 anomalous, None unknown.
        frames: Which images count.
        compared: At which size they are compared.
        smoothing: Standard deviation of the Gaussian, in pixels of the result.
    """
    if maps.dim() != 3 or len(maps) != len(masks):
        raise ValueError(
            f"maps has shape {tuple(maps.shape)} for {len(masks)} masks; wanted (B, h, w) and "
            "one mask or None per map"
        )
    labels = [None] * len(masks) if labels is None else labels
    if len(labels) != len(masks):
        raise ValueError(f"{len(labels)} labels for {len(masks)} masks; wanted one per mask")
    maps = _at_least_float32(maps)
    own = (maps.shape[1], maps.shape[2])
    known = [truth(mask, label, own, frames) for mask, label in zip(masks, labels, strict=True)]
    prepared, resized = list(maps), list(known)
    of_size: dict[tuple[int, int], list[int]] = {}
    for index, mask in enumerate(known):
        if mask is not None:
            target = _target(maps, (mask.shape[0], mask.shape[1]), compared)
            of_size.setdefault(target, []).append(index)
            resized[index] = resize_mask(mask, target)
    for target, indices in of_size.items():
        of_target = smooth_maps(resize_maps(maps[indices], target), smoothing)
        for index, scores in zip(indices, of_target, strict=True):
            prepared[index] = scores
    return prepared, resized


def truth(
    mask: Tensor | None, label: int | None, size: tuple[int, int], frames: Frames
) -> Tensor | None:
    """The mask that an image is measured against, or None to leave it out.

    Args:
        mask: (H, W) bool, or None where the truth is unknown.
        label: 0 normal, 1 anomalous, None unknown.
        size: (h, w) of the empty mask of an image that is labelled normal and has none.
        frames: Which images count.
    """
    if mask is None:
        known_normal = frames == "all" and label == 0
        return torch.zeros(size, dtype=torch.bool) if known_normal else None
    return None if frames == "anomalous" and not mask.any() else mask


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, h, w) maps to (B, H, W), bilinear, antialiased when shrinking."""
    if (maps.shape[1], maps.shape[2]) == size:
        return maps
    resized = interpolate(
        maps.unsqueeze(1), size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.squeeze(1)


def smooth_maps(maps: Tensor, sigma: float) -> Tensor:
    """Filter (B, H, W) maps by a Gaussian, cut off at 4 sigma, edges repeated outwards.

    Equal to ``scipy.ndimage.gaussian_filter(map, sigma, mode="nearest")`` of each map.
    """
    if int(_TRUNCATE * sigma + 0.5) == 0:
        return maps
    rows, columns = (
        _gaussian(side, float(sigma), maps.dtype, maps.device) for side in maps.shape[1:]
    )
    return rows @ maps @ columns.T


@lru_cache(maxsize=8)
def _gaussian(side: int, sigma: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The filter along an axis as a matrix (side, side), a row of weights for every pixel.

    Two products of matrices take a tenth of the time of convolutions of a single channel.
    """
    radius = int(_TRUNCATE * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights = (weights / weights.sum()).expand(side, -1).contiguous()
    read = (torch.arange(side)[:, None] + offsets).clamp(0, side - 1)
    matrix = torch.zeros(side, side, dtype=torch.float64).scatter_add_(1, read, weights)
    return matrix.to(device, dtype)


def _at_least_float32(maps: Tensor) -> Tensor:
    """Maps that can be filtered without rounding: float64 as it is, half precision widened."""
    if not maps.is_floating_point():
        raise TypeError(f"maps has dtype {maps.dtype}; wanted floats, higher is more anomalous")
    return maps if maps.dtype == torch.float64 else maps.float()


def _target(maps: Tensor, mask_size: tuple[int, int], compared: ComparisonSize) -> tuple[int, int]:
    if compared == "map":
        return maps.shape[1], maps.shape[2]
    return mask_size if isinstance(compared, str) else compared
