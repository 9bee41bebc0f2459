"""Handwritten digits as a one-class problem: some digits are normal, the others anomalous."""

import hashlib
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vae.checks import check_choice, whole_number
from captum_vae.data.idx import read_idx
from captum_vae.data.listing import existing_folder
from captum_vae.data.resize import ImageSize, height_width, resize_image
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.files import reading

Split: TypeAlias = Literal["train", "test"]


class Digits(SampleDataset):
    """Images of digits held in memory; the group of a sample is its digit, the mask is unknown.

    Args:
        images: (n, rows, columns) uint8.
        classes: (n,) integers, the digit on each image.
        name: Prefix of the samples' names, which end in the image's number.
        digits: The digits to read; None for all ten.
        normal_digits: The digits with label 0, the rest has label 1; None makes all normal.
        image_size: (h, w) or one number; None keeps the size.
        image_channels: 1, or 3 for the same grey three times.

    Raises:
        TypeError: Images or classes are no arrays of integers, or an option has the wrong type.
        ValueError: A digit lies outside 0..9, an option is out of range, or no image is left.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        classes: NDArray[np.integer],
        name: str,
        *,
        digits: Sequence[int] | None = None,
        normal_digits: Sequence[int] | None = None,
        image_size: ImageSize = None,
        image_channels: Literal[1, 3] = 1,
    ) -> None:
        """Select the digits."""
        if whole_number("image_channels", image_channels) not in (1, 3):
            raise ValueError(f"image_channels is {image_channels!r}; wanted 1 or 3")
        _check_arrays(images, classes)
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
        index = operator.index(index)
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
    def digest(self) -> str:
        """SHA-256 over the images, their digits and the options."""
        options = (self._name, self._size, self._channels, self._normal, self._images.shape)
        total = hashlib.sha256(repr(options).encode())
        for array in (self._images, self._classes.astype(np.int64), self._numbers):
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of every image."""
        height, width = self._size or self._images.shape[1:]
        return self._channels, int(height), int(width)


class MNIST(Digits):
    """MNIST read from its IDX files, plain or gzipped; nothing is downloaded.

    Args:
        root: The folder with the files, or one above it (``root/raw`` or ``root/MNIST/raw``).
        split: "train" (60,000) or "test" (10,000).
        digits: The digits to read, [1] to train on one class; None for all ten.
        normal_digits: The digits with label 0; None makes all normal.
        image_size: (h, w) or one number; None keeps 28 x 28.
        image_channels: 1 or 3.

    Raises:
        FileNotFoundError: A file is missing; the message names it and the folders searched.
        ValueError: A file is damaged, or an option out of range.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        *,
        digits: Sequence[int] | None = None,
        normal_digits: Sequence[int] | None = None,
        image_size: ImageSize = None,
        image_channels: Literal[1, 3] = 1,
    ) -> None:
        """Find and read the two files of the split."""
        folder = existing_folder(root, "root", "the folder of MNIST's IDX files")
        check_choice("split", split, ("train", "test"))
        prefix = "train" if split == "train" else "t10k"
        images = read_idx(_find(folder, f"{prefix}-images", "idx3-ubyte"), 3)
        labels = _find(folder, f"{prefix}-labels", "idx1-ubyte")
        classes = read_idx(labels, 1)
        with reading(labels, "the digit on each image", remedy="download both files again"):
            _check_arrays(images, classes)
        super().__init__(
            images,
            classes,
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
        digits: The digits to read; None for all ten.
        normal_digits: The digits with label 0; None makes all normal.
        image_size: (h, w) or one number; None keeps 8 x 8.
        image_channels: 1 or 3.
    """

    def __init__(
        self,
        split: Split = "train",
        *,
        digits: Sequence[int] | None = None,
        normal_digits: Sequence[int] | None = None,
        image_size: ImageSize = 28,
        image_channels: Literal[1, 3] = 1,
    ) -> None:
        """Load the digits that scikit-learn ships."""
        check_choice("split", split, ("train", "test"))
        # Slow to import, and no other reader needs it.
        from sklearn.datasets import load_digits

        bundle = load_digits()
        test = np.arange(len(bundle.target)) % 5 == 4
        part = test if split == "test" else ~test
        super().__init__(
            np.round(bundle.images[part] * (255 / 16)).astype(np.uint8),
            bundle.target[part],
            split,
            digits=digits,
            normal_digits=normal_digits,
            image_size=image_size,
            image_channels=image_channels,
        )


def _checked_digits(argument: str, digits: Any) -> list[int]:
    if digits is None:
        return list(range(10))
    hint = "wanted digits from 0 to 9, as in [1, 7]"
    if isinstance(digits, str | bytes) or not isinstance(digits, Iterable):
        raise TypeError(f"{argument} is {digits!r}; {hint}")
    checked = [whole_number(argument, digit, least=0, most=9, hint=hint) for digit in digits]
    if not checked:
        raise ValueError(f"{argument} is empty; {hint}")
    return checked


def _check_arrays(images: Any, classes: Any) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 3:
        found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images)
        raise TypeError(f"images is {found}; wanted a uint8 array (n, rows, columns)")
    if not isinstance(classes, np.ndarray) or classes.dtype.kind not in "iu" or classes.ndim != 1:
        raise TypeError("classes is no array of integers; wanted (n,), the digit on each image")
    if len(images) != len(classes):
        raise ValueError(
            f"images and classes: {len(images)} images and {len(classes)} labels; wanted as many"
        )
    if len(classes) and not (0 <= int(classes.min()) and int(classes.max()) <= 9):
        raise ValueError(f"classes run from {classes.min()} to {classes.max()}; wanted 0 to 9")


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
