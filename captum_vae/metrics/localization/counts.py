"""Exact counts of scores, in memory bounded by their dynamic range and not by their number.

An exact area under a curve needs every distinct score: nothing smaller than the multiset of scores
suffices, because an anomalous pixel that arrives later may fall between any two of them. But a
float32 is one of 2^23 values per factor of two, so a multiset of any size fits a counter per value:

- A score becomes an int32 key in the same order, see
  :mod:`~captum_vae.metrics.localization.keys`. The key's upper 9 bits, sign and exponent, are its
  *binade*.
- Keys wait until 16 million are there, which many a test set never reaches: they are then
  sorted once, at the end. Otherwise they are sorted and counted 2 million at a time.
- A binade with few distinct scores keeps (key, count) pairs. One with many gets a *slab*: 2^23
  one-byte counters, 8 MiB. What a byte cannot hold is carried over to a pair.

So maps with heavy ties cost a few pairs, and maps without any tie cost at most 10 MiB per factor
of two between the smallest and the largest score, plus 12 bytes per 256 scores for the carries;
benchmarks/bench_localization_metrics.py measures it. 8 bytes per anomalous pixel come on top in
:mod:`captum_vae.metrics.localization.pixel_counts`.

A float64 that is also a float32 is counted as one. The others have too many values for counters:
their int64 keys are kept, 16 bytes per pixel until equal ones are merged, so maps of float64
without ties need memory for every pixel.

All counts of several processes are lists of pairs and slabs, so concatenating them adds them.
"""

import math
import mmap
import os
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_vae.checks import real_number
from captum_vae.metrics.localization.inputs import check_scores
from captum_vae.metrics.localization.keys import (
    float32_at_least,
    float64_keys,
    key_scores,
    nearest_float32,
    score_keys,
)

_MANTISSA_BITS = 23
SLAB = 1 << _MANTISSA_BITS
_PAIRS_WORTH_A_SLAB = SLAB // 64  # a pair takes 12 bytes and 60 more while pairs are merged
_WAITING = 1 << 24
_BLOCK = 1 << 21
_CHUNK = 1 << 18
_COUNTERS = 1 << 20
"""Looked up at once in a slab. As the sizes above, it bounds the temporary memory."""

Pairs: TypeAlias = tuple[Tensor, Tensor]
"""Ascending distinct keys, int32 or int64, and their int64 counts."""


class ScoreCounts:
    """A multiset of scores; the module says how it stays small.

    The lists hold tensors to be concatenated; they are changed in place, so that a torchmetrics
    state can own them. A binade may have several slabs and a key several pairs.

    Args:
        waiting: Keys not yet counted, int32.
        keys: Keys of the pairs, int32.
        counts: How often each of ``keys`` occurs, int64.
        binades: Numbers of the slabs' binades, int64.
        slabs: (n, 2^23) uint8 counters.
        float64_keys: Keys of the scores that are no float32, int64.
        float64_counts: How often each of ``float64_keys`` occurs, int64.
    """

    def __init__(
        self,
        waiting: list[Tensor] | None = None,
        keys: list[Tensor] | None = None,
        counts: list[Tensor] | None = None,
        binades: list[Tensor] | None = None,
        slabs: list[Tensor] | None = None,
        float64_keys: list[Tensor] | None = None,
        float64_counts: list[Tensor] | None = None,
    ) -> None:
        """Take over the lists; empty ones by default."""
        self.waiting = [] if waiting is None else waiting
        self.keys = [] if keys is None else keys
        self.counts = [] if counts is None else counts
        self.binades = [] if binades is None else binades
        self.slabs = [] if slabs is None else slabs
        self.float64_keys = [] if float64_keys is None else float64_keys
        self.float64_counts = [] if float64_counts is None else float64_counts

    def add(self, scores: Tensor) -> None:
        """Count scores of any shape and any floating-point type.

        Raises:
            TypeError: The scores are no floats.
            ValueError: A score is NaN or infinite.
        """
        check_scores(scores)
        self.add_keys(score_keys(scores).flatten())

    def add_keys(self, keys: Tensor) -> None:
        """Count (n,) keys of :func:`~captum_vae.metrics.localization.keys.score_keys`."""
        if keys.dtype == torch.int64:
            nearest = nearest_float32(keys)
            exact = float64_keys(nearest) == keys
            self._add_float64(keys[~exact])
            keys = nearest[exact]
        append_block(self.waiting, keys)
        if sum(len(part) for part in self.waiting) >= _WAITING:
            self.compact()

    def compact(self) -> None:
        """Count what waits and merge the pairs."""
        while self.waiting:
            keys = self.waiting.pop()
            if len(keys):
                self._add_pairs(*_counted(keys))

    def settle(self) -> None:
        """Count what waits if there are slabs already: it frees memory before a query."""
        if any(len(part) for part in self.slabs):
            self.compact()

    @property
    def has_float64(self) -> bool:
        """Whether a score was counted that is no float32."""
        return any(len(part) for part in self.float64_keys)

    def _add_float64(self, keys: Tensor) -> None:
        append_block(self.float64_keys, keys)
        append_block(self.float64_counts, torch.ones_like(keys))
        lengths = [len(part) for part in self.float64_keys]
        # The first part holds the merged pairs; waiting for as many again merges each a few times.
        if sum(lengths[1:]) >= max([_WAITING, *lengths[:1]]):
            self._merge_float64()

    def _merge_float64(self) -> Pairs:
        """Add the counts of equal keys and keep the result, which is returned too."""
        keys, counts = _merged([(torch.cat(self.float64_keys), torch.cat(self.float64_counts))])
        # unique_consecutive leaves room for as many as came; a clone has none.
        self.float64_keys[:], self.float64_counts[:] = [keys.clone()], [counts]
        return keys, counts

    def _add_pairs(self, keys: Tensor, counts: Tensor) -> None:
        """Add ascending distinct keys: to slabs where there are any, to the pairs else."""
        slabs = dict(self._binades_and_slabs())
        kept = [*zip(self.keys, self.counts, strict=True)]
        for binade, part in _binade_slices(keys):
            pairs = (keys[part], counts[part])
            kept.append(self._into_slab(binade, pairs, slabs))
        keys, counts = _merged(kept)
        kept = []
        for binade, part in _binade_slices(keys):
            pairs = (keys[part], counts[part])
            kept.append(pairs if binade in slabs else self._into_slab(binade, pairs, slabs))
        self.keys[:] = [torch.cat([pairs[0] for pairs in kept])] if kept else []
        self.counts[:] = [torch.cat([pairs[1] for pairs in kept])] if kept else []

    def _into_slab(self, binade: int, pairs: Pairs, slabs: dict[int, Tensor]) -> Pairs:
        """Add pairs of one binade to its slab, if it has one or is worth one; return what stays."""
        if binade not in slabs:
            if len(pairs[0]) <= _PAIRS_WORTH_A_SLAB:
                return pairs
            slab = lasting_zeros(SLAB, like=pairs[0], dtype=torch.uint8).unsqueeze(0)
            self.slabs.append(slab)
            self.binades.append(torch.tensor([binade], device=slab.device))
            slabs[binade] = slab[0]
        return _add_to_slab(slabs[binade], pairs)

    def below_and_tied(
        self, keys: Tensor, *, dtype: torch.dtype = torch.int64
    ) -> tuple[Tensor, Tensor]:
        """How many counted scores are below, and how many equal to, each of T scores.

        Args:
            keys: (T,) int32 or int64 keys, ascending.
            dtype: Type of the result; int32 saves memory where fewer than 2^31 scores were
                counted.

        Returns:
            Two (T,) integer tensors.
        """
        below = torch.zeros(len(keys), dtype=dtype, device=keys.device)
        tied = below.clone()
        # No float32 lies between a score and the smallest float32 that is not below it.
        queries = float32_at_least(keys)
        if self.waiting:
            counted = sort_(torch.cat(self.waiting))
            for part in _slices(0, len(keys), _CHUNK):
                first = torch.searchsorted(counted, queries[part])
                below[part] += first
                tied[part] += torch.searchsorted(counted, queries[part], right=True) - first
            del counted
        if self.keys:
            _add_ranks(below, tied, queries, _merged([*zip(self.keys, self.counts, strict=True)]))
        for binade, slab in self._binades_and_slabs():
            passed = 0
            for counters in _slices(0, SLAB, _COUNTERS):
                total = slab[counters].cumsum(0, dtype=torch.int32)  # at most 255 * 2^23 < 2^31
                first_key = (binade << _MANTISSA_BITS) + counters.start
                start, end = _span(queries, first_key, first_key + len(total) - 1)
                low = queries[start:end] - first_key
                equal = slab[counters][low].to(torch.int32)
                tied[start:end] += equal
                below[start:end] += passed + total[low] - equal
                passed += int(total[-1])
            below[end:] += passed
        if keys.dtype == torch.int64:
            tied[float64_keys(queries) != keys] = 0
        if self.has_float64:
            _add_ranks(below, tied, float64_keys(keys), self._merge_float64())
        return below, tied

    def total(self) -> int:
        """How many scores were counted."""
        waiting = sum(len(part) for part in self.waiting)
        pairs = sum(int(part.sum()) for part in (*self.counts, *self.float64_counts))
        return waiting + pairs + sum(int(slab.sum()) for _, slab in self._binades_and_slabs())

    def at_least(self, threshold: float) -> int:
        """How many of the scores are at or above a threshold.

        Raises:
            TypeError: The threshold is no number.
            ValueError: It is not finite.
        """
        value = real_number("threshold", threshold)
        key = score_keys(torch.tensor([value], dtype=torch.float64, device=self._device()))
        below, _ = self.below_and_tied(key)
        return self.total() - int(below)

    def quantile(self, share: float) -> float:
        """The smallest score that at least this share of the scores do not exceed.

        It is numpy's ``inverted_cdf`` quantile, a score that occurred.

        Raises:
            TypeError: The share is no number.
            ValueError: The share is outside (0, 1] or nothing was counted.
        """
        share = real_number("share", share, above=0)
        if share > 1:
            raise ValueError(f"share is {share}; wanted a number in (0, 1], such as 0.995")
        total = self.total()
        if total == 0:
            raise ValueError("no score was counted, so there is no quantile; add maps first")
        rank = max(1, math.ceil(share * total))
        first = -(1 << 31)
        lowest, highest = score_keys(torch.tensor([-math.inf, math.inf])).tolist()
        for step in (1 << 20, 1 << 8, 1):  # 4,096 steps each, down to a single key
            keys = first - 1 + step * torch.arange(1, 4097, device=self._device())
            keys = keys.clamp(lowest, highest).to(torch.int32)
            below, tied = self.below_and_tied(keys)
            first += step * int((below + tied < rank).sum())
        found = float(key_scores(torch.tensor([first], dtype=torch.int32)))
        if self.has_float64:
            keys, _ = self._merge_float64()
            below, tied = self.below_and_tied(keys)
            reached = keys[below + tied >= rank][:1]
            found = min([found, *key_scores(reached).tolist()])
        return found

    def _device(self) -> torch.device:
        parts = [*self.waiting, *self.keys, *self.slabs, *self.float64_keys]
        return parts[0].device if parts else torch.device("cpu")

    def _binades_and_slabs(self) -> Iterator[tuple[int, Tensor]]:
        binades = torch.cat(self.binades).tolist() if self.binades else []
        yield from zip(binades, (slab for part in self.slabs for slab in part), strict=True)


def append_block(parts: list[Tensor], values: Tensor) -> None:
    """Append (n,) values to a list of tensors to be concatenated, in blocks of two million.

    A tensor per image would fragment the memory and make a long list. A block is allocated at once
    and its last part grows into it.
    """
    while len(values):
        last = parts[-1] if parts else values[:0].clone()
        filled = len(last)
        room = last.untyped_storage().nbytes() // last.element_size() - filled
        if room <= 0:
            parts.append(lasting_zeros(_BLOCK, like=values, dtype=values.dtype)[:0])
            continue
        taken = values[:room]
        parts[-1] = last.as_strided((filled + len(taken),), (1,), 0)
        parts[-1][filled:] = taken
        values = values[len(taken) :]


def lasting_zeros(count: int, *, like: Tensor, dtype: torch.dtype) -> Tensor:
    """(count,) zeros on the device of ``like``, to be kept for long.

    On a CPU they get pages of their own. Malloc's heap cannot shrink below what lasts in it, so
    temporaries freed between lasting tensors would add up.
    """
    if like.device.type != "cpu":
        return torch.zeros(count, dtype=dtype, device=like.device)
    # Private where that can be said, or a forked process would write into its parent's counters.
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    return torch.frombuffer(mmap.mmap(-1, count * dtype.itemsize, **private), dtype=dtype)


def sorted_values(values: Tensor) -> Tensor:
    """Ascending integers; numpy's vectorised sort is ten times faster than torch's on a CPU."""
    if values.device.type != "cpu":
        return values.sort().values
    return torch.from_numpy(np.sort(values.numpy()))


def sort_(values: Tensor) -> Tensor:
    """Sort integers in place and return them."""
    if values.device.type == "cpu":
        values.numpy().sort()
    else:
        values.copy_(values.sort().values)
    return values


def reverse_(values: Tensor) -> Tensor:
    """Reverse (n,) values in place and return them; ``flip`` would take as much memory again."""
    half = len(values) // 2
    for part in _slices(0, half, _CHUNK):
        mirror = slice(len(values) - part.stop, len(values) - part.start)
        low = values[part].flip(0)
        values[part] = values[mirror].flip(0)
        values[mirror] = low
    return values


def run_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """Sums over consecutive runs of the given lengths."""
    total = torch.nn.functional.pad(values.cumsum(0), (1, 0))
    return total[lengths.cumsum(0)].diff(prepend=total[:1])


def _counted(keys: Tensor) -> Pairs:
    unique, counts = torch.unique_consecutive(sorted_values(keys), return_counts=True)
    return unique, counts


def _add_ranks(below: Tensor, tied: Tensor, queries: Tensor, pairs: Pairs) -> None:
    """Add to the counts of (T,) ascending queries what the pairs have below and at each."""
    counted, counts = pairs
    total = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    for part in _slices(0, len(queries), _CHUNK):
        first = total[torch.searchsorted(counted, queries[part])]
        below[part] += first
        tied[part] += total[torch.searchsorted(counted, queries[part], right=True)] - first


def _merged(pairs: list[Pairs]) -> Pairs:
    """Sort (key, count) pairs by key and add the counts of equal keys."""
    pairs = [part for part in pairs if len(part[0])] or pairs[:1]
    if len(pairs) == 1 and bool((pairs[0][0][1:] > pairs[0][0][:-1]).all()):
        return pairs[0]
    keys = torch.cat([part[0] for part in pairs])
    counts = torch.cat([part[1] for part in pairs])
    if keys.dtype == torch.int64:
        keys, order = keys.sort()
        unique, lengths = torch.unique_consecutive(keys, return_counts=True)
        return unique, run_sums(counts[order], lengths)
    # One sort of keys and positions in one integer is much faster than a sort that returns both.
    position = torch.arange(len(keys), device=keys.device)
    codes = sorted_values((keys.to(torch.int64) << 32) | position)
    unique, lengths = torch.unique_consecutive((codes >> 32).to(torch.int32), return_counts=True)
    return unique, run_sums(counts[codes & 0xFFFFFFFF], lengths)


def _add_to_slab(slab: Tensor, pairs: Pairs) -> Pairs:
    """Add counts of distinct keys of one binade; return the pairs that a byte cannot hold."""
    carried = []
    for part in _slices(0, len(pairs[0]), _CHUNK):
        key = pairs[0][part]
        low = (key & (SLAB - 1)).to(torch.int64)
        count = pairs[1][part] + slab[low]
        slab[low] = (count & 0xFF).to(torch.uint8)
        carry = (count >= 256).nonzero().squeeze(1)
        carried.append((key[carry], count[carry] & ~0xFF))
    return torch.cat([part[0] for part in carried]), torch.cat([part[1] for part in carried])


def _binade_slices(keys: Tensor) -> Iterator[tuple[int, slice]]:
    """The binades of ascending keys, each with where its keys are."""
    binades, counts = torch.unique_consecutive(keys >> _MANTISSA_BITS, return_counts=True)
    end = 0
    for binade, count in zip(binades.tolist(), counts.tolist(), strict=True):
        yield binade, slice(end, end + count)
        end += count


def _span(keys: Tensor, lowest: int, highest: int) -> tuple[int, int]:
    """First and last + 1 of the ascending keys from ``lowest`` to ``highest``."""
    bounds = torch.tensor([lowest, highest], dtype=torch.int32, device=keys.device)
    first = torch.searchsorted(keys, bounds[:1])
    return int(first), int(torch.searchsorted(keys, bounds[1:], right=True))


def _slices(start: int, end: int, length: int) -> Iterator[slice]:
    for first in range(start, end, length):
        yield slice(first, min(first + length, end))
