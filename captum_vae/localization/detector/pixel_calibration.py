"""The pixel threshold, and what it promises of a new normal image.

A share pooled over the pixels of all normal images says little about the next one: few images hold
most of the high scores. So the promise is about an image. With k = floor(rate * pixels), its
(k + 1)th highest pixel score is the lowest threshold that lets through at most ``rate`` of it. That
is one number per image, exchangeable between normal images, so its conformal quantile is exceeded
by a new one with probability at most alpha, whatever the distribution and however the pixels of an
image depend on each other (a tolerance limit: Wilks 1941; with images as the units, as in the
conformal control of risks, Angelopoulos et al., ICLR 2024). It takes 1 / alpha - 1 images; a bound
on the *expected* share, as these authors have it, would take 1 / rate - 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.splitting import UnitKind


@dataclass(frozen=True)
class PixelThreshold:
    """A threshold that at most a promised share of a new normal image's pixels reaches.

    Attributes:
        rate: The promised share.
        threshold: From it on a pixel is called anomalous.
        images: The calibration of the number that each image's share is told by, see
            :func:`highest_scores`; its ``alpha`` is the probability that a new normal image breaks
            the promise.
        mean_share: Share of the pixels of all calibration images that reaches the threshold of the
            other images, or clips: an estimate, which few images may decide, without a promise.
        reason: Why the probability is larger than was asked for; empty otherwise.
    """

    rate: float
    threshold: float
    images: ImageCalibration
    mean_share: float
    reason: str = ""

    @property
    def alpha(self) -> float:
        """A new normal image has more than ``rate`` of its pixels above with this probability."""
        return self.images.alpha

    @property
    def units(self) -> int:
        """How many images or clips calibrated it."""
        return self.images.count

    @property
    def unit(self) -> UnitKind:
        """Which of these."""
        return self.images.unit

    def expected_range(self, units: int) -> tuple[float, float]:
        """The share of so many new images (or of the frames of clips) that break the promise."""
        return self.images.expected_range(units)

    def __str__(self) -> str:
        """What is promised, in one line."""
        return (
            f"at most {self.rate:g} of a new normal image's reach {self.threshold:.4g}, with "
            f"probability {1 - self.alpha:.3g} (on average {self.mean_share:.4f} of those of "
            f"{self.units} {self.unit})"
        )

    def to_dict(self) -> dict[str, Any]:
        """What is promised, for JSON, without the numbers of single images."""
        return {
            "rate": self.rate,
            "alpha": self.alpha,
            "threshold": self.threshold,
            "unit": self.unit,
            "units": self.units,
            "mean_share": self.mean_share,
            "reason": self.reason,
        }


def highest_scores(image_map: NDArray[np.float32], rate: float) -> NDArray[np.float32]:
    """The k + 1 highest scores of a map, k being the most pixels that may reach the threshold.

    Args:
        image_map: (H, W), larger where more anomalous.
        rate: The share of its pixels that may.

    Returns:
        (k + 1,), the lowest of them first: every threshold above it keeps the promise.
    """
    flat = np.ravel(image_map)
    left = flat.size - math.floor(rate * flat.size + 1e-9) - 1
    return np.asarray(np.partition(flat, left)[left:], np.float32)


def threshold_above(calibration: ImageCalibration) -> tuple[float, float]:
    """The lowest pixel threshold that keeps the promise, and the probability to break it.

    That is the calibration's alpha, or the smallest which so few images or clips can promise.

    Args:
        calibration: The (k + 1)th highest score of each image.
    """
    alpha = max(calibration.alpha, float(calibration.p_value_table()[0]))
    if alpha > calibration.alpha:
        calibration = calibration.at(alpha)
    # The smallest float above, since a pixel at the threshold counts.
    return float(np.nextafter(np.float32(calibration.threshold), np.float32(np.inf))), alpha


def thresholds_of_others(calibration: ImageCalibration) -> dict[int, float]:
    """For each unit the threshold that all others give; without others their own."""
    numbers = [int(number) for number in np.unique(calibration.units)]
    if len(numbers) == 1:
        return {numbers[0]: threshold_above(calibration)[0]}
    return {number: threshold_above(calibration.without(number))[0] for number in numbers}


def calibrated_threshold(
    rate: float, calibration: ImageCalibration, mean_share: float
) -> PixelThreshold:
    """The threshold with what it promises.

    Args:
        rate: The promised share.
        calibration: The (k + 1)th highest score of each image, and the probability asked for.
        mean_share: Share of the pixels at or above the threshold of the other units.
    """
    threshold, alpha = threshold_above(calibration)
    reason = ""
    if alpha > calibration.alpha:
        reason = (
            f"{calibration.count} calibration {calibration.unit} are too few to promise with "
            f"probability {1 - calibration.alpha:g} that at most {rate:g} of a normal image's "
            f"pixels are marked: that has probability {1 - alpha:.3g}"
        )
    return PixelThreshold(rate, threshold, calibration.at(alpha), mean_share, reason)
