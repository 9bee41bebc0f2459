"""Exact counts of pixels at thresholds, small enough to lie beside a page.

The page's thresholds are float32 numbers with 7 bits of mantissa, 128 in each factor of two, and
those that the caller names. A pixel is called anomalous when its score is at or above the
threshold, so a count of scores between neighbouring thresholds says exactly what
``(map >= threshold).sum()`` says in Python, however few bits the picture of the map has.

Scores of a magnitude below 2^-12 of the largest seen so far share one bin: no threshold that small
is offered, because the largest score of all images is no smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vae.metrics.localization.keys import key_scores, score_keys
from captum_vae.metrics.localization.region_overlap import region_sizes

DROPPED_BITS = 16
"""Of a float32's 23 bits of mantissa; the others are the page's thresholds."""

SMALLEST_SHARE = 2.0**-12
"""The smallest magnitude of a threshold, as a share of the largest score."""

_WAITING = 1 << 17


@dataclass(frozen=True)
class Counts:
    """Pixels of one image or of many by the highest threshold that they reach.

    Attributes:
        edges: (T,) float64, ascending: the thresholds.
        normal: (T,) int64 numbers of normal pixels from this threshold up to the next.
        anomalous: (T,) int64 numbers of anomalous pixels; all 0 where the truth is unknown.
        overlap: (T,) float64 sums over anomalous regions of the share of a region's pixels.
        regions: The number of anomalous regions.
    """

    edges: NDArray[np.float64]
    normal: NDArray[np.int64]
    anomalous: NDArray[np.int64]
    overlap: NDArray[np.float64]
    regions: int

    @classmethod
    def empty(cls) -> Counts:
        """No pixel at all."""
        whole = np.zeros(0, dtype=np.int64)
        return cls(np.zeros(0), whole, whole, np.zeros(0), 0)


class Thresholds:
    """The thresholds of one kind of map, and what share a bin below them.

    Args:
        named: Thresholds that must be offered exactly, such as a calibrated one.
    """

    def __init__(self, named: Sequence[float] = ()) -> None:
        """No score has been seen."""
        self.named = np.unique(np.asarray(named, dtype=np.float64))
        self.largest = 0.0

    def count(
        self, scores: Tensor, mask: Tensor | None = None, ignored: Tensor | None = None
    ) -> Counts:
        """The counts of one image.

        Args:
            scores: (H, W) finite floats.
            mask: (H, W) bool, True on anomalous pixels; None counts all pixels as normal.
            ignored: (H, W) bool, True on pixels that do not count; None counts all.
        """
        values = scores.detach().cpu().contiguous()
        self.largest = max(self.largest, float(values.abs().max()))
        lowest = self._lowest_edges(values)
        counted = torch.ones_like(values, dtype=torch.bool) if ignored is None else ~ignored.cpu()
        truth = torch.zeros_like(counted) if mask is None else mask.cpu() & counted
        edges, where = np.unique(lowest, return_inverse=True)
        where = where.reshape(-1)
        inside = truth.numpy().reshape(-1)
        outside = (counted & ~truth).numpy().reshape(-1)
        bins = len(edges)
        overlap: NDArray[np.float64] = np.zeros(bins)
        regions = 0
        if inside.any():
            sizes, regions = region_sizes(truth)
            overlap += np.bincount(where[inside], weights=1 / sizes.numpy(), minlength=bins)
        return Counts(
            edges,
            np.bincount(where[outside], minlength=bins),
            np.bincount(where[inside], minlength=bins),
            overlap,
            regions,
        )

    def _lowest_edges(self, values: Tensor) -> NDArray[np.float64]:
        """(H * W,) for each score the highest threshold at or below it."""
        single = values.float()
        if values.dtype == torch.float64:
            # Rounding must not lift a score over a threshold, which is a float32 itself.
            above = single.double() > values
            single = torch.where(above, torch.nextafter(single, single - math.inf), single)
        keys = (score_keys(single) >> DROPPED_BITS) << DROPPED_BITS
        lowest: NDArray[np.float64] = key_scores(keys).double().flatten().numpy()
        least = self.least
        lowest[np.abs(lowest) < least] = -least
        if len(self.named):
            exact = values.double().numpy().reshape(-1)
            place = np.searchsorted(self.named, exact, side="right") - 1
            named = np.where(place >= 0, self.named[place], -np.inf)
            lowest = np.maximum(lowest, named)
        return lowest

    @property
    def least(self) -> float:
        """The smallest magnitude of a threshold so far: a power of two, hence a threshold."""
        if self.largest == 0:
            return 0.0
        return float(2.0 ** math.floor(math.log2(self.largest))) * SMALLEST_SHARE


class SummedCounts:
    """Counts of many images, summed in memory that does not grow with their number."""

    def __init__(self) -> None:
        """Nothing has been counted."""
        self._parts: list[Counts] = []
        self._waiting = 0

    def add(self, counts: Counts) -> None:
        """Add the counts of one image."""
        self._parts.append(counts)
        self._waiting += len(counts.edges)
        if self._waiting > _WAITING:
            self._parts = [self.total()]
            self._waiting = 0

    def total(self) -> Counts:
        """The sum of all that was added."""
        if not self._parts:
            return Counts.empty()
        every = np.concatenate([part.edges for part in self._parts])
        edges, where = np.unique(every, return_inverse=True)
        where = where.reshape(-1)
        normal = np.zeros(len(edges), dtype=np.int64)
        anomalous = np.zeros(len(edges), dtype=np.int64)
        overlap = np.zeros(len(edges))
        np.add.at(normal, where, np.concatenate([part.normal for part in self._parts]))
        np.add.at(anomalous, where, np.concatenate([part.anomalous for part in self._parts]))
        np.add.at(overlap, where, np.concatenate([part.overlap for part in self._parts]))
        return Counts(edges, normal, anomalous, overlap, sum(part.regions for part in self._parts))
