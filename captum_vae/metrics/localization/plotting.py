"""Curves of localization metrics, drawn from exact counts for torchmetrics' ``Metric.plot``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_vae.metrics.localization.curves import (
    LocalizationScore,
    RocCurve,
    ThresholdCounts,
    auroc,
    average_precision,
    best_iou,
    f1_max,
    f1_ratio,
    iou_ratio,
    roc_curve,
)
from captum_vae.metrics.localization.region_overlap import aupro, pro_curve

POINTS = 2000
"""Corners of a curve that are drawn at most; the numbers beside it come from all."""


def plot_roc(
    counts: ThresholdCounts | RocCurve, ax: Any = None, *, threshold: float | None = None
) -> Any:
    """The ROC curve with its area, and the point of a threshold on it.

    Args:
        counts: The counts at every threshold, or the curve itself.
        ax: Axes to draw in; None makes a figure.
        threshold: A score whose point is marked; None marks none.

    Returns:
        The figure and the axes.
    """
    curve = counts if isinstance(counts, RocCurve) else roc_curve(counts)
    rates = curve.false_positive_rate, curve.true_positive_rate
    if isinstance(counts, RocCurve):
        area = LocalizationScore("auroc", float(torch.trapezoid(*rates[::-1])))
    else:
        area = auroc(counts)
    figure, ax = _axes(ax, "false positive rate", "true positive rate")
    _line(ax, *rates, area)
    if threshold is not None and len(curve.thresholds):
        place = int((curve.thresholds >= threshold).sum()) - 1
        across, up = (float(rate[place]) if place >= 0 else 0.0 for rate in rates)
        _point(ax, across, up, threshold)
    return figure, ax


def plot_pro(
    counts: ThresholdCounts,
    ax: Any = None,
    *,
    fpr_limit: float = 0.3,
    threshold: float | None = None,
) -> Any:
    """The per-region overlap against the false positive rate, up to the limit of AUPRO.

    Args:
        counts: Counts with regions.
        ax: Axes to draw in; None makes a figure.
        fpr_limit: False positive rate up to which the area is taken.
        threshold: A score whose point is marked; None marks none.

    Returns:
        The figure and the axes.
    """
    rate, overlap = pro_curve(counts)
    figure, ax = _axes(ax, "false positive rate", "per-region overlap")
    _line(ax, rate, overlap, aupro(counts, fpr_limit=fpr_limit))
    ax.axvline(fpr_limit, color="0.6", linewidth=1, linestyle=":")
    if threshold is not None and counts.region_overlap is not None and len(counts.thresholds):
        place = int((counts.thresholds >= threshold).sum()) - 1
        if place >= 0:
            false = float(counts.false_positives[place]) / max(counts.negatives, 1)
            _point(ax, false, float(counts.region_overlap[place]), threshold)
    return figure, ax


def plot_precision(counts: ThresholdCounts, ax: Any = None) -> Any:
    """Precision against recall, with the average precision.

    Args:
        counts: The counts at every threshold.
        ax: Axes to draw in; None makes a figure.

    Returns:
        The figure and the axes.
    """
    hits, false = counts.true_positives.double(), counts.false_positives.double()
    figure, ax = _axes(ax, "recall", "precision")
    precision = hits / (hits + false).clamp(min=1)
    _line(ax, hits / max(counts.positives, 1), precision, average_precision(counts))
    return figure, ax


def plot_f1(counts: ThresholdCounts, ax: Any = None) -> Any:
    """F1 at every threshold, with the best one, which is chosen on the test labels.

    Args:
        counts: The counts at every threshold.
        ax: Axes to draw in; None makes a figure.

    Returns:
        The figure and the axes.
    """
    return _by_threshold(counts, ax, f1_max(counts), "F1", f1_ratio)


def plot_iou(counts: ThresholdCounts, ax: Any = None) -> Any:
    """The IoU at every threshold, with the best one, which is chosen on the test labels.

    Args:
        counts: The counts at every threshold.
        ax: Axes to draw in; None makes a figure.

    Returns:
        The figure and the axes.
    """
    return _by_threshold(counts, ax, best_iou(counts), "IoU", iou_ratio)


def plot_values(metric: Any, values: Any, ax: Any) -> Any:
    """Values of earlier computations, one or several, as torchmetrics draws them."""
    return metric._plot(_plain(values), ax)


def _plain(values: Any) -> Any:
    """Scores of this package as the tensors that torchmetrics draws."""
    if isinstance(values, LocalizationScore):
        return torch.tensor(values.value)
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes)):
        return [_plain(value) for value in values]
    return values


def _by_threshold(
    counts: ThresholdCounts,
    ax: Any,
    best: LocalizationScore,
    name: str,
    value_of: Callable[[Tensor, Tensor, int], Tensor],
) -> Any:
    figure, ax = _axes(ax, "threshold", name)
    values = value_of(
        counts.true_positives.double(), counts.false_positives.double(), counts.positives
    )
    _line(ax, counts.thresholds.double(), values, best)
    if best.threshold is not None:
        _point(ax, best.threshold, best.value, best.threshold)
    if len(counts.thresholds):
        ax.set_xlim(float(counts.thresholds[-1]), float(counts.thresholds[0]))
    return figure, ax


def _axes(ax: Any, across: str, up: str) -> Any:
    from matplotlib import pyplot

    figure, ax = pyplot.subplots() if ax is None else (ax.get_figure(), ax)
    ax.set(xlabel=across, ylabel=up, ylim=(-0.02, 1.02))
    ax.grid(alpha=0.3)
    return figure, ax


def _line(ax: Any, across: Tensor, up: Tensor, score: LocalizationScore) -> None:
    label = f"{score.name} {score.value:.4f}" if not score.reason else f"undefined: {score.reason}"
    chosen = torch.linspace(0, max(len(across) - 1, 0), min(len(across), POINTS)).round().long()
    ax.plot(across[chosen].cpu(), up[chosen].cpu(), label=label)
    ax.legend()


def _point(ax: Any, across: float, up: float, threshold: float) -> None:
    ax.plot([across], [up], "o", color="C3", label=f"threshold {threshold:.4g}")
    ax.legend()
