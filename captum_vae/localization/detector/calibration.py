"""Thresholds for a promised false-positive rate, and p-values, from images that fitted nothing.

Everything here is calibrated over *units*: single images, or whole clips where the frames of one
clip resemble each other. Pixels of an image, and frames of a clip, are no independent evidence.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vae.localization.detector.splitting import UnitKind

Floats = NDArray[np.float64]
_RESAMPLES = 4000
_CONFIDENCE = 0.95


class LargestScores:
    """The largest of very many scores with the unit of each, in bounded memory.

    Args:
        rate: The false-positive rate that a threshold is wanted for.
        expected: How many scores will come, at most.
    """

    def __init__(self, rate: float, expected: int) -> None:
        """Keep nothing yet."""
        # Twice the promised share is enough for the rule of leave_one_out_threshold: with r scores
        # of other units above the threshold, r < rate * N, and a unit that holds more than
        # rate * N of the scores kept has already broken the promise alone.
        self.kept = 2 * math.floor(rate * expected) + 2
        self._scores: list[NDArray[np.float32]] = []
        self._units: list[NDArray[np.int32]] = []
        self._waiting = 0
        self.sizes: dict[int, int] = {}

    def add(self, scores: NDArray[np.float32], unit: int) -> None:
        """Take the scores of an image, of any shape, which belongs to the unit of that number."""
        flat = np.ascontiguousarray(scores, dtype=np.float32).ravel()
        self.sizes[unit] = self.sizes.get(unit, 0) + flat.size
        if flat.size > self.kept:
            flat = np.partition(flat, flat.size - self.kept)[-self.kept :]
        self._scores.append(flat)
        self._units.append(np.full(flat.size, unit, np.int32))
        self._waiting += flat.size
        if self._waiting > max(4 * self.kept, 1 << 20):
            largest, owners = self._largest()
            self._scores, self._units, self._waiting = [largest], [owners], largest.size

    def _largest(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        scores, units = np.concatenate(self._scores), np.concatenate(self._units)
        if scores.size > self.kept:
            order = np.argpartition(scores, scores.size - self.kept)[-self.kept :]
            scores, units = scores[order], units[order]
        return scores, units

    def descending(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """The largest scores from the highest down, and the unit of each."""
        scores, units = self._largest()
        order = np.argsort(-scores, kind="stable")
        return scores[order], units[order]


@dataclass(frozen=True)
class RateThreshold:
    """A threshold that lets through a promised share of the pixels of new normal images.

    Attributes:
        rate: The promised share.
        threshold: From it on a pixel is called anomalous.
        estimate: The share that this rule lets through of units that the threshold was not taken
            from: each unit is measured by the threshold of all others.
        low: Lower end of the 95% interval of the share in the long run, resampling the units.
        high: Its upper end.
        unit: What was left out and resampled: images or clips.
        passed: Pixels at or above the threshold of all others, per unit.
        sizes: Pixels per unit.
        reason: Why the promise cannot be kept with so few units; empty otherwise.
    """

    rate: float
    threshold: float
    estimate: float
    low: float
    high: float
    unit: UnitKind
    passed: tuple[int, ...]
    sizes: tuple[int, ...]
    reason: str = ""

    @property
    def units(self) -> int:
        """How many units calibrated it."""
        return len(self.sizes)

    def expected_range(self, units: int, *, seed: int = 0) -> tuple[float, float]:
        """Where the share seen on so many new units lies, with 95% probability.

        Two things vary: which units calibrated the threshold, and which new ones come.

        Args:
            units: How many new normal images (or clips) the share is measured on.
            seed: Seed of the draws.
        """
        return predicted_range(self.passed, self.sizes, self.rate, units, seed=seed)

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        return asdict(self)


def leave_one_out_threshold(
    largest: LargestScores, rate: float, unit: UnitKind, *, seed: int = 0
) -> RateThreshold:
    """The lowest threshold that keeps a false-positive rate on units left out of it.

    A quantile of the pooled scores is too low for new images where few of them hold most of the
    high scores. So the rank r of the threshold is chosen by leaving out one unit at a time: with
    the (r + 1)th largest score of all *other* units as the threshold, the scores of every unit that
    exceed it are counted, and r is the largest rank at which they are at most ``rate`` of all.

    A score passes at rank r if at most r scores of other units lie above it. With the scores sorted
    from the highest down, the k-th score of a unit at place p has p - k of others above, so one
    sorting answers for every r and every unit.

    Args:
        largest: The largest calibration scores, gathered for the same ``rate``.
        rate: The promised share, between 0 and 1.
        unit: What the units are.
        seed: Seed of the resamples.
    """
    scores, units = largest.descending()
    numbers = sorted(largest.sizes)
    sizes = np.array([largest.sizes[number] for number in numbers])
    others = others_above(units)
    allowed = math.floor(rate * sizes.sum() + 1e-9)
    ranks = np.sort(others)
    reason = ""
    # One unit alone has no others to be measured by.
    rank = int(ranks[allowed]) - 1 if allowed < ranks.size and len(numbers) > 1 else -1
    if rank < 0:
        rank = 0
        reason = (
            f"{len(numbers)} {unit} are too few to promise {rate:g}: one of them alone holds more "
            "of the high scores; the threshold is the highest score of all"
        )
    passing = units[others <= rank] if not reason else units[others < 1]
    passed = np.array([int((passing == number).sum()) for number in numbers])
    # The smallest float above the (rank + 1)th score, since a pixel at the threshold counts.
    threshold = float(np.nextafter(scores[min(rank, scores.size - 1)], np.float32(np.inf)))
    low, high = long_run_interval(passed, sizes, seed=seed)
    return RateThreshold(
        rate,
        threshold,
        float(passed.sum() / sizes.sum()),
        low,
        high,
        unit,
        tuple(passed.tolist()),
        tuple(sizes.tolist()),
        reason,
    )


def others_above(units: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many scores of other units lie above each of the scores, which stand in falling order."""
    places = np.arange(units.size)
    own = np.empty(units.size, np.int64)
    order = np.argsort(units, kind="stable")
    sorted_units = units[order]
    starts = np.flatnonzero(np.r_[True, sorted_units[1:] != sorted_units[:-1]])
    lengths = np.diff(np.r_[starts, units.size])
    own[order] = np.arange(units.size) - np.repeat(starts, lengths)
    return places - own


def long_run_interval(passed: Any, sizes: Any, *, seed: int) -> tuple[float, float]:
    """The 95% interval of a share over units, each resampled as a whole."""
    shares = _resampled(np.asarray(passed), np.asarray(sizes), len(sizes), seed)
    tail = (1 - _CONFIDENCE) / 2
    return float(np.quantile(shares, tail)), float(np.quantile(shares, 1 - tail))


def predicted_range(
    passed: Any, sizes: Any, rate: float, units: int, *, seed: int
) -> tuple[float, float]:
    """Where the share on ``units`` new units lies with 95% probability.

    The share of new units is drawn from those that calibrated; that the calibration itself met a
    sample of units adds an error of its own, drawn in the same way.
    """
    passed, sizes = np.asarray(passed, np.float64), np.asarray(sizes, np.float64)
    calibration = _resampled(passed, sizes, len(sizes), seed) - passed.sum() / sizes.sum()
    shares = np.clip(_resampled(passed, sizes, units, seed + 1) - calibration, 0, 1)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(shares, [tail, 1 - tail])
    return float(min(low, rate)), float(max(high, rate))


def _resampled(passed: Floats, sizes: Floats, units: int, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, len(sizes), (_RESAMPLES, units))
    shares: Floats = passed[drawn].sum(1) / sizes[drawn].sum(1)
    return shares
