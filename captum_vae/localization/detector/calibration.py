"""Shares over units and their intervals: what calibration and its checks have in common.

Everything here is computed over *units*: single images, or whole clips where the frames of one clip
resemble each other. Pixels of an image, and frames of a clip, are no independent evidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_RESAMPLES = 4000
_CONFIDENCE = 0.95


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
