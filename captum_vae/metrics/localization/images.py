"""Scores of whole images and their AUROC, and the metrics of the pixels of one image."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from captum_vae.checks import check_choice
from captum_vae.metrics.localization.curves import (
    LocalizationScore,
    ThresholdCounts,
    auroc,
    average_precision,
    best_iou,
    f1_max,
    threshold_counts,
)
from captum_vae.metrics.localization.inputs import (
    Maps,
    check_mask,
    check_scores,
    maps_of_images,
)
from captum_vae.metrics.localization.states import PlainStates, States

Pooling = Literal["max", "mean", "top_percent"]


def image_scores(maps: Maps, *, pooling: Pooling = "max") -> Tensor:
    """One score per image from its map.

    Args:
        maps: (B, H, W) or (B, 1, H, W) floats, or B maps (H, W) of any sizes.
        pooling: "max" (the usual choice), "mean", or "top_percent", the mean of the highest 1% of
            the pixels, which one noisy pixel does not decide.

    Returns:
        (B,) scores of the maps' dtype.

    Raises:
        TypeError: A map is no tensor of floats.
        ValueError: A shape or the pooling is wrong, there is no map, or a value is not finite.
    """
    check_choice("pooling", pooling, get_args(Pooling))
    planes = maps_of_images(maps)
    if len({plane.shape for plane in planes}) == 1:
        return _pooled(torch.stack(planes).flatten(1), pooling)
    return torch.cat([_pooled(plane.flatten()[None], pooling) for plane in planes])


def scores_of_image(scores: Tensor, mask: Tensor) -> dict[str, LocalizationScore]:
    """AUROC, average precision, best F1 and best IoU of the pixels of a single image.

    Args:
        scores: (H, W) floats.
        mask: (H, W) bool.

    Returns:
        The scores by name; NaN with a reason for an image without defect.

    Raises:
        TypeError: The map is not of floats or the mask not bool.
        ValueError: Their shapes differ or a score is not finite.
    """
    check_scores(scores)
    check_mask(mask, scores)
    counts = threshold_counts(scores, mask.to(scores.device))
    values = (auroc(counts), average_precision(counts), f1_max(counts), best_iou(counts))
    return {score.name: score for score in values}


class ImageCounting(States):
    """One score and one label per image, in states that somebody else holds."""

    left_out: Tensor

    def __init__(self, *, pooling: Pooling = "max", **kwargs: Any) -> None:
        """Start empty.

        Args:
            pooling: How a map becomes a score, as in :func:`image_scores`.
            kwargs: Options of what holds the states.

        Raises:
            ValueError: The pooling is unknown.
        """
        super().__init__(**kwargs)
        check_choice("pooling", pooling, get_args(Pooling))
        self.pooling = pooling
        self.add_kind(get_args(Pooling).index(pooling))
        self.add_list_state("scores", torch.float64)
        self.add_list_state("labels", torch.bool)
        self.add_state("left_out", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, maps: Maps, labels: Sequence[int | None]) -> None:
        """Add B images.

        Args:
            maps: (B, H, W) or (B, 1, H, W) floats, B maps (H, W) of any sizes, or (B,) scores that
                are pooled already.
            labels: B times 1 (anomalous), 0 (normal) or None (unknown, left out).

        Raises:
            TypeError: The maps are not of floats.
            ValueError: Shapes or numbers do not fit, there is no image, a score is not finite, or a
                label is something else.
        """
        if isinstance(maps, Tensor) and maps.dim() == 1 and len(maps):
            check_scores(maps, "maps")
            scores = maps
        else:
            scores = image_scores(maps, pooling=self.pooling)
        labels = _checked_labels(labels, len(scores))
        known = [index for index, label in enumerate(labels) if label is not None]
        with self.counting() as device:
            self.left_out = self.left_out + (len(labels) - len(known))
            self.parts("scores").append(scores.detach().to(device, torch.float64)[known])
            self.parts("labels").append(
                torch.tensor([labels[i] == 1 for i in known], dtype=torch.bool, device=device)
            )

    def image_counts(self) -> ThresholdCounts:
        """Counts of images at every score of an anomalous one."""
        return threshold_counts(self.concatenated("scores"), self.concatenated("labels"))

    def area(self) -> LocalizationScore:
        """The area under the ROC curve; NaN with a reason when a class is missing."""
        return auroc(self.image_counts(), name="image_auroc")


class ImageCounts(ImageCounting, PlainStates):
    """Scores and labels of images within one process."""


def _pooled(pixels: Tensor, pooling: Pooling) -> Tensor:
    """(B,) scores of (B, P) pixels."""
    if pooling == "max":
        return pixels.amax(1)
    if pooling == "mean":
        return pixels.mean(1)
    return pixels.topk(max(1, pixels.shape[1] // 100), dim=1).values.mean(1)


def _checked_labels(labels: Sequence[int | None], images: int) -> list[int | None]:
    if isinstance(labels, Tensor):
        labels = labels.tolist()
    if not isinstance(labels, (list, tuple)):
        raise TypeError(f"labels is a {type(labels).__name__}; wanted a list of 0, 1 and None")
    # A number equal to 0 or 1 is a label, whatever its type; arrays compare to arrays.
    fitting = all(
        label is None or (isinstance(label, (int, float)) and label in (0, 1)) for label in labels
    )
    if len(labels) != images or not fitting:
        raise ValueError(f"labels is {labels!r} for {images} maps; wanted 0, 1 or None for each")
    return list(labels)
