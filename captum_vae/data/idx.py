"""The IDX format of MNIST's files, plain or gzipped."""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes: (n,) labels or (n, rows, columns) images.

    Raises:
        ValueError: naming the file, when it is truncated or no IDX file of unsigned bytes.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot unpack {path}: {error}; download it again") from error
    # Magic number: two zero bytes, the type (8: unsigned byte), the number of dimensions.
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of unsigned bytes: it starts {content[:4]!r}")
    start = 4 + 4 * content[3]
    shape = tuple(int(side) for side in np.frombuffer(content[4:start], dtype=">u4"))
    values = np.frombuffer(content[start:], dtype=np.uint8)
    if len(shape) != content[3] or values.size != np.prod(shape):
        raise ValueError(
            f"{path} is truncated: its header announces {shape}, {values.size} bytes follow; "
            "download it again"
        )
    return values.reshape(shape)
