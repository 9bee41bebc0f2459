"""One number of each map: by it an image is called normal or anomalous."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_vae.localization.detector.options import ScoreRule


def image_scores(maps: Tensor, rule: ScoreRule, *, top: float, threshold: float) -> Tensor:
    """Score images by their maps.

    Args:
        maps: (B, H, W), larger where more anomalous.
        rule: "top" is the mean of the highest pixels, "max" the highest, "area" the share of the
            pixels at or above the threshold.
        top: Share of the pixels that "top" takes, at least one pixel.
        threshold: The pixel threshold, for "area".

    Returns:
        (B,) float64.
    """
    flat = maps.flatten(1)
    if rule == "max":
        return flat.amax(1).double()
    if rule == "area":
        return (flat >= threshold).double().mean(1)
    count = max(1, math.ceil(top * flat.shape[1] - 1e-9))
    return torch.topk(flat, count, sorted=False).values.double().mean(1)
