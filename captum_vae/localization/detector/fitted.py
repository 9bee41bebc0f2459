"""Everything that a detector learns from normal images, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from captum_vae.data.value_range import UNIT, ValueRange
from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.pixel_calibration import PixelThreshold
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer


@dataclass(frozen=True)
class Fitted:
    """Everything that a detector learns from normal images.

    Attributes:
        model: The VAE, in eval mode.
        scorers: The scorers whose maps are used, fitted.
        scales: What each one's maps are divided by before their mean is taken.
        protocol: How maps are smoothed.
        choice: How the scorer was chosen; None where it was named.
        size: (h, w) of the images.
        channels: Channels of the images.
        pixel: The pixel threshold and what it promises.
        image: The calibration of image scores.
        facts: Images per part, digest of the data, versions.
        value_range: The range that images in [0, 1] are brought to for the model.
    """

    model: Any
    scorers: tuple[AnomalyScorer, ...]
    scales: tuple[float, ...]
    protocol: Protocol
    choice: dict[str, Any] | None
    size: tuple[int, int]
    channels: int
    pixel: PixelThreshold
    image: ImageCalibration
    facts: dict[str, Any]
    value_range: ValueRange = UNIT
