"""Pixel AUROC of a scorer on painted defects, and on resamples of the images underneath."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from captum_vae.localization.counters import ignored_pixels
from captum_vae.localization.counting import ScoredBatch
from captum_vae.localization.entries import Entry
from captum_vae.processes import gather

_BINS = 4096
"""Steps from a map's lowest to its highest score. Scores in one step count as tied."""


class PaintedCounter:
    """Counts of one scorer's pixels per image, on a grid from its lowest to its highest score."""

    def __init__(self, entry: Entry, images: int) -> None:
        """Start empty.

        Args:
            entry: The scorer and its protocol.
            images: How many images were painted on; image i is painted at the places i,
                i + images, i + 2 * images and so on of the data.
        """
        self.entry = entry
        self.scorer = entry.scorer
        self._images = images
        self._seen: list[tuple[int, Tensor, Tensor]] = []

    def add(self, maps: Tensor, scored: ScoredBatch) -> None:
        """Keep the prepared maps (B, h, w) of a batch, until :meth:`areas` counts them."""
        batch = scored.batch
        scores, masks = self.entry.protocol.prepare(maps, batch.mask, batch.label)
        left_out = ignored_pixels(batch, masks)
        for place, score, mask, left in zip(scored.places, scores, masks, left_out, strict=True):
            if mask is not None:
                counted = slice(None) if left is None else ~left
                truth = mask.to(score.device)
                self._seen.append((place % self._images, score[counted].flatten(), truth[counted]))

    def areas(self, weights: Tensor) -> tuple[float, Tensor]:
        """The AUROC over all images, and over each resample; the maps are freed.

        Args:
            weights: (R, images) how often each image is drawn in each resample.

        Returns:
            The area, and (R,) areas; NaN where a class of pixels is missing.
        """
        lowest = min((float(score.min()) for _, score, _ in self._seen), default=math.inf)
        highest = max((float(score.max()) for _, score, _ in self._seen), default=-math.inf)
        ends = gather((lowest, highest))
        lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
        counts = np.zeros((2, self._images, _BINS))
        factor = (_BINS - 1) / max(highest - lowest, 1e-30)
        for image, score, truth in self._seen:
            steps = (score.double() - lowest).mul_(factor).to(torch.int64).cpu()
            both = torch.bincount(steps + _BINS * truth.flatten().cpu(), minlength=2 * _BINS)
            counts[:, image] += both.view(2, _BINS).numpy()
        self._seen.clear()
        normal, anomalous = torch.from_numpy(np.sum(gather(counts), axis=0))
        # Pairs that a normal pixel of image i loses to an anomalous one of image j, ties half: a
        # sum over images drawn is then a sum of these, without a curve for every resample.
        won = (normal.cumsum(1) - normal / 2) @ anomalous.T
        every = torch.ones(1, self._images, dtype=torch.float64)
        sizes = normal.sum(1), anomalous.sum(1)
        return float(_areas(won, *sizes, every)[0]), _areas(won, *sizes, weights.double())


def _areas(won: Tensor, normal: Tensor, anomalous: Tensor, weights: Tensor) -> Tensor:
    """(R,) AUROC over images as often as they are drawn.

    Args:
        won: (images, images) pairs won by anomalous pixels of the second over normal ones of the
            first.
        normal: (images,) numbers of normal pixels.
        anomalous: (images,) numbers of anomalous pixels.
        weights: (R, images) how often each image is drawn.
    """
    pairs = (weights @ normal) * (weights @ anomalous)
    areas: Tensor = ((weights @ won) * weights).sum(1) / pairs
    return areas
