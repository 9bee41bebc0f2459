"""What a detector promised against what is seen on normal images that it never met."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from captum_vae.localization.detector.calibration import long_run_interval
from captum_vae.localization.detector.image_calibration import ImageCalibration
from captum_vae.localization.detector.pixel_calibration import PixelThreshold
from captum_vae.localization.detector.prediction import Predictions

_UNLIKE_NEW = 0.01
"""P-value below which images that are not called anomalous are said to be unlike these."""

_UNLIKE = 0.05
"""P-value below which images are said to be unlike those that calibrated."""


@dataclass(frozen=True)
class SeenRate:
    """A rate on unseen normal images beside what was promised of it.

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
        """What was seen, where, and what was to be expected."""
        return (
            f"seen {self.seen:.4f} [{self.low:.4f}, {self.high:.4f}] on {self.units} {self.unit}, "
            f"where {self.expected_low:.4f} to {self.expected_high:.4f} was to be expected"
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        verdicts = {"kept": self.kept, "promise_in_interval": self.promise_in_interval}
        return asdict(self) | verdicts


@dataclass(frozen=True)
class PromiseCheck:
    """Promised against seen, for pixels and for images.

    Attributes:
        pixel_rate: The share of a normal image's pixels that may reach the pixel threshold.
        pixels: The share of normal images of which more pixels do.
        mean_share: The share of the pixels of all normal images that reach it.
        images: The share of normal images called anomalous.
        unlike: P-value of the hypothesis that scores of these images are distributed as those of
            the images that calibrated (Mann-Whitney). Where it is small, the images were taken
            differently, and no promise about them holds. None for clips.
    """

    pixel_rate: float
    pixels: SeenRate
    mean_share: tuple[float, float, float]
    calibrated_share: float
    images: SeenRate
    unlike: float | None

    def __str__(self) -> str:
        """A line each."""
        lines = [
            f"pixels: more than {self.pixel_rate:g} of an image's pixels are marked: promised for "
            f"{self.pixels.promised:.4g} of the images at most, {self.pixels}",
            "pixels on average: {:.4f} [{:.4f}, {:.4f}] are marked".format(*self.mean_share)
            + f", {self.calibrated_share:.4f} of those that calibrated",
            f"images: called anomalous: promised {self.images.promised:g} at most, {self.images}",
        ]
        if self.unlike is not None and self.unlike < _UNLIKE:
            lines.append(
                f"these images score unlike the ones that calibrated (p = {self.unlike:.2g}): they "
                "were taken differently, and what is promised holds for images taken alike"
            )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON."""
        return {
            "pixel_rate": self.pixel_rate,
            "pixels": self.pixels.to_dict(),
            "mean_share": dict(zip(("seen", "low", "high"), self.mean_share, strict=True))
            | {"calibrated": self.calibrated_share},
            "images": self.images.to_dict(),
            "unlike": self.unlike,
        }


@dataclass
class AlarmCounts:
    """False alarms on normal images, image by image, and what they say about the promises.

    Args:
        pixel: What was promised about pixels.
        image: What was promised about images.
    """

    pixel: PixelThreshold
    image: ImageCalibration
    _units: dict[object, list[int]] = field(default_factory=dict)
    _scores: list[float] = field(default_factory=list)

    def add(self, marked: int, pixels: int, *, anomalous: bool, score: float, clip: object) -> None:
        """Count a normal image.

        Args:
            marked: Its pixels at or above the threshold.
            pixels: All its pixels.
            anomalous: Whether it was called anomalous.
            score: Its score.
            clip: Its clip; None where images are independent.
        """
        unit = len(self._scores) if clip is None else clip
        counts = self._units.setdefault(unit, [0, 0, 0, 0, 0])
        most = math.floor(self.pixel.rate * pixels + 1e-9)
        for place, value in enumerate((1, marked > most, anomalous, marked, pixels)):
            counts[place] += value
        self._scores.append(score)

    def check(self) -> PromiseCheck:
        """Promised against seen.

        Raises:
            ValueError: No image was counted.
        """
        if not self._scores:
            raise ValueError("normal is empty; wanted at least one image")
        images, beyond, anomalous, marked, pixels = zip(*self._units.values(), strict=True)
        count = len(self._units)
        pixel, image = self.pixel, self.image
        unit = image.unit
        return PromiseCheck(
            pixel.rate,
            _seen(beyond, images, pixel.alpha, pixel.expected_range(count), unit),
            (sum(marked) / sum(pixels), *long_run_interval(marked, pixels, seed=0)),
            pixel.mean_share,
            _seen(anomalous, images, image.alpha, image.expected_range(count), unit),
            unlike_calibration(self._scores, image),
        )


def count_alarms(
    parts: Iterable[Predictions],
    pixel: PixelThreshold,
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
    counts = AlarmCounts(pixel, image)
    seen = 0
    for part in parts:
        for one in part:
            counts.add(
                int(one.mask.sum()),
                one.mask.numel(),
                anomalous=one.anomalous,
                score=one.score,
                clip=None if clips is None else clips[seen],
            )
            seen += 1
    return counts.check()


def unlike_calibration(scores: Sequence[float], image: ImageCalibration) -> float | None:
    """P-value of the hypothesis that scores are distributed as those that calibrated.

    None where clips calibrated, whose frames are no independent evidence.
    """
    from scipy.stats import mannwhitneyu

    if image.unit == "clips":
        return None
    return float(mannwhitneyu(image.scores, scores).pvalue)


def unlike_where_normal(scores: Sequence[float], image: ImageCalibration) -> str:
    """A warning where images that are not called anomalous score higher than normal ones did.

    Anomalous images are among the new ones, so only scores below the threshold of the verdict are
    compared, with the calibration's below it. The images may then have been taken in another way,
    so that the promises do not hold; or many are slightly anomalous. Which, only a look tells.

    Args:
        scores: Scores of new images, those called anomalous among them.
        image: The calibration.

    Returns:
        The warning; empty where there is no evidence (p at or above .01), and for clips.
    """
    from scipy.stats import mannwhitneyu

    if image.unit == "clips":
        return ""
    below = [score for score in scores if score <= image.threshold]
    known = image.scores[image.scores <= image.threshold]
    if not below or not len(known):
        return ""
    p_value = float(mannwhitneyu(known, below, alternative="less").pvalue)
    if p_value >= _UNLIKE_NEW:
        return ""
    return (
        f"the {len(below)} images that are not called anomalous score higher than the normal ones "
        f"that calibrated (p = {p_value:.2g}): they were taken differently, and there are more "
        "false alarms than promised, or many are slightly anomalous; detector.check(images) on new "
        "images known to be normal tells"
    )


def _seen(
    passed: Sequence[int],
    sizes: Sequence[int],
    promised: float,
    expected: tuple[float, float],
    unit: str,
) -> SeenRate:
    low, high = long_run_interval(passed, sizes, seed=0)
    return SeenRate(promised, sum(passed) / sum(sizes), low, high, *expected, len(sizes), unit)
