"""dSprites as a data set: drawn on the fly, or read from the original file or a part of it."""

from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.data.dsprites_factors import (
    FACTOR_NAMES,
    IMAGE_COUNT,
    classes_of_index,
    classes_of_values,
    index_of_classes,
)
from captum_vae.data.dsprites_renderer import IMAGE_SIZE, render_classes


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
        dtype: of the images.

    Raises:
        ValueError: an index is out of range.

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
        indices = torch.arange(IMAGE_COUNT) if indices is None else indices.long().cpu()
        self.classes = classes_of_index(indices)
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

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a key is missing, or images and factors do not fit together.
        """
        with np.load(path) as archive:
            missing = {"imgs", "latents_values"} - set(archive.files)
            if missing:
                raise ValueError(
                    f"{path} has the keys {archive.files}; wanted {sorted(missing)} as well, as "
                    "in the original dSprites file"
                )
            images, values = archive["imgs"], torch.from_numpy(archive["latents_values"])
        if images.shape != (len(values), IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(
                f"imgs of {path} has shape {images.shape}; wanted ({len(values)}, 64, 64), as many "
                "as latents_values has rows"
            )
        if values.ndim == 2 and values.shape[1] == len(FACTOR_NAMES) + 1:
            values = values[:, 1:]
        data = cls(index_of_classes(classes_of_values(values)), dtype=dtype)
        data._stored = torch.from_numpy(images).unsqueeze(1)
        return data

    def __len__(self) -> int:
        """Count the images."""
        return len(self.classes)

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
