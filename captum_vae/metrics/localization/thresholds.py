"""The thresholds that matter, and what each of them finds, from the anomalous pixels' codes.

A code is the int64 ``key << 32 | size`` of an anomalous pixel: its score's key, see
:func:`~captum_vae.metrics.localization.counts.score_keys`, and the size of its region. Work goes
part by part, so that no temporary is as long as the codes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_PART = 1 << 17


class Found(NamedTuple):
    """What thresholds find of the anomalous pixels, from the highest threshold to the lowest.

    Attributes:
        keys: (T,) int32, the distinct keys.
        true_positives: (T,) anomalous pixels with that key or a higher one.
        overlap: (T,) float64, the sum of 1 / size of their region over the same pixels; None if
            not asked for.
    """

    keys: Tensor
    true_positives: Tensor
    overlap: Tensor | None


def found_at_thresholds(codes: Tensor, *, regions: bool, dtype: torch.dtype) -> Found:
    """Walk down the codes once.

    Args:
        codes: (P,) int64, ascending. Sorted by key and size, so that sums of floats do not depend
            on the order in which the pixels came.
        regions: whether to sum up the overlap.
        dtype: of the counts; int32 saves memory where P is below 2^31.
    """
    distinct = sum(len(starts) for starts, _ in _run_starts(codes))
    keys = torch.empty(distinct, dtype=torch.int32, device=codes.device)
    true_positives = torch.empty(distinct, dtype=dtype, device=codes.device)
    overlap = torch.empty(distinct, dtype=torch.float64, device=codes.device) if regions else None
    written, covered = 0, 0.0
    for starts, part in _run_starts(codes):
        place = slice(written, written + len(starts))
        written = place.stop
        keys[place] = codes[starts] >> 32
        true_positives[place] = len(codes) - starts
        if overlap is not None:
            shares = (codes[part] & 0xFFFFFFFF).double().reciprocal_().flip(0).cumsum_(0)
            overlap[place] = shares[part.stop - 1 - starts].add_(covered)
            covered += float(shares[-1])
    return Found(keys, true_positives, overlap)


def _run_starts(codes: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """Where each key first occurs, descending, part by part, from the highest codes down."""
    for stop in range(len(codes), 0, -_PART):
        start = max(stop - _PART, 0)
        keys = codes[max(start - 1, 0) : stop] >> 32
        changes = (keys[1:] != keys[:-1]).nonzero().squeeze(1) + max(start, 1)
        if start == 0:
            changes = torch.cat([changes.new_zeros(1), changes])
        yield changes.flip(0), slice(start, stop)
