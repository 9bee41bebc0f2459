"""What every threshold does to the pixels, and the metrics that follow from it.

Lowering a threshold past normal pixels only raises the false positives, so precision, F1 and IoU
are best, the recall changes, and the ROC curve has its corners, at scores of anomalous pixels.
:class:`ThresholdCounts` therefore holds those thresholds only, and loses nothing.
"""

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_vae.checks import real_number, whole_number
from captum_vae.metrics.localization.inputs import check_mask, check_scores

_PART = 1 << 17
NO_ANOMALOUS = "no anomalous pixel or image in the set"
NO_NORMAL = "no normal pixel or image in the set"


class LocalizationScore(NamedTuple):
    """A metric's value, or why there is none.

    Attributes:
        name: The name of the metric.
        value: The value, NaN where undefined.
        reason: Why the value is undefined; empty otherwise.
        threshold: Scores at or above it are called anomalous; None where the metric has none.
        threshold_source: Where the threshold came from; ``oracle`` is chosen on the test labels.
    """

    name: str
    value: float
    reason: str = ""
    threshold: float | None = None
    threshold_source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, which has no NaN: an undefined value is None."""
        value = None if math.isnan(self.value) else self.value
        entries: dict[str, Any] = {"name": self.name, "value": value, "reason": self.reason}
        if self.threshold_source:
            entries |= {"threshold": self.threshold, "threshold_source": self.threshold_source}
        return entries

    def __str__(self) -> str:
        """The value with four digits, or the reason, and where the threshold came from."""
        value = f"undefined, {self.reason}" if math.isnan(self.value) else f"{self.value:.4f}"
        at = "" if self.threshold is None else f" at {self.threshold:.6g}"
        source = f" ({self.threshold_source} threshold{at})" if self.threshold_source else ""
        return f"{self.name} {value}{source}"


@dataclass(frozen=True)
class ThresholdCounts:
    """Integer counts at each of T thresholds, the distinct scores of anomalous pixels.

    Attributes:
        thresholds: (T,) scores, descending; float64 where a score of the set is no float32.
        true_positives: (T,) numbers of anomalous pixels at or above the threshold; int64, or int32
            where the number of pixels allows, to save memory: convert before multiplying.
        false_positives: (T,) numbers of normal pixels at or above it, of the same type.
        tied_negatives: (T,) numbers of normal pixels exactly at it, of the same type.
        positives: The number P of anomalous pixels.
        negatives: The number N of normal pixels.
        region_overlap: (T,) float64 means over the anomalous regions of the share of a region at or
            above the threshold; None where regions were not looked at.
        regions: The number of regions.
    """

    thresholds: Tensor
    true_positives: Tensor
    false_positives: Tensor
    tied_negatives: Tensor
    positives: int
    negatives: int
    region_overlap: Tensor | None = None
    regions: int = 0

    @property
    def undefined(self) -> str:
        """Why no metric is defined; empty when all are."""
        if not self.positives:
            return NO_ANOMALOUS
        return "" if self.negatives else NO_NORMAL

    def parts(self) -> Iterator["CountsPart"]:
        """The counts some thresholds at a time, so that metrics need little memory."""
        before = 0
        for start in range(0, len(self.thresholds), _PART):
            part = slice(start, start + _PART)
            true = self.true_positives[part].to(torch.int64)
            hits = true.diff(prepend=true.new_full((1,), before))
            false = self.false_positives[part].to(torch.int64)
            tied = self.tied_negatives[part].to(torch.int64)
            overlap = None if self.region_overlap is None else self.region_overlap[part]
            before = int(true[-1])
            yield CountsPart(start, hits, true, false, tied, overlap)


class CountsPart(NamedTuple):
    """Some t consecutive thresholds of :class:`ThresholdCounts`, all counts int64.

    Attributes:
        start: The position of the first of them among all T.
        hits: (t,) numbers of anomalous pixels exactly at the threshold.
        true_positives: (t,) numbers of anomalous pixels at or above it.
        false_positives: (t,) numbers of normal pixels at or above it.
        tied_negatives: (t,) numbers of normal pixels exactly at it.
        region_overlap: (t,) mean shares of a region at or above it; None where regions were not
            looked at.
    """

    start: int
    hits: Tensor
    true_positives: Tensor
    false_positives: Tensor
    tied_negatives: Tensor
    region_overlap: Tensor | None


class RocCurve(NamedTuple):
    """Corners of a ROC curve, from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: (V,) float64, the horizontal axis.
        true_positive_rate: (V,) float64, the vertical axis.
        thresholds: (V,) scores; at or above the i-th, both rates are the i-th.
    """

    false_positive_rate: Tensor
    true_positive_rate: Tensor
    thresholds: Tensor


def threshold_counts(scores: Tensor, anomalous: Tensor) -> ThresholdCounts:
    """Count a set that fits in memory: the scores of one image, or one score per image.

    Args:
        scores: Floats of any shape and precision.
        anomalous: Labels of the same shape, bool.

    Raises:
        TypeError: ``scores`` are no floats or ``anomalous`` is not bool.
        ValueError: The shapes differ or a score is not finite.
    """
    check_scores(scores)
    check_mask(anomalous, scores, "anomalous")
    scores = scores.detach()
    thresholds, hits = torch.unique(scores[anomalous], return_counts=True)
    normal = scores[~anomalous].sort().values
    below = torch.searchsorted(normal, thresholds)
    tied = torch.searchsorted(normal, thresholds, right=True) - below
    return ThresholdCounts(
        thresholds=thresholds.flip(0),
        true_positives=hits.flip(0).cumsum(0),
        false_positives=(len(normal) - below).flip(0),
        tied_negatives=tied.flip(0),
        positives=int(anomalous.sum()),
        negatives=len(normal),
    )


def auroc(counts: ThresholdCounts, *, name: str = "auroc") -> LocalizationScore:
    """Area under the ROC curve: the chance that an anomalous pixel outscores a normal one.

    The sum over pairs is made of integers, a tie counting half, and divided once.
    """
    if counts.undefined:
        return LocalizationScore(name, math.nan, counts.undefined)
    won_twice = 0
    pairs_twice = 2 * counts.positives * counts.negatives
    for part in counts.parts():
        weights = 2 * (counts.negatives - part.false_positives) + part.tied_negatives
        if pairs_twice < 1 << 63:
            won_twice += int((part.hits * weights).sum())
        else:  # Python's integers never overflow
            won_twice += sum(map(operator.mul, part.hits.tolist(), weights.tolist()))
    return LocalizationScore(name, won_twice / pairs_twice)


def average_precision(
    counts: ThresholdCounts, *, name: str = "average_precision"
) -> LocalizationScore:
    """Sum over thresholds of the precision times the step of the recall, without interpolation."""
    if counts.undefined:
        return LocalizationScore(name, math.nan, counts.undefined)
    weighted = 0.0
    for part in counts.parts():
        precision = part.true_positives / (part.true_positives + part.false_positives).double()
        weighted += float((part.hits * precision).sum())
    return LocalizationScore(name, weighted / counts.positives)


def f1_max(counts: ThresholdCounts, *, name: str = "f1_max") -> LocalizationScore:
    """Best F1 over all distinct thresholds, the highest such threshold: an oracle's choice."""
    return _best(
        counts,
        lambda part: f1_ratio(part.true_positives.double(), part.false_positives, counts.positives),
        name,
    )


def best_iou(counts: ThresholdCounts, *, name: str = "best_iou") -> LocalizationScore:
    """Best intersection over union over all distinct thresholds: an oracle's choice.

    Pixels of all images are pooled. The threshold is that of :func:`f1_max`, F1 = 2 IoU / (1 + IoU)
    being increasing.
    """
    return _best(
        counts,
        lambda part: iou_ratio(
            part.true_positives.double(), part.false_positives, counts.positives
        ),
        name,
    )


def f1_ratio(hits: Tensor, false: Tensor, positives: Tensor | int) -> Tensor:
    """F1 where ``hits`` of all ``positives`` are found, and ``false`` others; counts as floats."""
    return 2 * hits / (hits + false + positives)


def iou_ratio(hits: Tensor, false: Tensor, positives: Tensor | int) -> Tensor:
    """The IoU where ``hits`` of all ``positives`` are found, and ``false`` others."""
    return hits / (positives + false)


def at_threshold(
    counts: ThresholdCounts, threshold: float, false_positives: int, *, source: str
) -> dict[str, LocalizationScore]:
    """F1, IoU, recall and false positive rate at a threshold from elsewhere.

    Args:
        counts: The counts of the set.
        threshold: Scores at or above it are called anomalous.
        false_positives: The number of normal pixels at or above it, which ``counts`` cannot tell.
        source: Where the threshold came from, printed with each value.

    Raises:
        TypeError: The threshold is no number.
        ValueError: The threshold is not finite.
    """
    threshold = real_number("threshold", threshold)
    reached = int((counts.thresholds.double() >= threshold).sum())
    hits = int(counts.true_positives[reached - 1]) if reached else 0
    union = counts.positives + false_positives
    values = {
        "f1": (2 * hits, hits + union),
        "iou": (hits, union),
        "recall": (hits, counts.positives),
        "false_positive_rate": (false_positives, counts.negatives),
    }
    scores = {}
    for name, (part, whole) in values.items():
        value = math.nan if counts.undefined else part / whole
        scores[name] = LocalizationScore(name, value, counts.undefined, threshold, source)
    return scores


def roc_curve(counts: ThresholdCounts) -> RocCurve:
    """The whole ROC curve, exactly: straight lines between its corners leave nothing out.

    At each threshold t there are two corners, just above t and at t; a slanted line between them
    means normal pixels tied with anomalous ones.

    Returns:
        The corners; none when a class is missing.
    """
    if counts.undefined:
        nothing = counts.thresholds.new_zeros(0, dtype=torch.float64)
        return RocCurve(nothing, nothing, counts.thresholds[:0])
    vertical = counts.true_positives.to(torch.int64)
    above = pad(vertical[:-1], (1, 0))
    horizontal = counts.false_positives.to(torch.int64)
    false = _interleave(horizontal - counts.tied_negatives, horizontal, counts.negatives)
    true = _interleave(above, vertical, counts.positives)
    infinity = counts.thresholds.new_full((1,), math.inf)
    just_above = torch.nextafter(counts.thresholds, infinity)
    steps = torch.stack([just_above, counts.thresholds], 1).flatten()
    thresholds = torch.cat([infinity, steps, -infinity])
    moved = pad((false.diff() != 0) | (true.diff() != 0), (1, 0), value=True)
    return RocCurve(
        false[moved].double() / counts.negatives,
        true[moved].double() / counts.positives,
        thresholds[moved],
    )


def thinned(x: Tensor, y: Tensor, *, points: int = 1000) -> tuple[Tensor, Tensor]:
    """A monotone curve of V corners with few enough of them to draw, ends included.

    Corners are picked at even steps of the path length, so neither axis is left out.

    Args:
        x: (V,) positions that never decrease.
        y: (V,) heights that never decrease.
        points: How many corners to keep at most.

    Raises:
        TypeError: ``points`` is no whole number.
        ValueError: ``points`` is below 2, the ends of the curve.
    """
    points = whole_number("points", points, least=2)
    if len(x) <= points:
        return x, y
    length = (x - x[0]) + (y - y[0])
    steps = torch.linspace(0, 1, points, dtype=length.dtype, device=length.device) * length[-1]
    kept = torch.searchsorted(length, steps).clamp(max=len(x) - 1)
    kept[0], kept[-1] = 0, len(x) - 1
    return x[kept], y[kept]


def _best(
    counts: ThresholdCounts, ratio: Callable[[CountsPart], Tensor], name: str
) -> LocalizationScore:
    if counts.undefined:
        return LocalizationScore(name, math.nan, counts.undefined, threshold_source="oracle")
    value, best = -math.inf, 0
    for part in counts.parts():
        ratios = ratio(part)
        highest = int(ratios.argmax())
        if float(ratios[highest]) > value:
            value, best = float(ratios[highest]), part.start + highest
    return LocalizationScore(name, value, "", float(counts.thresholds[best]), "oracle")


def _interleave(first: Tensor, second: Tensor, last: int) -> Tensor:
    """(2 T + 2,) int64: 0, first[0], second[0], first[1], ..., last."""
    steps = torch.stack([first, second], 1).flatten()
    return torch.cat([steps.new_zeros(1), steps, steps.new_full((1,), last)])
