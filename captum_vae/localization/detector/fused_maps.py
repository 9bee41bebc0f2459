"""The maps of a detector: its scorer's, or those of several on a common scale, smoothed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from captum_vae.data.sample import SampleDataset
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.preparation import transform_maps
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.localization.scoring import score_batch


def fused_maps(
    scorers: Sequence[AnomalyScorer],
    scales: Sequence[float],
    protocol: Protocol,
    images: Tensor,
) -> Tensor:
    """Smoothed maps (B, H, W): the scorer's, or the mean of several on a common scale."""
    size = (int(images.shape[2]), int(images.shape[3]))
    scale_of = {id(scorer): scale for scorer, scale in zip(scorers, scales, strict=True)}
    scaled = ((maps, scale_of[id(scorer)]) for scorer, maps, _ in score_batch(scorers, images))
    return mean_map(scaled, size, protocol.smoothing, count=len(scorers))


def mean_map(
    scaled: Iterable[tuple[Tensor, float]], size: tuple[int, int], smoothing: float, *, count: int
) -> Tensor:
    """Maps (B, h, w), each resized to (H, W), smoothed and divided by its scale, as one (B, H, W).

    Args:
        scaled: The maps of each scorer, and its scale.
        size: (H, W).
        smoothing: Standard deviation of the Gaussian, in pixels of the result.
        count: How many scorers there are.
    """
    total: Tensor | None = None
    for maps, scale in scaled:
        prepared = transform_maps(maps, size, compared="mask", smoothing=smoothing) / scale
        total = prepared if total is None else total + prepared
    assert total is not None
    return total / count


def common_scales(
    scorers: Sequence[AnomalyScorer],
    held_out: SampleDataset,
    protocol: Protocol,
    passes: Mapping[str, Any],
) -> tuple[float, ...]:
    """The root mean square of each scorer's maps over images that it was not fitted on."""
    if len(scorers) == 1:
        return (1.0,)
    squares, count = np.zeros(len(scorers)), 0
    for _, batch in ImageBatches(held_out, "normal", truth=False, **passes).numbered("scales"):
        for place, scorer in enumerate(scorers):
            maps = fused_maps([scorer], [1.0], protocol, batch.image)
            squares[place] += float(maps.double().square().mean((1, 2)).sum())
        count += len(batch.image)
    found = np.sqrt(squares / count)
    if not found.all():
        silent = [type(s).__name__ for s, scale in zip(scorers, found, strict=True) if not scale]
        raise ValueError(f"{', '.join(silent)} give all-zero maps for every normal image")
    return tuple(found.tolist())
