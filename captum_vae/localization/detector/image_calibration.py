"""P-values of images by conformal prediction, with a guarantee for any number of images.

With M calibration images whose scores are exchangeable with that of a new normal image, its rank
among the M + 1 is uniform, so p = (1 + number of calibration scores at or above its own) / (M + 1)
is at most alpha with probability at most alpha, whatever the distribution (Vovk, Gammerman &
Shafer, Algorithmic Learning in a Random World, 2005; as outlier tests Bates et al., Annals of
Statistics 2023).

Frames of one clip are not exchangeable with those of another. Clips are: each clip then has the
weight of one image, shared among its frames (Lee, Barber & Willett, Distribution-free inference
with hierarchical data, 2023), and p = (1 + sum over clips of the share of its frames at or above)
/ (clips + 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import betabinom

from captum_vae.localization.detector.calibration import (
    Floats,
    long_run_interval,
    others_above,
    predicted_range,
)
from captum_vae.localization.detector.splitting import UnitKind


@dataclass(frozen=True)
class ImageCalibration:
    """The scores of calibration images, and what they say about a new one.

    Attributes:
        alpha: An image is called anomalous when its p-value is at most this.
        scores: Scores of the calibration images, from the highest down.
        units: The image or clip of each, as a number.
        unit: What is exchangeable: images or clips.
    """

    alpha: float
    scores: Floats
    units: Any
    unit: UnitKind
    _weights: Floats = field(init=False, repr=False)
    _others: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Sort the scores and weigh them."""
        order = np.argsort(-np.asarray(self.scores, np.float64), kind="stable")
        scores = np.asarray(self.scores, np.float64)[order]
        units = np.asarray(self.units, np.int32)[order]
        _, places, counts = np.unique(units, return_inverse=True, return_counts=True)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "_weights", np.r_[0.0, np.cumsum(1 / counts[places])])
        object.__setattr__(self, "_others", np.sort(others_above(units)))

    @property
    def count(self) -> int:
        """How many images or clips are exchangeable with a new one."""
        return len(np.unique(self.units))

    def at(self, alpha: float) -> ImageCalibration:
        """The same calibration for another alpha."""
        return ImageCalibration(alpha, self.scores, self.units, self.unit)

    def without(self, unit: int) -> ImageCalibration:
        """The calibration of all images or clips but one.

        Args:
            unit: Its number.
        """
        others = self.units != unit
        return ImageCalibration(self.alpha, self.scores[others], self.units[others], self.unit)

    @property
    def guaranteed(self) -> bool:
        """Whether p-values can reach alpha with the finite-sample guarantee.

        With U images or clips none is below 1 / (U + 1). Clips are often too few; p-values are then
        estimates without that guarantee, see :meth:`p_values`.
        """
        return self.unit == "images" or 1 / (self.count + 1) <= self.alpha

    def p_values(self, scores: Any) -> Floats:
        """The p-value of each score.

        Where clips are too few for the guarantee at alpha, a p-value is the estimated rate of false
        alarms of the rule "at least this score is anomalous": every clip is measured by the scores
        of all other clips.

        Args:
            scores: (N,) finite numbers.
        """
        # How many calibration scores lie at or above; these stand in falling order.
        above = np.searchsorted(-self.scores, -np.asarray(scores, np.float64), side="right")
        return self.p_value_table()[above]

    def p_value_table(self) -> Floats:
        """The p-value of a score by how many calibration scores lie at or above it, from 0 on."""
        if self.guaranteed:
            found: Floats = (1 + self._weights) / (self.count + 1)
            return found
        ranks = np.arange(len(self.scores) + 1)
        rates = np.searchsorted(self._others, ranks, side="right") / len(self.scores)
        return np.maximum(rates, 1 / (len(self.scores) + 1))

    @property
    def threshold(self) -> float:
        """Above it an image is called anomalous; infinite where no score has a p-value so low."""
        # P-values fall with the score and change at calibration scores alone.
        flagged = self.p_values(np.nextafter(self.scores, np.inf)) <= self.alpha
        return float(self.scores[flagged].min()) if flagged.any() else math.inf

    @property
    def remark(self) -> str:
        """What a person should know about the guarantee; empty where it holds as promised."""
        least = math.ceil(1 / self.alpha - 1e-9) - 1
        if self.unit == "clips" and not self.guaranteed:
            return (
                f"frames of a clip are not exchangeable and {self.count} clips are too few for a "
                f"guarantee at {self.alpha:g} (it takes {least}): image p-values and what is "
                "promised of pixels are estimates, each clip measured by the others"
            )
        if self.count < least:
            return (
                f"{self.count} calibration images give no p-value below {1 / (self.count + 1):.3g},"
                f" so none is called anomalous at {self.alpha:g}: that takes {least}, about "
                f"{2 * least} normal images in all, or a larger alpha"
            )
        return ""

    @property
    def estimate(self) -> float:
        """The expected rate of false alarms on new normal images."""
        if not self.guaranteed:
            threshold = self.threshold
            rank = int((self.scores > threshold).sum())
            return float(np.searchsorted(self._others, rank, side="right") / len(self.scores))
        if self.unit == "clips":
            return self.alpha
        return math.floor(self.alpha * (self.count + 1) + 1e-9) / (self.count + 1)

    def long_run(self, *, seed: int = 0) -> tuple[float, float]:
        """The 95% interval of the rate of false alarms in the long run.

        For images it is exact: over the draw of the calibration images the rate follows
        Beta(l, M + 1 - l) with l = floor(alpha (M + 1)). For clips, whole clips are resampled.
        """
        if self.unit == "images":
            return self._beta(10**6)
        return long_run_interval(*self._passed(), seed=seed)

    def expected_range(self, units: int, *, seed: int = 0) -> tuple[float, float]:
        """Where the rate of false alarms on so many new normal images, or clips, lies with 95%.

        For images it is exact, a beta-binomial; for clips, whole clips are drawn.
        """
        if self.unit == "images":
            return self._beta(units)
        return predicted_range(*self._passed(), self.alpha, units, seed=seed)

    def _beta(self, images: int) -> tuple[float, float]:
        rank = math.floor(self.alpha * (self.count + 1) + 1e-9)
        if rank == 0:
            return 0.0, 0.0
        spread = betabinom(images, rank, self.count + 1 - rank)
        return float(spread.ppf(0.025) / images), float(spread.ppf(0.975) / images)

    def _passed(self) -> tuple[list[int], list[int]]:
        """False alarms per clip, each measured by the others, and frames per clip."""
        threshold = self.threshold
        rank = int((self.scores > threshold).sum())
        passing = self.units[others_above(self.units) <= rank] if math.isfinite(threshold) else []
        numbers: Sequence[int] = np.unique(self.units).tolist()
        passed = [int((np.asarray(passing) == number).sum()) for number in numbers]
        return passed, [int((self.units == number).sum()) for number in numbers]

    def to_dict(self, *, seed: int = 0) -> dict[str, Any]:
        """What the calibration promises, for JSON."""
        low, high = self.long_run(seed=seed)
        return {
            "alpha": self.alpha,
            "unit": self.unit,
            "units": self.count,
            "images": len(self.scores),
            "guaranteed": self.guaranteed,
            "estimate": self.estimate,
            "low": low,
            "high": high,
            "threshold": None if math.isinf(self.threshold) else self.threshold,
            "remark": self.remark,
        }
