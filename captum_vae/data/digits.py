"""Handwritten digits as a one-class problem: some digits are normal, the others anomalous."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vae.data.files import existing_folder
from captum_vae.data.idx import read_idx
from captum_vae.data.resize import height_width, resize_image
from captum_vae.data.sample import Sample, SampleDataset

Split: TypeAlias = Literal["train", "test"]


class Digits(SampleDataset):
    """Images of digits held in memory; the group of a sample is its digit, the mask is unknown.

    Args:
        images: (n, rows, columns) uint8.
        classes: (n,) the digit on each image.
        name: prefix of the samples' names, which end in the image's number.
        digits: the digits to read; None for all ten.
        normal_digits: the digits with label 0, the rest has label 1; None makes all normal.
        image_size: (h, w) or one number; None keeps the size.
        image_channels: 1, or 3 for the same grey three times.

    Raises:
        ValueError: for a digit outside 0..9, options out of range, or no image left.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        classes: NDArray[np.integer],
        name: str,
        *,
        digits: Sequence[int] | None = None,
        normal_digits: Sequence[int] | None = None,
        image_size: int | tuple[int, int] | None = None,
        image_channels: Literal[1, 3] = 1,
    ) -> None:
        """Select the digits."""
        if image_channels not in (1, 3):
            raise ValueError(f"image_channels is {image_channels!r}; wanted 1 or 3")
        if len(images) != len(classes):
            raise ValueError(f"{len(images)} images and {len(classes)} labels; wanted as many")
        self._size = height_width(image_size)
        self._channels = image_channels
        self._normal = _checked_digits("normal_digits", normal_digits)
        chosen = np.isin(classes, _checked_digits("digits", digits))
        if not chosen.any():
            raise ValueError(f"digits is {digits!r}; none of the {len(images)} images shows one")
        self._numbers = np.flatnonzero(chosen)
        self._images, self._classes = images[chosen], classes[chosen]
        self._name = name

    def __len__(self) -> int:
        """Count the images of the chosen digits."""
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``."""
        pixels = resize_image(self._images[index], self._size).astype(np.float32)
        image = torch.from_numpy(pixels).div_(255).repeat(self._channels, 1, 1)
        digit = int(self._classes[index])
        name = f"{self._name}/{self._numbers[index]}"
        return Sample(image, None, int(digit not in self._normal), name, str(digit))

    @property
    def labels(self) -> list[int | None]:
        """The samples' labels, in order."""
        return [int(digit not in self._normal) for digit in self._classes.tolist()]

    @property
    def groups(self) -> list[str]:
        """The samples' digits, in order."""
        return [str(digit) for digit in self._classes.tolist()]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of every image."""
        height, width = self._size or self._images.shape[1:]
        return self._channels, int(height), int(width)


class MNIST(Digits):
    """MNIST read from its IDX files, plain or gzipped; nothing is downloaded.

    Args:
        root: the folder with the files, or one above it (``root/raw`` or ``root/MNIST/raw``).
        split: "train" (60,000) or "test" (10,000).
        digits: the digits to read, [1] to train on one class; None for all ten.
        normal_digits: the digits with label 0; None makes all normal.
        image_size: (h, w) or one number; None keeps 28 x 28.
        image_channels: 1 or 3.

    Raises:
        FileNotFoundError: naming the file and the folders searched.
        ValueError: for a damaged file.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        *,
        digits: Sequence[int] | None = None,
        normal_digits: Sequence[int] | None = None,
        image_size: int | tuple[int, int] | None = None,
        image_channels: Literal[1, 3] = 1,
    ) -> None:
        """Find and read the two files of the split."""
        folder = existing_folder(root, "root", "the folder of MNIST's IDX files")
        prefix = {"train": "train", "test": "t10k"}[_checked_split(split)]
        super().__init__(
            read_idx(_find(folder, f"{prefix}-images", "idx3-ubyte")),
            read_idx(_find(folder, f"{prefix}-labels", "idx1-ubyte")),
            split,
            digits=digits,
            normal_digits=normal_digits,
            image_size=image_size,
            image_channels=image_channels,
        )


class OneClassDigits(Digits):
    """The 1,797 digits that come with scikit-learn, for tests and examples without a download.

    8 x 8 pixels of 0..16, brought to 28 x 28 by default. Every fifth image is for testing.

    Args:
        split: "train" or "test".
        digits: the digits to read; None for all ten.
        normal_digits: the digits with label 0; None makes all normal.
        image_size: (h, w) or one number; None keeps 8 x 8.
        image_channels: 1 or 3.
    """

    def __init__(
        self,
        split: Split = "train",
        *,
        digits: Sequence[int] | None = None,
        normal_digits: Sequence[int] | None = None,
        image_size: int | tuple[int, int] | None = 28,
        image_channels: Literal[1, 3] = 1,
    ) -> None:
        """Load the digits that scikit-learn ships."""
        # Slow to import, and no other reader needs it.
        from sklearn.datasets import load_digits

        bundle = load_digits()
        test = np.arange(len(bundle.target)) % 5 == 4
        part = test if _checked_split(split) == "test" else ~test
        super().__init__(
            np.round(bundle.images[part] * (255 / 16)).astype(np.uint8),
            bundle.target[part],
            split,
            digits=digits,
            normal_digits=normal_digits,
            image_size=image_size,
            image_channels=image_channels,
        )


def _checked_digits(argument: str, digits: Sequence[int] | None) -> list[int]:
    if digits is None:
        return list(range(10))
    if not digits or any(digit not in range(10) for digit in digits):
        raise ValueError(f"{argument} is {digits!r}; wanted digits from 0 to 9, as in [1, 7]")
    return list(digits)


def _checked_split(split: str) -> str:
    if split not in ("train", "test"):
        raise ValueError(f"split is {split!r}; wanted 'train' or 'test'")
    return split


def _find(root: Path, stem: str, kind: str) -> Path:
    """Find ``stem-kind``; some copies put a dot before the kind."""
    folders = (root, root / "raw", root / "MNIST" / "raw")
    for folder in folders:
        for joint in "-.":
            for ending in ("", ".gz"):
                path = folder / f"{stem}{joint}{kind}{ending}"
                if path.is_file():
                    return path
    raise FileNotFoundError(
        f"no {stem}-{kind} or {stem}-{kind}.gz in {', '.join(str(folder) for folder in folders)}"
    )
