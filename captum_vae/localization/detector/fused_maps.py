"""The maps of a detector: its scorer's, or those of several on a common scale, smoothed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from captum_vae.data.sample import SampleDataset
from captum_vae.localization.image_batches import ImageBatches
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
    total: Tensor | None = None
    scale_of = {id(scorer): scale for scorer, scale in zip(scorers, scales, strict=True)}
    sized = replace(protocol, size="mask")
    for scorer, maps, _ in score_batch(scorers, images):
        prepared: Tensor = sized.transform(maps, size) / scale_of[id(scorer)]
        total = prepared if total is None else total + prepared
    assert total is not None
    return total / len(scorers)


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
