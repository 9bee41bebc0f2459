"""Counts per image or clip on a common grid of thresholds: what a bootstrap resamples.

Resampling images must not go back to their pixels. So each unit (image or clip) keeps a histogram
of its normal scores, its anomalous scores and their shares of regions. A bin is a range of
consecutive float32 numbers: at first 8,192 bins per factor of two, so that no range has to be known
beforehand; when all histograms together exceed 262,144 entries of 36 bytes, or 1,024 per unit where
that is more, neighbouring bins are joined two by two, over all units. :func:`unit_table` finally
joins bins to a grid of at most about a thousand, none of which holds more than 1/512 of all
anomalous or of all normal pixels unless a single bin does.

Counts are exact; which of two scores in the same bin is larger is forgotten, so they count as tied;
so do float64 scores that round to the same float32. Point estimates come from
:class:`~captum_vae.metrics.localization.curves.ThresholdCounts`, which are exact; a grid serves the
spread around them and tells its own value, to be compared.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_vae.metrics.localization.counts import run_sums, sorted_values

FIRST_SHIFT = 10
_ENTRIES = 1 << 18
_ENTRIES_PER_UNIT = 1 << 10
_LARGEST_SHARE = 512


@dataclass(frozen=True)
class UnitTable:
    """Counts of U units in G bins, from the highest scores to the lowest.

    Attributes:
        units: (U,) int64 numbers of the units, ascending; :func:`unit_id` gives them.
        positives: (U, G) int64 numbers of anomalous pixels.
        negatives: (U, G) int64 numbers of normal pixels.
        overlap: (U, G) float64 sums over anomalous pixels of 1 / size of their region.
        grid_error: How far the AUROC of all units on the grid is from the exact one.
    """

    units: Tensor
    positives: Tensor
    negatives: Tensor
    overlap: Tensor
    grid_error: float = 0.0


@dataclass
class UnitEntries:
    """Histogram entries of many units; concatenating two is adding them.

    The lists hold tensors to be concatenated, and are changed in place so that a torchmetrics
    state can own them.

    Attributes:
        units: Numbers of the entries' units, int64.
        bins: Keys of the lowest score of the entries' bins, int32.
        positives: Numbers of anomalous pixels, int64.
        negatives: Numbers of normal pixels, int64.
        overlap: Sums over anomalous pixels of 1 / size of their region, float64.
        shift: A bin has 2^shift keys.
    """

    units: list[Tensor]
    bins: list[Tensor]
    positives: list[Tensor]
    negatives: list[Tensor]
    overlap: list[Tensor]
    shift: int = FIRST_SHIFT

    def add(self, unit: int, negatives: Tensor, positives: Tensor, sizes: Tensor) -> None:
        """Add pixels of a unit.

        Args:
            unit: The number of the unit, from :func:`unit_id`.
            negatives: (N,) int32 keys of the normal pixels.
            positives: (P,) int32 keys of the anomalous pixels.
            sizes: (P,) int64 sizes of the anomalous pixels' regions.
        """
        bins, counts = torch.unique_consecutive(
            sorted_values(negatives >> self.shift), return_counts=True
        )
        self._append(unit, bins, torch.zeros_like(counts), counts, counts.double() * 0)
        codes = sorted_values(((positives >> self.shift).to(torch.int64) << 32) | sizes)
        bins, counts = torch.unique_consecutive(codes >> 32, return_counts=True)
        overlap = run_sums((codes & 0xFFFFFFFF).double().reciprocal(), counts)
        self._append(unit, bins, counts, torch.zeros_like(counts), overlap)
        # Counting now and then only: it would take a second per thousand images otherwise.
        if len(self.bins) % 32 < 2:  # two parts came
            self.compact()

    def compact(self) -> None:
        """Merge the entries where they are many, in coarser and coarser bins until they are few."""
        merged = len(self.bins[0]) if self.bins else 0
        if sum(len(part) for part in self.bins) <= 2 * max(_ENTRIES, merged):
            return
        self.merge()
        most = max(_ENTRIES, _ENTRIES_PER_UNIT * len(torch.unique(self.units[0])))
        while len(self.bins[0]) > most:
            self.shift += 1
            self.merge()

    def merge(self) -> None:
        """Add the entries of the same unit and bin."""
        if not self.bins:
            return
        bins = (torch.cat(self.bins) >> self.shift) << self.shift
        units, unit = torch.unique(torch.cat(self.units), return_inverse=True)
        code = (unit << 32) | (bins.to(torch.int64) + (1 << 31))
        codes, entry = torch.unique(code, return_inverse=True)
        self.units[:] = [units[codes >> 32]]
        self.bins[:] = [((codes & 0xFFFFFFFF) - (1 << 31)).to(torch.int32)]
        for column in (self.positives, self.negatives, self.overlap):
            values = torch.cat(column)
            column[:] = [values.new_zeros(len(codes)).index_add_(0, entry, values)]

    def _append(
        self, unit: int, bins: Tensor, positives: Tensor, negatives: Tensor, overlap: Tensor
    ) -> None:
        self.units.append(torch.full_like(positives, unit))
        self.bins.append((bins << self.shift).to(torch.int32))
        self.positives.append(positives)
        self.negatives.append(negatives)
        self.overlap.append(overlap)


def unit_id(name: str) -> int:
    """A number for the name of an image or clip, the same in every process and on every machine."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def unit_table(entries: UnitEntries) -> UnitTable:
    """Join the bins to a grid and spread the entries over it.

    Raises:
        ValueError: There are no entries.
    """
    if not entries.bins:
        raise ValueError("no pixel was counted per unit; update with units='images' or 'groups'")
    entries.merge()
    units, unit = torch.unique(entries.units[0], return_inverse=True)
    bins, column = torch.unique(entries.bins[0], return_inverse=True)
    mass = torch.zeros(len(bins), dtype=torch.float64, device=bins.device)
    for counts in (entries.positives[0], entries.negatives[0]):
        share = counts.double() / counts.sum().clamp(min=1)
        mass.index_add_(0, column, share * _LARGEST_SHARE)
    joined = torch.arange(len(bins), device=bins.device)
    if len(bins) > 2 * _LARGEST_SHARE:
        _, joined = torch.unique((mass.cumsum(0) - mass / 2).floor(), return_inverse=True)
    bins_joined = int(joined[-1]) + 1
    position = unit * bins_joined + (bins_joined - 1 - joined[column])

    def spread(values: Tensor) -> Tensor:
        table = values.new_zeros(len(units) * bins_joined)
        return table.index_add_(0, position, values).view(len(units), bins_joined)

    return UnitTable(
        units,
        spread(entries.positives[0]),
        spread(entries.negatives[0]),
        spread(entries.overlap[0]),
    )
