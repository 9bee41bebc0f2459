"""Exact counts of float32 scores, in memory bounded by their dynamic range and not their number.

An exact area under a curve needs every distinct score: nothing smaller than the multiset of scores
suffices, because an anomalous pixel that arrives later may fall between any two of them. But a
float32 is one of 2^23 values per factor of two, so a multiset of any size fits a counter per value:

- A score becomes an int32 key in the same order: its bit pattern, with the other bits of negative
  numbers flipped. The key's upper 9 bits, sign and exponent, are its *binade*.
- Keys wait until 16 million are there, which many a test set never reaches: they are then
  sorted once, at the end. Otherwise they are sorted and counted 2 million at a time.
- A binade with few distinct scores keeps (key, count) pairs. One with many gets a *slab*: 2^23
  one-byte counters, 8 MiB. What a byte cannot hold is carried over to a pair.

So maps with heavy ties cost a few pairs, and maps without any tie cost at most 10 MiB per factor
of two between the smallest and the largest score, plus 12 bytes per 256 scores for the carries;
benchmarks/bench_localization_metrics.py measures it. 8 bytes per anomalous pixel come on top in
:mod:`captum_vae.metrics.localization.metric`.

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

_MANTISSA_BITS = 23
SLAB = 1 << _MANTISSA_BITS
_PAIRS_WORTH_A_SLAB = SLAB // 64  # a pair takes 12 bytes and 60 more while pairs are merged
_WAITING = 1 << 24
_BLOCK = 1 << 21
_CHUNK = 1 << 18
_COUNTERS = 1 << 20
"""Looked up at once in a slab. As the sizes above, it bounds the temporary memory."""

Pairs: TypeAlias = tuple[Tensor, Tensor]
"""Ascending distinct int32 keys and their int64 counts."""


def score_keys(scores: Tensor) -> Tensor:
    """int32 keys whose order and ties are those of the scores, same shape.

    Scores of other dtypes are converted to float32: exact for float16 and bfloat16; float64 is
    rounded. -0 and 0 are tied, infinities are in their place.

    Raises:
        TypeError: the scores are no floats.
        ValueError: a score is NaN.
    """
    if not scores.is_floating_point():
        raise TypeError(f"scores has dtype {scores.dtype}; wanted floats, higher is more anomalous")
    check_no_nan(scores)
    bits = (scores.detach().to(torch.float32) + 0.0).contiguous().view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def key_scores(keys: Tensor) -> Tensor:
    """The float32 scores of :func:`score_keys`."""
    return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).view(torch.float32)


def check_no_nan(scores: Tensor) -> None:
    """Raise ValueError if a score is NaN."""
    if scores.isnan().any():
        raise ValueError("scores has NaN, which has no place in an order; fix the map before")


class ScoreCounts:
    """A multiset of float32 scores; see the module for how it stays small.

    Args:
        waiting: int32 keys not yet counted.
        keys: int32 keys of the pairs.
        counts: int64, how often each of ``keys`` occurs.
        binades: int64, the binade of each slab.
        slabs: (n, 2^23) uint8 counters.

    The five lists hold tensors to be concatenated; they are changed in place, so that a
    torchmetrics state can own them. A binade may have several slabs and a key several pairs.
    """

    def __init__(
        self,
        waiting: list[Tensor] | None = None,
        keys: list[Tensor] | None = None,
        counts: list[Tensor] | None = None,
        binades: list[Tensor] | None = None,
        slabs: list[Tensor] | None = None,
    ) -> None:
        """Take over the lists; empty ones by default."""
        self.waiting = [] if waiting is None else waiting
        self.keys = [] if keys is None else keys
        self.counts = [] if counts is None else counts
        self.binades = [] if binades is None else binades
        self.slabs = [] if slabs is None else slabs

    def add(self, scores: Tensor) -> None:
        """Count scores of any shape.

        Raises:
            TypeError: the scores are no floats.
            ValueError: a score is NaN.
        """
        self.add_keys(score_keys(scores).flatten())

    def add_keys(self, keys: Tensor) -> None:
        """Count (n,) keys of :func:`score_keys`."""
        append_block(self.waiting, keys)
        if sum(len(part) for part in self.waiting) >= _WAITING:
            self.compact()

    def compact(self) -> None:
        """Count what waits and merge the pairs."""
        while self.waiting:
            self._add_pairs(*_counted(self.waiting.pop()))

    def settle(self) -> None:
        """Count what waits if there are slabs already: it frees memory before a query."""
        if any(len(part) for part in self.slabs):
            self.compact()

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
            keys: (T,) int32, ascending.
            dtype: of the result; int32 saves memory where fewer than 2^31 scores were counted.

        Returns:
            Two (T,) integer tensors.
        """
        below = torch.zeros(len(keys), dtype=dtype, device=keys.device)
        tied = below.clone()
        if self.waiting:
            counted = sort_(torch.cat(self.waiting))
            for part in _slices(0, len(keys), _CHUNK):
                first = torch.searchsorted(counted, keys[part])
                below[part] += first
                tied[part] += torch.searchsorted(counted, keys[part], right=True) - first
            del counted
        if self.keys:
            counted, counts = _merged([*zip(self.keys, self.counts, strict=True)])
            total = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
            for part in _slices(0, len(keys), _CHUNK):
                first = total[torch.searchsorted(counted, keys[part])]
                below[part] += first
                tied[part] += total[torch.searchsorted(counted, keys[part], right=True)] - first
        for binade, slab in self._binades_and_slabs():
            passed = 0
            for counters in _slices(0, SLAB, _COUNTERS):
                total = slab[counters].cumsum(0, dtype=torch.int32)  # at most 255 * 2^23 < 2^31
                first_key = (binade << _MANTISSA_BITS) + counters.start
                start, end = _span(keys, first_key, first_key + len(total) - 1)
                low = keys[start:end] - first_key
                equal = slab[counters][low].to(torch.int32)
                tied[start:end] += equal
                below[start:end] += passed + total[low] - equal
                passed += int(total[-1])
            below[end:] += passed
        return below, tied

    def total(self) -> int:
        """How many scores were counted."""
        waiting = sum(len(part) for part in self.waiting)
        pairs = sum(int(part.sum()) for part in self.counts)
        return waiting + pairs + sum(int(slab.sum()) for _, slab in self._binades_and_slabs())

    def at_least(self, threshold: float) -> int:
        """How many of the scores are at or above a threshold."""
        below, _ = self.below_and_tied(_threshold_key(threshold, self._device()))
        return self.total() - int(below)

    def quantile(self, share: float) -> float:
        """The smallest score that at least this share of the scores do not exceed.

        It is numpy's ``inverted_cdf`` quantile, a score that occurred.

        Raises:
            ValueError: the share is outside (0, 1] or nothing was counted.
        """
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; wanted a number in (0, 1], such as 0.995")
        total = self.total()
        if total == 0:
            raise ValueError("no score was counted, so there is no quantile; add maps first")
        rank = max(1, math.ceil(share * total))
        first = -(1 << 31)
        for step in (1 << 20, 1 << 8, 1):  # 4,096 steps each, down to a single key
            keys = first - 1 + step * torch.arange(1, 4097, device=self._device())
            below, tied = self.below_and_tied(keys.to(torch.int32))
            first += step * int((below + tied < rank).sum())
        return float(key_scores(torch.tensor([first], dtype=torch.int32)))

    def _device(self) -> torch.device:
        parts = [*self.waiting, *self.keys, *self.slabs]
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


def _merged(pairs: list[Pairs]) -> Pairs:
    """Sort (key, count) pairs by key and add the counts of equal keys."""
    pairs = [part for part in pairs if len(part[0])] or pairs[:1]
    if len(pairs) == 1 and bool((pairs[0][0][1:] > pairs[0][0][:-1]).all()):
        return pairs[0]
    keys = torch.cat([part[0] for part in pairs])
    counts = torch.cat([part[1] for part in pairs])
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


def _threshold_key(threshold: float, device: torch.device) -> Tensor:
    """Key of the smallest float32 at or above a threshold: no float32 lies between the two."""
    rounded = np.float32(threshold)
    if float(rounded) < threshold:
        rounded = np.nextafter(rounded, np.float32(np.inf))
    return score_keys(torch.tensor([rounded], device=device))
