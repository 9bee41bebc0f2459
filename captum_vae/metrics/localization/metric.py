"""Localization metrics over batches and processes, as torchmetrics ``Metric`` classes.

:class:`PixelMetrics` counts once and gives everything. The classes named after one metric give a
tensor each, for a ``MetricCollection`` (whose compute groups let them share one state) or for
logging; an undefined value is NaN, and a warning tells the reason. What they count, and the memory
that it takes, is told in :mod:`captum_vae.metrics.localization.pixel_counts`.
"""

from typing import Any

import torch
from torch import Tensor

from captum_vae.checks import real_number
from captum_vae.metrics.localization.curves import (
    LocalizationScore,
    RocCurve,
    auroc,
    average_precision,
    best_iou,
    f1_max,
    roc_curve,
)
from captum_vae.metrics.localization.images import ImageCounting
from captum_vae.metrics.localization.metric_states import ListStatesMetric
from captum_vae.metrics.localization.pixel_counts import PixelCounting, PixelResult, Units
from captum_vae.metrics.localization.plotting import (
    plot_f1,
    plot_iou,
    plot_precision,
    plot_pro,
    plot_roc,
    plot_values,
)
from captum_vae.metrics.localization.region_overlap import aupro, check_fpr_limit


class PixelCountsMetric(PixelCounting, ListStatesMetric):
    """Exact counts of pixels at every threshold; the base of the metrics of pixels."""

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes, see ``torchmetrics.Metric.sync``."""
        self._normal_counts().settle()
        super().sync(*args, **kwargs)

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the metric's curve, with its value, and the best threshold where it has one.

        Args:
            val: One result of ``compute`` or several, drawn as points; None draws the curve of the
                pixels seen so far.
            ax: Axes to draw in; None makes a figure.

        Returns:
            The figure and the axes.
        """
        return self._curve(ax) if val is None else plot_values(self, val, ax)

    def _curve(self, ax: Any) -> Any:
        return plot_roc(self.threshold_counts(), ax)

    def _value_and_threshold(self, score: LocalizationScore) -> dict[str, Tensor]:
        threshold = torch.nan if score.threshold is None else score.threshold
        return {
            score.name: self.tensor_of(score),
            f"{score.name}_oracle_threshold": torch.tensor(
                threshold, dtype=torch.float64, device=self.device
            ),
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
        return self.result(
            fpr_limit=self.fpr_limit,
            threshold=self.threshold,
            threshold_source=self.threshold_source,
        )

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


class ImageAUROC(ImageCounting, ListStatesMetric):
    """AUROC of images or frames: does the score tell those with an anomaly from the others?

    The state is one score and one label per image.
    """

    def compute(self) -> LocalizationScore:
        """The area; NaN with a reason when a class is missing."""
        return self.area()

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the ROC curve of the images; with ``val``, values of earlier computations.

        Args:
            val: One result of ``compute`` or several, drawn as points; None draws the curve.
            ax: Axes to draw in; None makes a figure.

        Returns:
            The figure and the axes.
        """
        if val is not None:
            return plot_values(self, val, ax)
        return plot_roc(self.image_counts(), ax)
