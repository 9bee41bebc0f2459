"""Per-region overlap (PRO): every anomalous region counts the same, however large it is.

Bergmann, Fauser, Sattlegger, Steger, "Uninformed Students", CVPR 2020, section 4.1: the overlap of
a region is the share of its pixels at or above a threshold; PRO is its mean over all regions of
all images; AUPRO is the area under PRO against the false positive rate of all normal pixels, up
to a limit of 0.3, divided by the limit.
"""

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import pad

from captum_vae.metrics.pixel_curve import LocalizationScore, ThresholdCounts

_EIGHT_CONNECTED = np.ones((3, 3), dtype=int)


def region_sizes(mask: Tensor) -> tuple[Tensor, int]:
    """How large the region of each anomalous pixel is, and how many regions there are.

    Args:
        mask: (H, W) bool. Pixels that touch, also at a corner, are one region. Regions are found
            on the CPU.

    Returns:
        (P,) int64, for the anomalous pixels in row-major order, on the mask's device; the number.
    """
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
        ValueError: the counts are without regions.
    """
    if counts.region_overlap is None:
        raise ValueError("counts has no region_overlap; count with regions='eight_connected'")
    if counts.undefined:
        nothing = counts.region_overlap[:0]
        return nothing, nothing
    before = pad(counts.region_overlap[:-1], (1, 0))
    overlap = torch.stack([before, counts.region_overlap], 1).flatten()
    false = counts.false_positives
    rate = torch.stack([false - counts.tied_negatives, false], 1).flatten() / counts.negatives
    return pad(pad(rate.double(), (1, 0)), (0, 1), value=1.0), pad(
        pad(overlap, (1, 0)), (0, 1), value=1.0
    )


def aupro(
    counts: ThresholdCounts, *, fpr_limit: float = 0.3, name: str = "aupro"
) -> LocalizationScore:
    """Area under the PRO curve up to a false positive rate, divided by that rate.

    The curve is cut at the limit by linear interpolation, as MVTec's evaluation and anomalib do.

    Raises:
        ValueError: the limit is outside (0, 1] or the counts are without regions.
    """
    check_fpr_limit(fpr_limit)
    rate, overlap = pro_curve(counts)
    if counts.undefined:
        return LocalizationScore(name, math.nan, counts.undefined)
    inside = int((rate <= fpr_limit).sum())
    x, y = rate[:inside], overlap[:inside]
    area = float(torch.trapezoid(y, x))
    if inside < len(rate):
        step = (fpr_limit - float(x[-1])) / float(rate[inside] - x[-1])
        limit = float(y[-1]) + step * float(overlap[inside] - y[-1])
        area += (fpr_limit - float(x[-1])) * (float(y[-1]) + limit) / 2
    return LocalizationScore(name, area / fpr_limit)


def check_fpr_limit(fpr_limit: float) -> None:
    """Raise ValueError unless the limit is in (0, 1]."""
    if not 0 < fpr_limit <= 1:
        raise ValueError(f"fpr_limit is {fpr_limit}; wanted a rate in (0, 1], usually 0.3")
