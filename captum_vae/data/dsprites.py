"""dSprites as a data set: drawn on the fly, or read from the original file or a part of it."""

import hashlib
from collections.abc import Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.data.array_files import read_npz
from captum_vae.data.dsprites_factors import (
    FACTOR_NAMES,
    IMAGE_COUNT,
    classes_of_index,
    classes_of_values,
    index_of_classes,
)
from captum_vae.data.dsprites_renderer import IMAGE_SIZE, render_classes
from captum_vae.data.listing import as_path
from captum_vae.files import reading

_CHECKED = 4096
"""Images whose values are checked at once."""


class DSpritesSample(NamedTuple):
    """One sprite, or a batch of them after collation.

    Attributes:
        image: (1, 64, 64) zeros and ones.
        classes: (5,) int64 classes of shape, scale, orientation, posX and posY (no colour).
    """

    image: Tensor
    classes: Tensor


class DSprites(Dataset[DSpritesSample]):
    """The 737,280 images of dSprites in the original's order, drawn when asked for.

    A ``DataLoader`` fetches whole batches (``__getitems__``), which are drawn at once.

    Args:
        indices: (N,) indices into the original, for a part of it; None for all.
        dtype: Type of the images.

    Raises:
        TypeError: ``indices`` is no tensor of integers, or ``dtype`` no torch.dtype.
        ValueError: An index is out of range.

    Example:
        >>> data = DSprites()
        >>> image, classes = data[123_456]
        >>> len(data), tuple(image.shape), classes.tolist()
        (737280, (1, 64, 64), [0, 3, 0, 18, 0])
    """

    def __init__(
        self, indices: Tensor | None = None, *, dtype: torch.dtype = torch.float32
    ) -> None:
        """Choose the images."""
        if not isinstance(dtype, torch.dtype):
            raise TypeError(f"dtype is {dtype!r}; wanted a torch.dtype, as torch.float32")
        indices = torch.arange(IMAGE_COUNT) if indices is None else indices
        self.classes = classes_of_index(indices).cpu()
        """(N, 5) int64 classes of all images."""
        self.dtype = dtype
        self._stored: Tensor | None = None

    @classmethod
    def from_npz(
        cls, path: str | PathLike[str], *, dtype: torch.dtype = torch.float32
    ) -> "DSprites":
        """Read images instead of drawing them.

        The file is the original ``dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz`` (its ``imgs``
        are 3 GB in memory) or a part of it with the same keys. Classes come from
        ``latents_values``, six columns with colour first or five without: the ``latents_classes``
        of a part may count the values in that part.

        Args:
            path: The file.
            dtype: Type of the images.

        Raises:
            FileNotFoundError: There is no such file.
            DamagedFileError: It is damaged or cut off (checksums are verified), a key is missing,
                images and factors do not fit together, or images hold anything but 0 and one
                other value, which is 1 or 255.
        """
        path = as_path("path", path)
        with reading(path, "a dSprites file", remedy="download it again"):
            images, factors = read_npz(path, ["imgs", "latents_values"])
            if images.shape != (len(factors), IMAGE_SIZE, IMAGE_SIZE):
                raise ValueError(
                    f"imgs has the shape {images.shape}, not ({len(factors)}, 64, 64), as many as "
                    "latents_values has rows"
                )
            if factors.dtype.kind not in "iuf":
                raise ValueError(f"latents_values holds {factors.dtype}, not numbers")
            values = torch.from_numpy(factors.astype(np.float64))
            if values.ndim == 2 and values.shape[1] == len(FACTOR_NAMES) + 1:
                values = values[:, 1:]
            data = cls(index_of_classes(classes_of_values(values)), dtype=dtype)
            data._stored = torch.from_numpy(_zeros_and_ones(images)).unsqueeze(1)
        return data

    def __len__(self) -> int:
        """Count the images."""
        return len(self.classes)

    @property
    def digest(self) -> str:
        """SHA-256 over the images' classes and, where they come from a file, their pixels."""
        total = hashlib.sha256(repr(self.dtype).encode())
        total.update(self.classes.numpy().tobytes())
        if self._stored is not None:
            total.update(self._stored.numpy().tobytes())
        return total.hexdigest()

    def __getitem__(self, index: int) -> DSpritesSample:
        """Sample ``index``; a negative one counts from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index is {index}; there are {len(self)} images")
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[DSpritesSample]:
        """Samples at ``indices``, drawn at once."""
        rows = torch.as_tensor(indices)
        images, classes = self.images(rows), self.classes[rows]
        return [DSpritesSample(*sample) for sample in zip(images, classes, strict=True)]

    def images(self, indices: Tensor) -> Tensor:
        """Images at (N,) ``indices``: (N, 1, 64, 64)."""
        if self._stored is not None:
            return self._stored[indices].to(self.dtype)
        return render_classes(self.classes[indices], dtype=self.dtype)


def _zeros_and_ones(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images of 0 and 1 as bytes, from booleans or from numbers that are 0 and 1 or 0 and 255."""
    if images.dtype == np.bool_:
        return images.astype(np.uint8)
    if images.dtype.kind not in "iuf":
        raise ValueError(f"imgs holds {images.dtype}, not numbers")
    top = images.max(initial=0)
    # In parts: the whole file has 3 GB of images.
    parts = [images[start : start + _CHECKED] for start in range(0, len(images), _CHECKED)]
    if top not in (0, 1, 255) or any(((part != 0) & (part != top)).any() for part in parts):
        raise ValueError(
            f"imgs holds other values than 0 and 1 or 0 and 255, from {images.min()} to {top}"
        )
    if top <= 1:
        return np.asarray(images, dtype=np.uint8)
    return np.asarray(images != 0, dtype=np.uint8)
