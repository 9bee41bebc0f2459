"""Writing the small folders that the readers are tested on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImage = Callable[..., Path]


@pytest.fixture
def write_image() -> WriteImage:
    """Return a function that saves an array, or a flat image, under a path."""

    def write(path: Path, pixels: object = 100, size: tuple[int, int] = (8, 10)) -> Path:
        array = np.full(size, pixels, dtype=np.uint8) if isinstance(pixels, int) else pixels
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(array)).save(path)
        return path

    return write


@pytest.fixture
def truncate() -> Callable[[Path], Path]:
    """Return a function that cuts the second half off a file."""

    def cut(path: Path) -> Path:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        return path

    return cut
