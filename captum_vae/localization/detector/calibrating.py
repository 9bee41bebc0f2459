"""Passing the calibration images: what a threshold and p-values are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from captum_vae.data.sample import SampleDataset
from captum_vae.localization.detector.calibration import (
    LargestScores,
    RateThreshold,
    leave_one_out_threshold,
)
from captum_vae.localization.detector.fused_maps import fused_maps
from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.image_scores import image_scores
from captum_vae.localization.detector.options import Promise
from captum_vae.localization.detector.splitting import Split
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer


def calibrate(
    promise: Promise,
    calibrating: SampleDataset,
    split: Split,
    scorers: Sequence[AnomalyScorer],
    scales: Sequence[float],
    protocol: Protocol,
    passes: Mapping[str, Any],
) -> tuple[RateThreshold, ImageCalibration]:
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
    batches = ImageBatches(calibrating, "normal", truth=False, **passes)
    units = np.asarray(split.clip_of)
    # The area counts pixels above the threshold, which other images must have set.
    for_pixels = np.ones(len(units), bool)
    if promise.score == "area":
        for_pixels = units % 2 == 0
        if for_pixels.all():
            raise ValueError("score='area' needs at least two images or clips to calibrate on")
    largest: LargestScores | None = None
    pixel: RateThreshold | None = None
    scores = np.zeros(len(units))
    for step in ("pixels", "images") if promise.score == "area" else ("both",):
        for places, batch in batches.numbered("calibrating"):
            maps = fused_maps(scorers, scales, protocol, batch.image)
            if largest is None:
                expected = int(for_pixels.sum()) * maps[0].numel()
                largest = LargestScores(promise.pixel_rate, expected)
            if step != "pixels":
                threshold = float("inf") if pixel is None else pixel.threshold
                scores[places] = (
                    image_scores(maps, promise.score, top=promise.top, threshold=threshold)
                    .cpu()
                    .numpy()
                )
            for place, image_map in zip(places, maps, strict=True):
                if step != "images" and for_pixels[place]:
                    largest.add(image_map.float().cpu().numpy(), int(units[place]))
        if pixel is None:
            assert largest is not None
            pixel = leave_one_out_threshold(largest, promise.pixel_rate, split.unit)
    assert pixel is not None
    kept = ~for_pixels if promise.score == "area" else for_pixels
    return pixel, ImageCalibration(promise.alpha, scores[kept], units[kept], split.unit)
