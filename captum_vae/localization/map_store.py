"""Maps kept from one pass over images for later passes over the same images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_vae.localization.scorer import AnomalyScorer

_IN_MEMORY = 16 * 2**20
"""Bytes of maps above which they go to a file."""

_MOST = 4 * 2**30
"""Bytes of maps after which no more are kept; later passes score those images again."""


class _Kept(NamedTuple):
    """Where the map of an image stands in the file, and how it is read."""

    start: int
    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    seconds: float

    @property
    def length(self) -> int:
        """Bytes."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize


class MapStore:
    """Maps of scored images by scorer and place, in a temporary file where they are many.

    A map depends on its own image alone, so a later pass over the same images in other batches
    takes it from here instead of calling the model again. It is used as a context, whose end frees
    the file.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._kept: dict[tuple[int, int], _Kept] = {}
        # An id is a scorer's own for as long as the scorer lives.
        self._scorers: dict[int, AnomalyScorer] = {}
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)
        self._size = 0

    def __enter__(self) -> MapStore:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the file."""
        self._kept.clear()
        self._scorers.clear()
        self._file.close()

    def put(
        self, scorer: AnomalyScorer, places: Sequence[int], maps: Tensor, seconds: float
    ) -> None:
        """Keep the maps of a batch, unless there is no more room for them.

        Args:
            scorer: What made them.
            places: Places of the B images in the whole data.
            maps: (B, h, w).
            seconds: What they took.
        """
        array = maps.detach().cpu().contiguous()
        if self._size + array.nbytes > _MOST:
            return
        try:
            self._file.seek(self._size)
            # NumPy has no bfloat16, but every tensor is bytes.
            self._file.write(array.view(torch.uint8).numpy().data)
        except OSError:  # a full disk costs no more than scoring again
            return
        self._scorers[id(scorer)] = scorer
        shape = (array.shape[1], array.shape[2])
        for place in places:
            kept = _Kept(self._size, shape, array.dtype, maps.device, seconds / len(places))
            self._kept[id(scorer), place] = kept
            self._size += kept.length

    def get(self, scorer: AnomalyScorer, places: Sequence[int]) -> tuple[Tensor, float] | None:
        """The maps (B, h, w) of images and the seconds they took; None unless all are here."""
        found = [self._kept.get((id(scorer), place)) for place in places]
        kept = [each for each in found if each is not None]
        if len(kept) < len(places) or len({(each.shape, each.dtype) for each in kept}) != 1:
            return None
        planes = []
        for each in kept:
            self._file.seek(each.start)
            data = bytearray(self._file.read(each.length))
            planes.append(torch.frombuffer(data, dtype=each.dtype).reshape(each.shape))
        return torch.stack(planes).to(kept[0].device), sum(each.seconds for each in kept)
