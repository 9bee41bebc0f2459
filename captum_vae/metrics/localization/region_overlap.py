"""Per-region overlap (PRO): every anomalous region counts the same, however large it is.

Bergmann, Fauser, Sattlegger, Steger, "Uninformed Students", CVPR 2020, section 4.1: the overlap of
a region is the share of its pixels at or above a threshold; PRO is its mean over all regions of
all images; AUPRO is the area under PRO against the false positive rate of all normal pixels, up
to a limit of 0.3, divided by the limit.
"""

import math
from typing import cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import pad

from captum_vae.checks import real_number
from captum_vae.metrics.localization.curves import LocalizationScore, ThresholdCounts

_EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def region_sizes(mask: Tensor) -> tuple[Tensor, int]:
    """How large the region of each anomalous pixel is, and how many regions there are.

    Args:
        mask: (H, W) bool. Pixels that touch, also at a corner, are one region. Regions are found
            on the CPU.

    Returns:
        (P,) int64 sizes for the anomalous pixels in row-major order, on the mask's device, and the
        number of regions.

    Raises:
        TypeError: The mask is not bool.
        ValueError: The mask is not of one image.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"mask has dtype {mask.dtype}; wanted torch.bool, as in mask > 0.5")
    if mask.dim() != 2:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; wanted (H, W), one image at a time")
    labels, regions = ndimage.label(mask.cpu().numpy(), structure=_EIGHT_CONNECTED)
    of_pixel = labels[labels > 0]
    sizes = np.bincount(of_pixel, minlength=regions + 1)[of_pixel]
    return torch.from_numpy(sizes).to(mask.device), regions


def pro_curve(counts: ThresholdCounts) -> tuple[Tensor, Tensor]:
    """Corners of PRO against the false positive rate, from (0, 0) to (1, 1).

    Returns:
        Two (V,) float64 tensors, the false positive rates and the overlaps; empty when a class is
        missing.

    Raises:
        ValueError: The counts are without regions.
    """
    after = _check_regions(counts)
    if counts.undefined:
        return after[:0], after[:0]
    before = pad(after[:-1], (1, 0))
    overlap = torch.stack([before, after], 1).flatten()
    false = counts.false_positives.to(torch.int64)
    steps = torch.stack([false - counts.tied_negatives, false], 1).flatten()
    rate = steps.double() / counts.negatives
    return _from_0_to_1(rate), _from_0_to_1(overlap)


def aupro(
    counts: ThresholdCounts, *, fpr_limit: float = 0.3, name: str = "aupro"
) -> LocalizationScore:
    """Area under the PRO curve up to a false positive rate, divided by that rate.

    The curve is cut at the limit by linear interpolation, as MVTec's evaluation and anomalib do.

    Args:
        counts: Counts with regions.
        fpr_limit: False positive rate up to which the curve is integrated, in (0, 1].
        name: The name of the score.

    Raises:
        TypeError: The limit is no number.
        ValueError: The limit is outside (0, 1] or the counts are without regions.
    """
    check_fpr_limit(fpr_limit)
    _check_regions(counts)
    if counts.undefined:
        return LocalizationScore(name, math.nan, counts.undefined)
    limit = fpr_limit * counts.negatives  # in normal pixels
    area, reached, height = 0.0, 0.0, 0.0
    for part in counts.parts():
        after = cast(Tensor, part.region_overlap)
        before = torch.cat([after.new_full((1,), height), after[:-1]])
        right = part.false_positives.double()
        left = right - part.tied_negatives
        start = torch.cat([right.new_full((1,), reached), right[:-1]])
        level = (left.clamp(max=limit) - start.clamp(max=limit)) * before
        width = right.clamp(max=limit) - left.clamp(max=limit)
        share = width / part.tied_negatives.clamp(min=1)
        slanted = width * (before + share * (after - before) / 2)
        area += float((level + slanted).sum())
        reached, height = float(right[-1]), float(after[-1])
    area += max(limit - reached, 0.0)  # every region is covered below the last anomalous score
    return LocalizationScore(name, area / limit)


def _check_regions(counts: ThresholdCounts) -> Tensor:
    if counts.region_overlap is None:
        raise ValueError(
            "the counts are without region_overlap; count with PixelMetrics, or with regions=True"
        )
    return counts.region_overlap


def _from_0_to_1(curve: Tensor) -> Tensor:
    return pad(pad(curve, (1, 0)), (0, 1), value=1.0)


def check_fpr_limit(fpr_limit: float) -> None:
    """Refuse a limit of the false positive rate that is no number in (0, 1]."""
    if not 0 < real_number("fpr_limit", fpr_limit) <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}; wanted a rate in (0, 1], usually 0.3")
