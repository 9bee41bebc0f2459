"""What a detector promised against what is seen on normal images that it never met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from captum_vae.localization.detector.calibration import RateThreshold, long_run_interval
from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.prediction import Predictions


@dataclass(frozen=True)
class SeenRate:
    """A false-positive rate on unseen normal images.

    Attributes:
        promised: What was promised.
        seen: What was seen.
        low: Lower end of the 95% interval of what is seen, resampling images or clips.
        high: Its upper end.
        expected_low: From here on, with 95% probability, what is seen on so many images or clips
            was to lie, by the calibration alone.
        expected_high: Up to here.
        units: How many images or clips it was seen on.
        unit: Which of these.
    """

    promised: float
    seen: float
    low: float
    high: float
    expected_low: float
    expected_high: float
    units: int
    unit: str

    @property
    def kept(self) -> bool:
        """Whether what is seen lies where it was to lie."""
        return self.expected_low <= self.seen <= self.expected_high

    @property
    def promise_in_interval(self) -> bool:
        """Whether the promised rate lies in the interval of what is seen."""
        return self.low <= self.promised <= self.high

    def __str__(self) -> str:
        """One line."""
        expected = f"{self.expected_low:.4f} to {self.expected_high:.4f} was to be expected"
        return (
            f"promised {self.promised:g}, seen {self.seen:.4f} [{self.low:.4f}, {self.high:.4f}] "
            f"on {self.units} {self.unit}, where {expected}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        verdicts = {"kept": self.kept, "promise_in_interval": self.promise_in_interval}
        return asdict(self) | verdicts


@dataclass(frozen=True)
class PromiseCheck:
    """Promised against seen, for pixels and for images.

    Attributes:
        pixels: The share of normal pixels at or above the threshold.
        images: The share of normal images called anomalous.
    """

    pixels: SeenRate
    images: SeenRate

    def __str__(self) -> str:
        """A line each."""
        return f"pixels: {self.pixels}\nimages: {self.images}"

    def to_dict(self) -> dict[str, Any]:
        """Both for JSON."""
        return {"pixels": self.pixels.to_dict(), "images": self.images.to_dict()}


def count_alarms(
    parts: Iterable[Predictions],
    pixel: RateThreshold,
    image: ImageCalibration,
    clips: Sequence[str] | None,
) -> PromiseCheck:
    """Count pixels and images called anomalous among normal images.

    Args:
        parts: Predictions of normal images.
        pixel: What was promised about pixels.
        image: What was promised about images.
        clips: The clip of each image; None where images are independent.
    """
    pixels: dict[object, list[int]] = {}
    images: dict[object, list[int]] = {}
    seen = 0
    for part in parts:
        for place in range(len(part)):
            unit = seen if clips is None else clips[seen]
            seen += 1
            for counts, passed, size in (
                (pixels, int(part.masks[place].sum()), part.masks[place].numel()),
                (images, int(part.anomalous[place]), 1),
            ):
                entry = counts.setdefault(unit, [0, 0])
                entry[0] += passed
                entry[1] += size
    if not seen:
        raise ValueError("normal is empty; wanted at least one image")
    return PromiseCheck(
        _seen(pixels, pixel.rate, pixel.expected_range(len(pixels)), clips),
        _seen(images, image.alpha, image.expected_range(len(images)), clips),
    )


def _seen(
    counts: dict[object, list[int]],
    promised: float,
    expected: tuple[float, float],
    clips: Sequence[str] | None,
) -> SeenRate:
    passed = [entry[0] for entry in counts.values()]
    sizes = [entry[1] for entry in counts.values()]
    low, high = long_run_interval(passed, sizes, seed=0)
    unit = "images" if clips is None else "clips"
    share = sum(passed) / sum(sizes)
    return SeenRate(promised, share, low, high, *expected, len(sizes), unit)
