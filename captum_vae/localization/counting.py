"""Counting the maps of many scorers one scorer after another, so that one's counts fill the memory.

Exact counts of a scorer's pixels take 4 bytes and more for each of them, at the size of the masks,
and a table has many scorers. Its maps are smaller, and scorers that differ in smoothing alone have
the same. So the maps of a test set are kept, in a temporary file where they are many, until all
images are scored; then each scorer's are counted, and its counts make room for the next one's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from captum_vae.data.sample import SampleBatch
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.model_pass import KeptWeights
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.localization.scoring import score_places

_IN_MEMORY = 16 * 2**20
"""Bytes of maps above which they go to a file."""

_KEPT = 4 * 2**30
"""Bytes of maps above which they are counted at once, and the counts of all scorers kept."""


@dataclass(frozen=True)
class ScoredBatch:
    """What a batch's images are known by once they are scored.

    Attributes:
        places: Places of the images in the whole data.
        batch: The samples, the images themselves being left out.
        size: (H, W) of the images.
        seconds: What each scorer took for its maps, by the scorer's ``id``.
    """

    places: Sequence[int]
    batch: SampleBatch
    size: tuple[int, int]
    seconds: Mapping[int, float]


class Counter(Protocol):
    """What counts the maps of one scorer."""

    @property
    def scorer(self) -> AnomalyScorer:
        """The scorer."""

    def add(self, maps: Tensor, scored: ScoredBatch) -> None:
        """Count maps (B, h, w) of a batch."""


AnyCounter = TypeVar("AnyCounter", bound=Counter)

Scored = tuple[ScoredBatch, Mapping[int, Tensor]]
"""A batch, and its maps (B, h, w) by the ``id`` of their scorer."""


def count_in_turn(counters: Sequence[AnyCounter], scored: Iterable[Scored]) -> Iterator[AnyCounter]:
    """Let each counter see all batches, and give it back before the next one begins.

    Args:
        counters: They are let go of once given back, so that what they hold can be freed.
        scored: The batches and the maps of all the counters' scorers.
    """
    waiting = list(counters)
    with _KeptMaps() as kept:
        for batch, maps in scored:
            kept.append(batch, maps)
            if kept.size > _KEPT:
                for counter in waiting:
                    kept.feed(counter)
                kept.clear()
        while waiting:
            counter = waiting.pop(0)
            kept.feed(counter)
            yield counter


def score_batches(
    scorers: Sequence[AnomalyScorer],
    batches: ImageBatches,
    title: str,
    store: MapStore | None = None,
    weights: KeptWeights | None = None,
) -> Iterator[Scored]:
    """Score images with all scorers, batch by batch.

    Args:
        scorers: Fitted scorers.
        batches: The images.
        title: Title of the progress bar.
        store: Maps of earlier passes over the same images, which are not made again; those made
            now are added.
        weights: Channel weights of earlier passes over the same batches; None for none.
    """
    for places, batch in batches.numbered(title):
        maps, seconds = {}, {}
        for scorer, found, spent in score_places(scorers, batch.image, places, store, weights):
            maps[id(scorer)], seconds[id(scorer)] = found, spent
        size = (batch.image.shape[2], batch.image.shape[3])
        yield ScoredBatch(places, batch, size, seconds), maps


class _KeptMaps:
    """Batches and maps, the maps' numbers in a file where they are many."""

    def __init__(self) -> None:
        self.size = 0
        self._batches: list[tuple[ScoredBatch, dict[int, _Place]]] = []
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)

    def __enter__(self) -> _KeptMaps:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, scored: ScoredBatch, maps: Mapping[int, Tensor]) -> None:
        places = {}
        for scorer, values in maps.items():
            array = values.detach().cpu().contiguous()
            places[scorer] = _Place(self.size, tuple(array.shape), array.dtype, values.device)
            # NumPy has no bfloat16, but every tensor is bytes.
            data = array.view(torch.uint8).numpy()
            try:
                self._file.write(data.data)
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"the maps of {self.size // 2**20} MB and more do not fit into "
                    f"{tempfile.gettempdir()} ({error.strerror}); name a folder with more room in "
                    "the environment variable TMPDIR",
                ) from error
            self.size += data.nbytes
        self._batches.append((_packed(scored), places))

    def clear(self) -> None:
        self._batches.clear()
        self._file.seek(0)
        self._file.truncate()
        self.size = 0

    def feed(self, counter: Counter) -> None:
        for packed, places in self._batches:
            place = places[id(counter.scorer)]
            self._file.seek(place.start)
            data = bytearray(self._file.read(place.length))
            maps = torch.frombuffer(data, dtype=place.dtype).reshape(place.shape)
            counter.add(maps.to(place.device), _unpacked(packed))
        self._file.seek(0, 2)


@dataclass(frozen=True)
class _Place:
    """Where maps stand in the file."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @property
    def length(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


def _packed(scored: ScoredBatch) -> ScoredBatch:
    """The batch with a bit for every pixel of its masks, which else take a byte."""
    batch: Any = scored.batch
    packed = batch._replace(
        image=batch.image.new_empty(0),
        mask=[_bits(mask) for mask in batch.mask],
        ignored=[_bits(mask) for mask in batch.ignored],
    )
    return ScoredBatch(scored.places, packed, scored.size, scored.seconds)


def _unpacked(scored: ScoredBatch) -> ScoredBatch:
    batch: Any = scored.batch
    masks, ignored = ([_mask(bits) for bits in part] for part in (batch.mask, batch.ignored))
    unpacked = batch._replace(mask=masks, ignored=ignored)
    return ScoredBatch(scored.places, unpacked, scored.size, scored.seconds)


def _bits(mask: Tensor | None) -> tuple[Any, Any, torch.device] | None:
    if mask is None:
        return None
    return np.packbits(mask.cpu().numpy()), mask.shape, mask.device


def _mask(bits: tuple[Any, Any, torch.device] | None) -> Tensor | None:
    if bits is None:
        return None
    packed, shape, device = bits
    pixels = np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape)
    return torch.from_numpy(pixels.view(np.bool_)).to(device)
