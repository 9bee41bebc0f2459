"""Decoded arrays kept in memory, so that no file is decoded twice.

Slot i of a cache holds one uint8 array whose shape is known beforehand.
"""

import math
import mmap
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

CacheKind: TypeAlias = Literal["memory", "none"]
Array: TypeAlias = NDArray[np.uint8]
Shape: TypeAlias = tuple[int, ...]
ReadSlot: TypeAlias = Callable[[int], Array]


class NoCache:
    """Decodes on every access; ``read`` gives the array of a slot."""

    def load(self, slot: int, read: ReadSlot) -> Array:
        """Decode ``slot``."""
        return read(slot)


class MemoryCache:
    """Decodes on first access, into memory that forked ``DataLoader`` workers share.

    An anonymous shared mapping rather than /dev/shm, which containers limit to 64 MiB. Workers
    that are spawned get a copy of what has been decoded by then.

    Args:
        shapes: The shape of each slot.

    Raises:
        ValueError: The machine has not the memory for all of them.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        """Reserve the memory; nothing is decoded yet."""
        self._shapes = list(shapes)
        ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
        self._offsets, total = ends[:-1], ends[-1]
        try:
            self._map(total)
        except (OSError, OverflowError, MemoryError) as error:
            raise ValueError(
                f"the decoded images need {total / 2**30:.1f} GiB of memory ({error}); give an "
                'image_size, or pass cache="none" to decode on every access'
            ) from error

    def load(self, slot: int, read: ReadSlot) -> Array:
        """Return the array of ``slot``, decoding it if no process sharing this cache has."""
        start, shape = self._offsets[slot], self._shapes[slot]
        array = self._data[start : start + math.prod(shape)].reshape(shape)
        if not self._filled[slot]:
            array[...] = read(slot)
            self._filled[slot] = 1
        return array

    def _map(self, total: int) -> None:
        self._buffer = mmap.mmap(-1, total + len(self._shapes) + 1)
        memory = np.frombuffer(self._buffer, dtype=np.uint8)
        self._data, self._filled = memory[:total], memory[total:]

    def __getstate__(self) -> dict[str, Any]:
        """Copy the memory out of the mapping, which cannot be pickled."""
        return {
            "_shapes": self._shapes,
            "_offsets": self._offsets,
            "data": self._data.tobytes(),
            "filled": self._filled.tobytes(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copy the memory into a mapping of this process."""
        self._shapes, self._offsets = state["_shapes"], state["_offsets"]
        self._map(len(state["data"]))
        self._data[:] = np.frombuffer(state["data"], dtype=np.uint8)
        self._filled[:] = np.frombuffer(state["filled"], dtype=np.uint8)
