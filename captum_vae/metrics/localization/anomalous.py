"""The anomalous pixels of a set, and what each threshold finds of them.

They are few, so each is kept: the key of its score, see
:mod:`~captum_vae.metrics.localization.keys`, and the size of its region. Both fit one int64 where
the score is a float32. Work goes part by part, so that no temporary is as long as the pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from captum_vae.metrics.localization.counts import sort_
from captum_vae.metrics.localization.keys import float64_keys

_PART = 1 << 17
_SIZE_BITS = 32


class AnomalousPixels(NamedTuple):
    """P anomalous pixels, ascending by key and size, so that sums of floats do not depend on order.

    Attributes:
        codes: (P,) int64. They are int64 keys where ``sizes`` are given, and otherwise int32 keys
            above the sizes of the regions, as :func:`packed` makes them.
        sizes: (P,) int64 sizes of the regions, or None.
    """

    codes: Tensor
    sizes: Tensor | None = None

    def keys_of(self, part: slice) -> Tensor:
        """(p,) int64, the keys of some pixels."""
        return self.codes[part] >> _SIZE_BITS if self.sizes is None else self.codes[part]

    def sizes_of(self, part: slice) -> Tensor:
        """(p,) int64, how large the regions of some pixels are."""
        if self.sizes is None:
            return self.codes[part] & ((1 << _SIZE_BITS) - 1)
        return self.sizes[part]


class Found(NamedTuple):
    """What thresholds find of the anomalous pixels, from the highest threshold to the lowest.

    Attributes:
        keys: (T,) distinct keys, int32 or int64.
        true_positives: (T,) numbers of anomalous pixels with that key or a higher one.
        overlap: (T,) float64 sums of 1 / size of their region over the same pixels; None if not
            asked for.
    """

    keys: Tensor
    true_positives: Tensor
    overlap: Tensor | None


def packed(keys: Tensor, sizes: Tensor) -> Tensor:
    """(P,) int64 codes of int32 keys and region sizes below 2^32, in the order of both."""
    return (keys.to(torch.int64) << _SIZE_BITS) | sizes


def sorted_pixels(codes: Tensor, keys: Tensor, sizes: Tensor) -> AnomalousPixels:
    """Anomalous pixels in order.

    Args:
        codes: (P,) int64 codes of the pixels whose scores are float32; they are sorted in place.
        keys: (Q,) int64 keys of the other pixels.
        sizes: (Q,) int64 sizes of their regions.
    """
    codes = sort_(codes)
    if not len(keys):
        return AnomalousPixels(codes)
    float32 = AnomalousPixels(codes)
    everything = slice(0, len(codes))
    keys = torch.cat([float64_keys(float32.keys_of(everything).to(torch.int32)), keys])
    sizes = torch.cat([float32.sizes_of(everything), sizes])
    order = sizes.argsort(stable=True)
    order = order[keys[order].argsort(stable=True)]
    return AnomalousPixels(keys[order], sizes[order])


def found_at_thresholds(pixels: AnomalousPixels, *, regions: bool, dtype: torch.dtype) -> Found:
    """Walk down the pixels once.

    Args:
        pixels: The P anomalous pixels.
        regions: Whether to sum up the overlap.
        dtype: Type of the counts; int32 saves memory where P is below 2^31.
    """
    codes, count = pixels.codes, len(pixels.codes)
    distinct = sum(len(starts) for starts, _ in _run_starts(pixels))
    key_dtype = torch.int32 if pixels.sizes is None else torch.int64
    keys = torch.empty(distinct, dtype=key_dtype, device=codes.device)
    true_positives = torch.empty(distinct, dtype=dtype, device=codes.device)
    overlap = torch.empty(distinct, dtype=torch.float64, device=codes.device) if regions else None
    written, covered = 0, 0.0
    for starts, part in _run_starts(pixels):
        place = slice(written, written + len(starts))
        written = place.stop
        keys[place] = pixels.keys_of(part)[starts - part.start]
        true_positives[place] = count - starts
        if overlap is not None:
            shares = pixels.sizes_of(part).double().reciprocal_().flip(0).cumsum_(0)
            overlap[place] = shares[part.stop - 1 - starts].add_(covered)
            covered += float(shares[-1])
    return Found(keys, true_positives, overlap)


def _run_starts(pixels: AnomalousPixels) -> Iterator[tuple[Tensor, slice]]:
    """Where each key first occurs, descending, part by part, from the highest keys down."""
    for stop in range(len(pixels.codes), 0, -_PART):
        start = max(stop - _PART, 0)
        keys = pixels.keys_of(slice(max(start - 1, 0), stop))
        changes = (keys[1:] != keys[:-1]).nonzero().squeeze(1) + max(start, 1)
        if start == 0:
            changes = torch.cat([changes.new_zeros(1), changes])
        yield changes.flip(0), slice(start, stop)
