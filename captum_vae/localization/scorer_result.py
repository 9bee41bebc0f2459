"""What one scorer came to on a test set, and on each of its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from captum_vae.localization.protocol import Protocol
from captum_vae.metrics.localization.bootstrap import Interval
from captum_vae.metrics.localization.curves import LocalizationScore
from captum_vae.metrics.localization.pixel_counts import PixelResult


@dataclass(frozen=True)
class ImageResult:
    """How a scorer did on one image.

    Attributes:
        index: Place of the image in the test set.
        name: Name of the image.
        group: Its clip or kind of defect.
        auroc: AUROC of the image's own pixels; NaN for one without a defect.
        highest: The 99th percentile of its map, for a colour scale.
    """

    index: int
    name: str
    group: str
    auroc: float
    highest: float


@dataclass(frozen=True)
class ScorerResult:
    """What one scorer came to under one protocol.

    Attributes:
        name: Its name in the table.
        protocol: How its maps were compared with the masks.
        pixel: Every pixel metric, the counts for the curves, the table for the bootstrap.
        image_auroc: AUROC of whole images by the highest score of each.
        image_auroc_top: AUROC of whole images by the mean of the highest 1% of each one's scores.
        intervals: Bootstrap intervals of ``BOOTSTRAP_METRICS``, by name.
        images: One entry per test image with known truth; empty unless asked for.
        seconds: Spent on scoring and measuring. What scorers share counts for the first of them.
    """

    name: str
    protocol: Protocol
    pixel: PixelResult
    image_auroc: LocalizationScore
    image_auroc_top: LocalizationScore
    intervals: dict[str, Interval]
    images: list[ImageResult]
    seconds: float

    @property
    def scores(self) -> dict[str, LocalizationScore]:
        """Every metric by name, those of whole images among them."""
        return {
            **self.pixel.scores,
            "image_auroc": self.image_auroc,
            "image_auroc_top": self.image_auroc_top,
        }

    @property
    def threshold(self) -> float | None:
        """From it on a pixel is called anomalous; None if none was fitted on normal images."""
        score = self.pixel.scores.get("f1")
        return None if score is None else score.threshold

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images and curves, for JSON."""
        entries = self.pixel.to_dict()
        entries["scores"]["image_auroc"] = self.image_auroc.to_dict()
        entries["scores"]["image_auroc_top"] = self.image_auroc_top.to_dict()
        return {
            "name": self.name,
            "protocol": self.protocol.to_dict(),
            **entries,
            "intervals": {name: interval.to_dict() for name, interval in self.intervals.items()},
            "seconds": round(self.seconds, 2),
        }
