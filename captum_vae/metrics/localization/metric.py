"""Localization metrics over batches and processes, as torchmetrics ``Metric`` classes.

:class:`PixelMetrics` counts once and gives everything. The classes named after one metric give a
tensor each, for a ``MetricCollection`` (whose compute groups let them share one state) or for
logging; an undefined value is NaN, and a warning tells the reason. What they count, and the memory
that it takes, is told in :mod:`captum_vae.metrics.localization.pixel_counts`.
"""

from typing import Any

from torch import Tensor

from captum_vae.checks import real_number
from captum_vae.metrics.localization.bootstrap import with_grid_error
from captum_vae.metrics.localization.curves import (
    LocalizationScore,
    RocCurve,
    ThresholdCounts,
    at_threshold,
    auroc,
    average_precision,
    best_iou,
    f1_max,
    roc_curve,
)
from captum_vae.metrics.localization.pixel_counts import PixelCountsMetric, Units
from captum_vae.metrics.localization.plotting import (
    plot_f1,
    plot_iou,
    plot_precision,
    plot_pro,
    plot_roc,
)
from captum_vae.metrics.localization.region_overlap import aupro, check_fpr_limit
from captum_vae.metrics.localization.units import UnitTable, unit_table


class PixelResult:
    """What :class:`PixelMetrics` found.

    Not a dataclass, because torchmetrics takes those apart.

    Attributes:
        scores: The scores by name: auroc, average_precision, f1_max, best_iou, aupro; with a
            threshold given, also f1, iou, recall and false_positive_rate at it.
        counts: The counts at every threshold that matters, for ROC and PRO curves.
        units: The counts per image or clip for the bootstrap; None when they were not kept.
        images: How many images were counted.
        left_out: How many images were left out because no mask was given for them.
    """

    def __init__(
        self,
        scores: dict[str, LocalizationScore],
        counts: ThresholdCounts,
        units: UnitTable | None,
        images: int,
        left_out: int,
    ) -> None:
        """Hold what was found."""
        self.scores = scores
        self.counts = counts
        self.units = units
        self.images = images
        self.left_out = left_out

    def to_dict(self) -> dict[str, Any]:
        """The values and the numbers of images and pixels, for JSON."""
        return {
            "images": self.images,
            "images_left_out": self.left_out,
            "anomalous_pixels": self.counts.positives,
            "normal_pixels": self.counts.negatives,
            "regions": self.counts.regions,
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
        }


class PixelMetrics(PixelCountsMetric):
    """All localization metrics of one scorer, from one count.

    Example::

        metric = PixelMetrics(units="images")
        for batch in loader:
            metric.update(scorer.score(batch.image), batch.mask, batch.name)
        result = metric.compute()
        print(result.scores["auroc"], bootstrap_interval(result.units, "auroc"))
    """

    def __init__(
        self,
        *,
        fpr_limit: float = 0.3,
        threshold: float | None = None,
        threshold_source: str = "train_quantile",
        units: Units = "none",
        **kwargs: Any,
    ) -> None:
        """Choose what to compute.

        Args:
            fpr_limit: False positive rate up to which AUPRO integrates, in (0, 1].
            threshold: Adds F1, IoU, recall and false positive rate at this score.
            threshold_source: Where the threshold came from, stored with those values.
            units: What the bootstrap table counts separately: "none", "images" or "groups".
            kwargs: Options of ``torchmetrics.Metric``.

        Raises:
            TypeError: A number is none.
            ValueError: An option is out of its range.
        """
        if threshold is not None:
            threshold = real_number("threshold", threshold)
        check_fpr_limit(fpr_limit)
        super().__init__(regions=True, units=units, **kwargs)
        self.fpr_limit = fpr_limit
        self.threshold = threshold
        self.threshold_source = threshold_source

    def compute(self) -> PixelResult:
        """Everything about the pixels seen so far."""
        counts = self.threshold_counts()
        values = [auroc(counts), average_precision(counts), f1_max(counts), best_iou(counts)]
        values.append(aupro(counts, fpr_limit=self.fpr_limit))
        scores = {score.name: score for score in values}
        with self.counting():
            if self.threshold is not None:
                false = self._normal_counts().at_least(self.threshold)
                source = self.threshold_source
                scores |= at_threshold(counts, self.threshold, false, source=source)
            entries = self._unit_entries()
            units = None
            if any(len(part) for part in entries.bins):
                units = with_grid_error(unit_table(entries), scores["auroc"].value)
        return PixelResult(scores, counts, units, int(self.images), int(self.left_out))

    def plot(self, val: PixelResult | None = None, ax: Any = None) -> Any:
        """Draw the ROC and PRO curves, with the point of the threshold where one was given.

        Args:
            val: A result of ``compute``; None computes it.
            ax: Two axes to draw in; None makes a figure.

        Returns:
            The figure and the two axes.
        """
        from matplotlib import pyplot

        counts = (self.compute() if val is None else val).counts
        figure, axes = pyplot.subplots(1, 2, figsize=(10, 4)) if ax is None else (None, ax)
        figure = axes[0].get_figure() if figure is None else figure
        plot_roc(counts, axes[0], threshold=self.threshold)
        plot_pro(counts, axes[1], fpr_limit=self.fpr_limit, threshold=self.threshold)
        return figure, axes


class PixelAUROC(PixelCountsMetric):
    """Area under the ROC curve of all pixels, a float64 scalar."""

    def compute(self) -> Tensor:
        """The area; NaN and a warning when a class is missing."""
        return self.tensor_of(auroc(self.threshold_counts()))


class PixelAveragePrecision(PixelCountsMetric):
    """Average precision of all pixels, a float64 scalar."""

    def compute(self) -> Tensor:
        """The average precision; NaN and a warning when a class is missing."""
        return self.tensor_of(average_precision(self.threshold_counts()))

    def _curve(self, ax: Any) -> Any:
        return plot_precision(self.threshold_counts(), ax)


class PixelF1Max(PixelCountsMetric):
    """Best F1 over all thresholds, with the threshold, which is fitted on the test labels."""

    def compute(self) -> dict[str, Tensor]:
        """``f1_max`` and ``f1_max_oracle_threshold``; NaN and a warning when a class is missing."""
        return self._value_and_threshold(f1_max(self.threshold_counts()))

    def _curve(self, ax: Any) -> Any:
        return plot_f1(self.threshold_counts(), ax)


class PixelBestIoU(PixelCountsMetric):
    """Best IoU over all thresholds, with the threshold, which is fitted on the test labels."""

    def compute(self) -> dict[str, Tensor]:
        """``best_iou`` and ``best_iou_oracle_threshold``; NaN and a warning without a class."""
        return self._value_and_threshold(best_iou(self.threshold_counts()))

    def _curve(self, ax: Any) -> Any:
        return plot_iou(self.threshold_counts(), ax)


class PixelROC(PixelCountsMetric):
    """The whole ROC curve of all pixels."""

    def compute(self) -> RocCurve:
        """The corners of the curve; none when a class is missing."""
        return roc_curve(self.threshold_counts())

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the ROC curve of all pixels.

        Args:
            val: A curve that ``compute`` returned; None draws that of the pixels seen so far.
            ax: Axes to draw in; None makes a figure.

        Returns:
            The figure and the axes.
        """
        return plot_roc(self.threshold_counts() if val is None else val, ax)


class AUPRO(PixelCountsMetric):
    """Area under the per-region overlap, a float64 scalar."""

    def __init__(self, *, fpr_limit: float = 0.3, **kwargs: Any) -> None:
        """Start empty.

        Args:
            fpr_limit: False positive rate up to which the curve is integrated.
            kwargs: Options of ``torchmetrics.Metric``.

        Raises:
            TypeError: The limit is no number.
            ValueError: The limit is outside (0, 1].
        """
        check_fpr_limit(fpr_limit)
        super().__init__(regions=True, **kwargs)
        self.fpr_limit = fpr_limit

    def compute(self) -> Tensor:
        """The area divided by the limit; NaN and a warning when a class is missing."""
        return self.tensor_of(aupro(self.threshold_counts(), fpr_limit=self.fpr_limit))

    def _curve(self, ax: Any) -> Any:
        return plot_pro(self.threshold_counts(), ax, fpr_limit=self.fpr_limit)
