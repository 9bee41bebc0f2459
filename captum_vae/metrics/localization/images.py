"""Scores of whole images, and the metrics of one image: which are worst, which are best."""

from typing import Literal, get_args

from torch import Tensor

from captum_vae.metrics.localization.curves import (
    LocalizationScore,
    auroc,
    average_precision,
    best_iou,
    f1_max,
    threshold_counts,
)

Pooling = Literal["max", "mean", "top_percent"]


def image_scores(maps: Tensor, *, pooling: Pooling = "max") -> Tensor:
    """One score per image from its map.

    Args:
        maps: (B, H, W) floats.
        pooling: "max" (the usual choice), "mean", or "top_percent", the mean of the highest 1% of
            the pixels, which one noisy pixel does not decide.

    Returns:
        (B,) of the maps' dtype.

    Raises:
        ValueError: the shape or the pooling is wrong.
    """
    if maps.dim() != 3 or not maps[:1].numel():
        raise ValueError(f"maps has shape {tuple(maps.shape)}; wanted (B, H, W) with pixels")
    if pooling not in get_args(Pooling):
        names = ", ".join(get_args(Pooling))
        raise ValueError(f"pooling={pooling!r} is not known; choose one of {names}")
    pixels = maps.flatten(1)
    if pooling == "max":
        return pixels.amax(1)
    if pooling == "mean":
        return pixels.mean(1)
    return pixels.topk(max(1, pixels.shape[1] // 100), dim=1).values.mean(1)


def scores_of_image(scores: Tensor, mask: Tensor) -> dict[str, LocalizationScore]:
    """AUROC, average precision, best F1 and best IoU of a single image.

    Args:
        scores: (H, W) floats.
        mask: (H, W) bool.

    Returns:
        By name; NaN with a reason for an image without defect.

    Raises:
        TypeError: the map is not of floats or the mask not bool.
        ValueError: their shapes differ or a score is NaN.
    """
    counts = threshold_counts(scores, mask.to(scores.device))
    values = (auroc(counts), average_precision(counts), f1_max(counts), best_iou(counts))
    return {score.name: score for score in values}
