"""Confidence intervals over images or clips, and a paired test, without going back to pixels.

Pixels of an image, and frames of a clip, are not independent, so whole units are drawn with
replacement (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 13.3 and
15.4). A resample is a weight per unit, and its counts are the weights times the table of counts
per unit, so a thousand resamples of a metric are one matrix product.

Approximate is the grid of the table, see :mod:`captum_vae.metrics.localization.units`, and the
number of resamples. ``grid_value`` is the metric of all units on that grid: its distance to the
exact value is what the grid costs. Where the exact value is given, the interval moves by that
distance; if it is larger than half of the interval, such as with scores that differ by less than
the grid's bins, there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_vae.checks import check_choice, checked_seed, real_number, whole_number
from captum_vae.metrics.localization.curves import f1_ratio, iou_ratio
from captum_vae.metrics.localization.region_overlap import check_fpr_limit
from captum_vae.metrics.localization.units import UnitTable

_FEWEST_UNITS = 2
_GRID_ERROR = 0.01
"""How far the grid may be from the exact value even where the interval is narrower than that."""

_TOO_CLOSE = (
    "the scores are too close together for the bootstrap, whose bins are float32 numbers; stretch "
    "them, as by subtracting their mean"
)


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval of a metric.

    Attributes:
        metric: The metric's name, one of ``BOOTSTRAP_METRICS``.
        low: The lower end, NaN where undefined.
        high: The upper end, NaN where undefined.
        confidence: The share of resamples inside.
        grid_value: The metric of all units on the grid of the table.
        units: How many images or clips were drawn from.
        resamples: How many resamples have a value; those without an anomalous or without a normal
            pixel have none.
        reason: Why there is no interval; empty otherwise.
    """

    metric: str
    low: float
    high: float
    confidence: float
    grid_value: float
    units: int
    resamples: int
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, NaN as None."""
        return without_nan(asdict(self))


@dataclass(frozen=True)
class PairedDifference:
    """Metric of the first scorer minus that of the second, over the same resamples.

    Attributes:
        metric: The metric's name, one of ``BOOTSTRAP_METRICS``.
        difference: The difference of all units on the grids of the tables.
        low: The lower end of the interval of the difference, NaN where undefined.
        high: The upper end of the interval, NaN where undefined.
        p_value: The two-sided p-value: twice the smaller share of resamples on one side of zero,
            the observed set counted as one of them (so it is at least 2 / (resamples + 1)).
        confidence: The share of resamples inside the interval.
        units: How many images or clips were drawn from.
        resamples: How many resamples have a value.
        reason: Why there is no interval; empty otherwise.
    """

    metric: str
    difference: float
    low: float
    high: float
    p_value: float
    confidence: float
    units: int
    resamples: int
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, NaN as None."""
        return without_nan(asdict(self))


def bootstrap_interval(
    table: UnitTable,
    metric: str = "auroc",
    *,
    value: float | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    fpr_limit: float = 0.3,
) -> Interval:
    """Percentile interval of a metric over resamples of the units.

    Args:
        table: The counts of one scorer, such as ``PixelResult.units``.
        metric: One of ``BOOTSTRAP_METRICS``. F1 and IoU choose their threshold anew in each
            resample.
        value: The exact metric of all units; None leaves the interval around that of the grid.
        confidence: Share of resamples inside the interval, in (0, 1).
        resamples: How often to draw as many units as there are.
        seed: Seed of the draws.
        fpr_limit: False positive rate up to which AUPRO integrates.

    Raises:
        TypeError: The table is none, or a number is no number.
        ValueError: The metric is unknown, or a number is out of its range.
    """
    values = {} if value is None else {metric: value}
    return bootstrap_intervals(
        table,
        (metric,),
        values=values,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
        fpr_limit=fpr_limit,
    )[metric]


def bootstrap_intervals(
    table: UnitTable,
    metrics: Sequence[str] | None = None,
    *,
    values: Mapping[str, float] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    fpr_limit: float = 0.3,
) -> dict[str, Interval]:
    """Intervals of several metrics from the same resamples, by metric.

    Args:
        table: The counts of one scorer, such as ``PixelResult.units``.
        metrics: Names of the metrics; None takes all ``BOOTSTRAP_METRICS``.
        values: Exact metrics of all units, by metric, as far as they are known.
        confidence: Share of resamples inside the interval, in (0, 1).
        resamples: How often to draw as many units as there are.
        seed: Seed of the draws.
        fpr_limit: False positive rate up to which AUPRO integrates.

    Raises:
        TypeError: The table is none, or a number is no number.
        ValueError: A metric is unknown, or a number is out of its range.
    """
    if isinstance(metrics, str):
        raise TypeError(f"metrics is one string, {metrics!r}; wanted a list of names")
    wanted = BOOTSTRAP_METRICS if metrics is None else tuple(metrics)
    _check_table("table", table)
    _check_options(wanted, confidence, resamples, seed, fpr_limit)
    # An undefined metric is NaN, and so is its interval.
    exact_values = {
        name: value if isinstance(value, float) else real_number("value", value)
        for name, value in (values or {}).items()
    }
    units = len(table.units)
    whole = _Resampled.of(table, torch.ones(1, units))
    drawn = _Resampled.of(table, draw_units(units, resamples, seed))
    found = {}
    for metric in wanted:
        grid = float(whole.values(metric, fpr_limit))
        low, high, valid, reason = _percentiles(drawn.values(metric, fpr_limit), confidence, units)
        exact = exact_values.get(metric, grid)
        if not reason and _too_coarse(abs(exact - grid), low, high):
            low, high, reason = math.nan, math.nan, _TOO_CLOSE
        # No metric leaves [0, 1]; what is undefined stays NaN.
        low, high = (min(max(end + exact - grid, 0.0), 1.0) for end in (low, high))
        found[metric] = Interval(metric, low, high, confidence, grid, units, valid, reason)
    return found


def paired_difference(
    first: UnitTable,
    second: UnitTable,
    metric: str = "auroc",
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    fpr_limit: float = 0.3,
) -> PairedDifference:
    """Compare two scorers on the same units: each resample draws the same units for both.

    Args:
        first: The counts of the first scorer, such as ``PixelResult.units``.
        second: The counts of the second scorer on the same images.
        metric: One of ``BOOTSTRAP_METRICS``. F1 and IoU choose their threshold anew in each
            resample.
        confidence: Share of resamples inside the interval, in (0, 1).
        resamples: How often to draw as many units as there are.
        seed: Seed of the draws.
        fpr_limit: False positive rate up to which AUPRO integrates.

    Raises:
        TypeError: A table is none, or a number is no number.
        ValueError: The metric is unknown, a number is out of its range, or the tables have other
            units, or other numbers of anomalous and normal pixels in them.
    """
    _check_table("first", first)
    _check_table("second", second)
    _check_options((metric,), confidence, resamples, seed, fpr_limit)
    _check_same_units(first, second)
    tables = (first, second)
    ones = torch.ones(1, len(first.units))
    weights = draw_units(len(first.units), resamples, seed)
    whole = [_Resampled.of(table, ones).values(metric, fpr_limit) for table in tables]
    drawn = [_Resampled.of(table, weights).values(metric, fpr_limit) for table in tables]
    difference = drawn[0] - drawn[1]
    low, high, valid, reason = _percentiles(difference, confidence, len(first.units))
    if not reason and _too_coarse(max(first.grid_error, second.grid_error), low, high):
        low, high, reason = math.nan, math.nan, _TOO_CLOSE
    below, above = int((difference <= 0).sum()), int((difference >= 0).sum())
    p_value = math.nan if reason else min(1.0, 2 * (min(below, above) + 1) / (valid + 1))
    return PairedDifference(
        metric,
        float(whole[0] - whole[1]),
        low,
        high,
        p_value,
        confidence,
        len(first.units),
        valid,
        reason,
    )


def with_grid_error(table: UnitTable, auroc: float) -> UnitTable:
    """The table with the distance of its own AUROC to the exact one; 0 where that is undefined."""
    if math.isnan(auroc):
        return table
    whole = _Resampled.of(table, torch.ones(1, len(table.units)))
    return replace(table, grid_error=abs(float(whole.values("auroc", 1.0)) - auroc))


def draw_units(units: int, resamples: int, seed: int) -> Tensor:
    """(resamples, units) float32: how often each unit is drawn; rows sum to ``units``."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(units, (resamples, units), generator=generator)
    weights = torch.zeros(resamples, units)
    return weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=weights.dtype))


@dataclass(frozen=True)
class _Resampled:
    """Counts of R resamples in G bins, from the highest scores to the lowest."""

    positives: Tensor  # (R, G) float64
    negatives: Tensor  # (R, G) float64
    overlap: Tensor  # (R, G) float64

    @classmethod
    def of(cls, table: UnitTable, weights: Tensor) -> _Resampled:
        """With weights (R, U) on the units."""
        weights = weights.to(table.overlap)
        return cls(
            weights @ table.positives.double(),
            weights @ table.negatives.double(),
            weights @ table.overlap,
        )

    def values(self, metric: str, fpr_limit: float) -> Tensor:
        """(R,) float64 metric of each resample; NaN without a class."""
        if metric == "aupro":
            values = _aupro(self.negatives, self.overlap, fpr_limit)
        else:
            values = _OF_PIXELS[metric](self.positives, self.negatives)
        undefined = (self.positives.sum(1) == 0) | (self.negatives.sum(1) == 0)
        return values.masked_fill(undefined, math.nan).cpu()


def _auroc(positives: Tensor, negatives: Tensor) -> Tensor:
    below = negatives.sum(1, keepdim=True) - negatives.cumsum(1)
    won = (positives * (below + negatives / 2)).sum(1)
    return won / (positives.sum(1) * negatives.sum(1))


def _average_precision(positives: Tensor, negatives: Tensor) -> Tensor:
    hits = positives.cumsum(1)
    precision = hits / (hits + negatives.cumsum(1)).clamp(min=1)
    return (positives * precision).sum(1) / positives.sum(1)


def _f1_max(positives: Tensor, negatives: Tensor) -> Tensor:
    hits = positives.cumsum(1)
    total = positives.sum(1, keepdim=True)
    return f1_ratio(hits, negatives.cumsum(1), total).amax(1)


def _best_iou(positives: Tensor, negatives: Tensor) -> Tensor:
    total = positives.sum(1, keepdim=True)
    return iou_ratio(positives.cumsum(1), negatives.cumsum(1), total).amax(1)


def _aupro(negatives: Tensor, overlap: Tensor, fpr_limit: float) -> Tensor:
    """Trapezoids of PRO against the false positive rate, the last one cut at the limit."""
    rate = pad(negatives.cumsum(1) / negatives.sum(1, keepdim=True), (1, 0))
    pro = pad(overlap.cumsum(1) / overlap.sum(1, keepdim=True), (1, 0))
    left, right = rate[:, :-1], rate[:, 1:].clamp(max=fpr_limit)
    width = (right - left).clamp(min=0)
    reached = width / rate.diff(dim=1).clamp(min=torch.finfo(rate.dtype).tiny)
    height = pro[:, :-1] + pro.diff(dim=1) * reached / 2
    return (width * height).sum(1) / fpr_limit


_OF_PIXELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auroc": _auroc,
    "average_precision": _average_precision,
    "f1_max": _f1_max,
    "best_iou": _best_iou,
}
BOOTSTRAP_METRICS = (*_OF_PIXELS, "aupro")
"""The metrics that can be bootstrapped."""


def _percentiles(values: Tensor, confidence: float, units: int) -> tuple[float, float, int, str]:
    """Low, high, how many resamples have a value, and why there is no interval."""
    valid = values[~values.isnan()]
    if units < _FEWEST_UNITS:
        reason = f"{units} unit: an interval needs at least {_FEWEST_UNITS} images or clips"
    elif 2 * len(valid) < len(values):
        reason = "most resamples lack anomalous or normal pixels"
    else:
        tail = (1 - confidence) / 2
        ends = torch.quantile(valid, torch.tensor([tail, 1 - tail], dtype=valid.dtype))
        return float(ends[0]), float(ends[1]), len(valid), ""
    return math.nan, math.nan, len(valid), reason


def _too_coarse(error: float, low: float, high: float) -> bool:
    """Whether the grid's error is larger than what the resamples differ by."""
    return error > max(_GRID_ERROR, (high - low) / 2)


def _check_table(name: str, table: object) -> None:
    if not isinstance(table, UnitTable):
        raise TypeError(
            f"{name} is a {type(table).__name__}; wanted a UnitTable, such as PixelResult.units of "
            "PixelMetrics(units='images')"
        )


def _check_options(
    metrics: Sequence[str], confidence: float, resamples: int, seed: int, fpr_limit: float
) -> None:
    for metric in metrics:
        check_choice("metric", metric, BOOTSTRAP_METRICS)
    if not 0 < real_number("confidence", confidence) < 1:
        raise ValueError(f"confidence is {confidence}; wanted a share in (0, 1), such as 0.95")
    whole_number("resamples", resamples, least=1, hint="such as 1000")
    checked_seed(seed)
    check_fpr_limit(fpr_limit)


def _check_same_units(first: UnitTable, second: UnitTable) -> None:
    if not torch.equal(first.units, second.units):
        raise ValueError(
            f"the tables have {len(first.units)} and {len(second.units)} units, not the same ones; "
            "score the same images under the same protocol with both scorers"
        )
    for name in ("positives", "negatives"):
        if not torch.equal(getattr(first, name).sum(1), getattr(second, name).sum(1)):
            raise ValueError(
                f"the tables disagree on the number of {name} in a unit; score the same images "
                "under the same protocol with both scorers"
            )


def without_nan(entries: dict[str, Any]) -> dict[str, Any]:
    """The entries for JSON, which has no NaN: None instead."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in entries.items()
    }
