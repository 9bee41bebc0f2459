"""The IDX format of MNIST's files, plain or gzipped."""

import gzip
import math
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from captum_vae.files import reading

_DEFLATE_AT_MOST = 1032
"""How many times smaller gzip makes anything at best."""


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes.

    The header is checked before anything else is unpacked, and nothing beyond the size that it
    announces is read into memory.

    Args:
        path: The file, unpacked from gzip if it ends in ``.gz``.
        dimensions: 1 for labels (n,), 3 for images (n, rows, columns).

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is truncated, too long, or no IDX file of that many dimensions.
    """
    kind = {1: "labels", 3: "images"}.get(dimensions, f"{dimensions} dimensions")
    wanted = f"an IDX file of unsigned bytes with {kind}"
    with reading(path, wanted, remedy="download it again"):
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as unpacked:
                return _read(
                    cast(IO[bytes], unpacked), dimensions, _DEFLATE_AT_MOST * path.stat().st_size
                )
        with open(path, "rb") as file:
            return _read(file, dimensions, path.stat().st_size)


def _read(file: IO[bytes], dimensions: int, most: int) -> NDArray[np.uint8]:
    # Magic number: two zero bytes, the type (8: unsigned byte), the number of dimensions.
    magic = file.read(4)
    if magic[:3] != b"\0\0\x08" or len(magic) != 4:
        raise ValueError(f"it starts {magic!r}")
    if magic[3] != dimensions:
        raise ValueError(f"it holds {magic[3]} dimensions")
    header = file.read(4 * dimensions)
    if len(header) != 4 * dimensions:
        raise ValueError("it is truncated in the header")
    shape = tuple(np.frombuffer(header, dtype=">u4").tolist())
    announced = math.prod(shape)
    if announced > most:
        raise ValueError(
            f"it is truncated: its header announces {shape}, for which it is too short"
        )
    content = bytearray()
    while len(content) < announced:
        block = file.read(min(announced - len(content), 2**20))
        if not block:
            raise ValueError(
                f"it is truncated: its header announces {shape}, {len(content)} bytes follow"
            )
        content += block
    # Reading on also checks gzip's own checksum, which stands at the end.
    if file.read(1):
        raise ValueError(f"its header announces {shape}, and more bytes follow")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)
