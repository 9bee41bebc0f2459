"""Image AUROC over batches and processes, as a torchmetrics ``Metric``."""

from typing import Any

import torch
from torch import Tensor

from captum_vae.metrics.localization.curves import (
    LocalizationScore,
    ThresholdCounts,
    auroc,
    threshold_counts,
)
from captum_vae.metrics.localization.images import Pooling, image_scores
from captum_vae.metrics.localization.states import ListStatesMetric


class ImageAUROC(ListStatesMetric):
    """AUROC of images or frames: does the score tell those with an anomaly?

    The state is one score and one label per image.
    """

    left_out: Tensor

    def __init__(self, *, pooling: Pooling = "max", **kwargs: Any) -> None:
        """Choose how a map becomes a score; ``kwargs`` are of ``torchmetrics.Metric``."""
        super().__init__(**kwargs)
        self.pooling = pooling
        self.add_list_state("scores", torch.float64)
        self.add_list_state("labels", torch.bool)
        self.add_state("left_out", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, maps: Tensor, labels: list[int | None]) -> None:
        """Add B images.

        Args:
            maps: (B, H, W) floats, or (B,) scores that are pooled already.
            labels: B times 1 (anomalous), 0 (normal) or None (unknown, left out).

        Raises:
            ValueError: shapes or numbers do not fit, or a label is something else.
        """
        scores = maps if maps.dim() == 1 else image_scores(maps, pooling=self.pooling)
        if len(labels) != len(scores) or any(label not in (0, 1, None) for label in labels):
            raise ValueError(
                f"labels is {labels!r} for {len(scores)} maps; wanted 0, 1 or None for each"
            )
        known = [index for index, label in enumerate(labels) if label is not None]
        self.left_out += len(labels) - len(known)
        self.parts("scores").append(scores.detach().double()[known])
        self.parts("labels").append(
            torch.tensor([labels[i] == 1 for i in known], device=scores.device)
        )

    def image_counts(self) -> ThresholdCounts:
        """Counts of images at every score of an anomalous one."""
        return threshold_counts(self.concatenated("scores"), self.concatenated("labels"))

    def compute(self) -> LocalizationScore:
        """The area; NaN with a reason when a class is missing."""
        return auroc(self.image_counts(), name="image_auroc")
