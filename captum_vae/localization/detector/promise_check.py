"""What a detector promised against what is seen on normal images that it never met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from captum_vae.localization.detector.calibration import RateThreshold, long_run_interval
from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.prediction import Predictions

_UNLIKE = 0.05
"""P-value below which images are said to be unlike those that calibrated."""


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
        unlike: P-value of the hypothesis that scores of these images are distributed as those of
            the images that calibrated (Mann-Whitney). Where it is small, the images were taken
            differently, and no promise about them holds. None for clips.
    """

    pixels: SeenRate
    images: SeenRate
    unlike: float | None

    def __str__(self) -> str:
        """A line each."""
        lines = [f"pixels: {self.pixels}", f"images: {self.images}"]
        if self.unlike is not None and self.unlike < _UNLIKE:
            lines.append(
                f"these images score unlike the ones that calibrated (p = {self.unlike:.2g}): they "
                "were taken differently, and what is promised holds for images taken alike"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON."""
        return {
            "pixels": self.pixels.to_dict(),
            "images": self.images.to_dict(),
            "unlike": self.unlike,
        }


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
    scores: list[float] = []
    for part in parts:
        scores += part.scores.tolist()
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
        seen_rate(pixels, pixel.rate, pixel.expected_range(len(pixels)), clips),
        seen_rate(images, image.alpha, image.expected_range(len(images)), clips),
        unlike_calibration(scores, image) if clips is None else None,
    )


def unlike_calibration(scores: Sequence[float], image: ImageCalibration) -> float | None:
    """P-value of the hypothesis that scores are distributed as those that calibrated.

    None where clips calibrated, whose frames are no independent evidence.
    """
    from scipy.stats import mannwhitneyu

    if image.unit == "clips":
        return None
    return float(mannwhitneyu(image.scores, scores).pvalue)


def seen_rate(
    counts: Mapping[object, Sequence[int]],
    promised: float,
    expected: tuple[float, float],
    clips: Sequence[str] | None,
) -> SeenRate:
    """What is seen, with its interval.

    Args:
        counts: False alarms and their most possible number, by image or clip.
        promised: The rate promised.
        expected: Where the rate was to lie.
        clips: Names of clips; None where units are images.
    """
    passed = [entry[0] for entry in counts.values()]
    sizes = [entry[1] for entry in counts.values()]
    low, high = long_run_interval(passed, sizes, seed=0)
    unit = "images" if clips is None else "clips"
    share = sum(passed) / sum(sizes)
    return SeenRate(promised, share, low, high, *expected, len(sizes), unit)
