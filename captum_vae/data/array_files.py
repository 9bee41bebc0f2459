"""Arrays in NumPy's files, checked against their headers before memory is taken for them."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from captum_vae.files import reading

Array = NDArray[Any]


def read_npy(path: Path) -> Array:
    """The array of a .npy file.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is damaged, needs pickle, or has not the length its header announces.
    """
    with reading(path, "an array that NumPy saved without pickle", remedy="save it again"):
        with open(path, "rb") as file:
            return _read(file, path.stat().st_size)


def array_names(path: Path) -> list[str]:
    """The names of the arrays in a .npz file.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is no .npz file.
    """
    with _archive_errors(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npz(path: Path, names: Sequence[str]) -> list[Array]:
    """Arrays of a .npz file by name; the checksum of each is verified.

    Args:
        path: The file.
        names: The names of the arrays wanted.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is damaged, or lacks an array; the message lists those it has.
    """
    with _archive_errors(path), zipfile.ZipFile(path) as archive:
        found = {name.removesuffix(".npy"): name for name in archive.namelist()}
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(
                f"it holds the arrays {', '.join(sorted(found)) or 'none'} and lacks "
                f"{', '.join(missing)}"
            )
        arrays = []
        for name in names:
            entry = archive.getinfo(found[name])
            with archive.open(entry) as file:
                arrays.append(_read(file, entry.file_size))
                # The checksum is compared when the end is met.
                if file.read(1):
                    raise ValueError(f"the array {name} is longer than its header announces")
        return arrays


def _archive_errors(path: Path) -> Any:
    return reading(path, "a .npz file of arrays", remedy="save or download it again")


def _read(file: IO[bytes], size: int) -> Array:
    """Read an array from a stream of ``size`` bytes, no memory taken before these agree."""
    version = npy_format.read_magic(file)
    read_header = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"NumPy's format {version} is not known")
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which only pickle reads and which may run code")
    announced = math.prod(shape) * dtype.itemsize
    if announced > size:
        raise ValueError(
            f"its header announces {shape} of {dtype}, {announced} bytes, and {size} are there"
        )
    content = bytearray(announced)
    view, filled = memoryview(content), 0
    while filled < announced:
        block = file.read(min(announced - filled, 2**22))
        if not block:
            raise ValueError(f"it ends after {filled} of {announced} bytes")
        view[filled : filled + len(block)] = block
        filled += len(block)
    flat = np.frombuffer(content, dtype=dtype, count=math.prod(shape))
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
