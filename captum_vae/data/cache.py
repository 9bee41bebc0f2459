"""Decoded arrays kept in memory or on disk, so that no file is decoded twice.

Slot i of a cache holds one uint8 array whose shape is known beforehand.
"""

import hashlib
import json
import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from captum_vae.data.decode import UnreadableImageError

CacheKind: TypeAlias = Literal["memory", "disk", "none"]
Array: TypeAlias = NDArray[np.uint8]
Shape: TypeAlias = tuple[int, ...]
ReadSlot: TypeAlias = Callable[[int], Array]


class ArrayCache(Protocol):
    """Where decoded arrays are looked up; ``read`` decodes what is not there yet."""

    def load(self, slot: int, read: ReadSlot) -> Array:
        """Return the array of ``slot``; the caller must not write to it."""
        ...


class NoCache:
    """Decodes on every access."""

    def load(self, slot: int, read: ReadSlot) -> Array:
        """Decode ``slot``."""
        return read(slot)


class MemoryCache:
    """Decodes on first access, into memory that forked ``DataLoader`` workers share.

    An anonymous shared mapping rather than /dev/shm, which containers limit to 64 MiB. Workers
    that are spawned get a copy of what has been decoded by then.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        """Reserve the memory; nothing is decoded yet."""
        self._shapes = list(shapes)
        self._offsets, total = _offsets(self._shapes)
        self._map(total)

    def load(self, slot: int, read: ReadSlot) -> Array:
        """Return the array of ``slot``, decoding it if no process sharing this cache has."""
        array = _view(self._data, self._offsets[slot], self._shapes[slot])
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


class DiskCache:
    """A memory-mapped file of every array, built once and found again by its ``fingerprint``.

    The entry is a folder that appears under its final name only when complete, so a killed or
    concurrent build leaves nothing that a reader could mistake for it.

    Args:
        folder: where entries of all data sets are kept; made if missing.
        fingerprint: what the arrays depend on: the files, their times, the settings.
        shapes: the shape of each slot.
        read: decodes a slot.
        on_error: "raise" on the first array that does not decode, or "skip" it and remember the
            reason in ``failures``.

    Raises:
        UnreadableImageError: from ``read``, with on_error="raise".
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: object,
        shapes: Sequence[Shape],
        read: ReadSlot,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        """Find the entry, or decode everything and write it."""
        self._shapes = list(shapes)
        self._offsets, self._total = _offsets(self._shapes)
        key = hashlib.sha256(json.dumps([fingerprint, self._shapes]).encode()).hexdigest()[:32]
        self.path = folder / key
        if not self.path.is_dir():
            self._build(folder, read, on_error)
        failures = json.loads((self.path / "failures.json").read_text(encoding="utf-8"))
        self.failures = {int(slot): (Path(path), reason) for slot, path, reason in failures}
        self._open()

    def load(self, slot: int, read: ReadSlot) -> Array:
        """Return the array of ``slot`` from the file."""
        return _view(self._data, self._offsets[slot], self._shapes[slot])

    def _build(self, folder: Path, read: ReadSlot, on_error: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
        failures: list[tuple[int, str, str]] = []
        try:
            with open(building / "arrays.bin", "wb") as file:
                for slot, shape in enumerate(self._shapes):
                    try:
                        array = read(slot)
                    except UnreadableImageError as error:
                        if on_error == "raise":
                            raise
                        failures.append((slot, str(error.path), error.reason))
                        array = np.zeros(shape, dtype=np.uint8)
                    file.write(array.tobytes())
                file.flush()
                os.fsync(file.fileno())
            (building / "failures.json").write_text(json.dumps(failures), encoding="utf-8")
            try:
                building.rename(self.path)
            except OSError:
                # Another process finished the same entry first: its content is ours.
                if not self.path.is_dir():
                    raise
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def _open(self) -> None:
        self._data: Array = (
            np.memmap(self.path / "arrays.bin", dtype=np.uint8, mode="r")
            if self._total
            else np.empty(0, dtype=np.uint8)
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the mapping behind: pickled, it would carry the whole file."""
        return {name: value for name, value in self.__dict__.items() if name != "_data"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the file in this process."""
        self.__dict__.update(state)
        self._open()


def _offsets(shapes: Sequence[Shape]) -> tuple[list[int], int]:
    """Where each array starts, and the bytes of all."""
    ends = np.cumsum([0, *(math.prod(shape) for shape in shapes)]).tolist()
    return ends[:-1], ends[-1]


def _view(memory: Array, offset: int, shape: Shape) -> Array:
    return memory[offset : offset + math.prod(shape)].reshape(shape)
