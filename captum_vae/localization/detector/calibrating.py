"""Passing the calibration images: what a threshold and p-values are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_vae.data.sample import SampleDataset
from captum_vae.localization.detector.fused_maps import fused_maps
from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.image_scores import image_scores
from captum_vae.localization.detector.options import Promise
from captum_vae.localization.detector.pixel_calibration import (
    PixelThreshold,
    calibrated_threshold,
    highest_scores,
    thresholds_of_others,
)
from captum_vae.localization.detector.splitting import Split
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.samples import SampleSubset
from captum_vae.localization.scorer import AnomalyScorer


def calibrate(
    promise: Promise,
    calibrating: SampleDataset,
    split: Split,
    scorers: Sequence[AnomalyScorer],
    scales: Sequence[float],
    protocol: Protocol,
    passes: Mapping[str, Any],
) -> tuple[PixelThreshold, ImageCalibration]:
    """Pixel threshold and image scores from images that neither fitted nor chose.

    Args:
        promise: What is promised, and what an image's score is.
        calibrating: The images.
        split: Says which image or clip each of them is.
        scorers: The scorers, fitted.
        scales: What each one's maps are divided by.
        protocol: How maps are smoothed.
        passes: Batch size, workers, device and progress bar.

    Raises:
        ValueError: There are too few for the rule "area", which needs two parts.
    """
    units = np.asarray(split.clip_of)
    # The area counts pixels above the threshold, which other images must have set.
    for_pixels = np.ones(len(units), bool)
    if promise.score == "area":
        for_pixels = units % 2 == 0
        if for_pixels.all():
            raise ValueError("score='area' needs at least two images or clips to calibrate on")
    scores = np.zeros(len(units))
    highest: dict[int, NDArray[np.float32]] = {}
    size = 0

    def maps_of(places: Sequence[int], title: str) -> Iterator[tuple[int, Tensor]]:
        """The maps (1, H, W) of calibration images, one after the other."""
        if not places:
            return
        part = SampleSubset(calibrating, places)
        for numbers, batch in ImageBatches(part, "normal", truth=False, **passes).numbered(title):
            for number, one in zip(
                numbers, fused_maps(scorers, scales, protocol, batch.image), strict=True
            ):
                yield places[number], one[None]

    def score_of(one: Tensor, threshold: float) -> float:
        return float(image_scores(one, promise.score, top=promise.top, threshold=threshold))

    for place, one in maps_of(np.flatnonzero(for_pixels).tolist(), "calibrating"):
        pixels = one.float().cpu().numpy()
        size = pixels.size
        highest[place] = highest_scores(pixels, promise.pixel_rate)
        if promise.score != "area":
            scores[place] = score_of(one, math.inf)
    told = ImageCalibration(
        promise.alpha,
        np.array([highest[place][0] for place in highest], np.float64),
        units[list(highest)],
        split.unit,
    )
    others = thresholds_of_others(told)
    passed = 0
    beyond = []
    for place, top in highest.items():
        threshold = others[int(units[place])]
        if top[0] >= threshold:
            # More pixels may pass than were kept: the image is scored once more.
            beyond.append(place)
        else:
            passed += int((top >= threshold).sum())
    for place, one in maps_of(beyond, "calibrating, images above"):
        passed += int((one.float() >= others[int(units[place])]).sum())
    share = passed / (size * len(highest))
    pixel = calibrated_threshold(promise.pixel_rate, told, share)
    kept = for_pixels
    if promise.score == "area":
        kept = ~for_pixels
        for place, one in maps_of(np.flatnonzero(kept).tolist(), "calibrating images"):
            scores[place] = score_of(one, pixel.threshold)
    return pixel, ImageCalibration(promise.alpha, scores[kept], units[kept], split.unit)
