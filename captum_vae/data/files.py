"""Data sets made of image files: the machinery that every folder layout shares."""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from captum_vae.data.cache import Array, ArrayCache, CacheKind, DiskCache, MemoryCache, NoCache
from captum_vae.data.decode import (
    ImageHeader,
    UnreadableImageError,
    probe_image,
    read_image,
    read_mask,
)
from captum_vae.data.resize import ImageSize, height_width, resize_mask
from captum_vae.data.sample import Sample, SampleDataset

ImageChannels: TypeAlias = Literal["auto", 1, 3]
OnError: TypeAlias = Literal["raise", "skip"]

MaskState: TypeAlias = Literal["empty", "unknown"]
EMPTY: MaskState = "empty"
UNKNOWN: MaskState = "unknown"

IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .tif .tiff .webp .gif .ppm .pgm .pbm .pnm .jp2 .tga "
    ".avif".split()
)


@dataclass(frozen=True)
class ImageFile:
    """One image on disk and its ground truth.

    Attributes:
        path: the image.
        name: its path relative to the data set's root, with forward slashes.
        group: clip, defect kind or folder.
        label: 0 normal, 1 anomalous; None to go by the mask, and unknown without one.
        mask: the mask's file; "empty" when the image is known to be normal everywhere; "unknown".
    """

    path: Path
    name: str
    group: str
    label: int | None
    mask: Path | MaskState


class Skipped(NamedTuple):
    """A sample left out under on_error="skip": the file that does not decode, and why."""

    path: Path
    reason: str


class ImageFileDataset(SampleDataset):
    """Samples read from files, decoded once.

    Every reader of a folder layout inherits its options from here.

    Args:
        files: the images, in the order in which they are to be indexed.
        image_size: (h, w) of the images, or one number for a square; None keeps each at its own
            size. Masks keep theirs.
        image_channels: 1 converts to grey, 3 to RGB; "auto" takes what the files have and refuses
            a mixture.
        mask_size: (h, w) to bring masks to by area (``resize_mask``); None, the default, leaves
            the ground truth untouched.
        on_error: "raise" stops at the first file that does not decode, naming it; "skip" decodes
            everything at construction, leaves out what fails, warns with the count and lists it
            in ``skipped``.
        cache: "memory" decodes on first use and keeps the resized bytes, shared with forked
            workers; "disk" decodes once into ``cache_dir`` for this and later runs; "none"
            decodes on every access.
        cache_dir: folder of the disk cache.

    Attributes:
        files: the images that can be read, in order.
        skipped: the images left out.
        channels: 1 or 3.

    Raises:
        ValueError: for no files, options out of range, mixed grey and colour, or a mask whose
            size is not its image's.
        UnreadableImageError: for a file that does not decode (here or on access).
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        *,
        image_size: ImageSize = None,
        image_channels: ImageChannels = "auto",
        mask_size: ImageSize = None,
        on_error: OnError = "raise",
        cache: CacheKind = "memory",
        cache_dir: str | Path | None = None,
    ) -> None:
        """Read every header; decode only as far as the options ask for."""
        _check_choice("image_channels", image_channels, ("auto", 1, 3))
        _check_choice("on_error", on_error, ("raise", "skip"))
        _check_choice("cache", cache, ("memory", "disk", "none"))
        if (cache == "disk") != (cache_dir is not None):
            raise ValueError(
                f"cache is {cache!r} and cache_dir is {cache_dir!r}; "
                'wanted a cache_dir with cache="disk" and only then'
            )
        self._size = height_width(image_size)
        self._mask_size = height_width(mask_size, "mask_size")
        self._on_error = on_error
        self.skipped: list[Skipped] = []
        found = len(files)
        self._files, images, masks = self._probe(files)
        self.channels = _resolve_channels(image_channels, self._files, images)
        _check_mask_sizes(self._files, images, masks)
        self._image_shapes = [(self.channels, *(self._size or header[:2])) for header in images]
        mask_shapes = [(mask.height, mask.width) if mask else (0,) for mask in masks]
        self._cache = self._open_cache(cache, cache_dir, [*self._image_shapes, *mask_shapes])
        self._kept = list(range(len(self._files)))
        if on_error == "skip":
            self._leave_out_undecodable()
        if self.skipped:
            warnings.warn(
                f"skipped {len(self.skipped)} of {found} images that do not decode, first "
                f"{self.skipped[0].path}; the attribute skipped lists them",
                stacklevel=2,
            )
        if not self._kept:
            raise ValueError(f"none of the {found} images can be decoded: {self.skipped[:3]}")
        self.files = [self._files[slot] for slot in self._kept]

    def __len__(self) -> int:
        """Count the images that can be read."""
        return len(self._kept)

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``; negative indices count from the end."""
        slot = self._kept[index]
        file = self._files[slot]
        array = self._cache.load(slot, self._read)
        image = torch.from_numpy(array.astype(np.float32)).div_(255)
        mask = self._mask(slot)
        label = file.label
        if label is None and mask is not None:
            label = int(mask.any())
        if mask is not None:
            mask = resize_mask(mask, self._mask_size)
        return Sample(image, mask, label, file.name, file.group)

    @property
    def names(self) -> list[str]:
        """The samples' names, in order."""
        return [file.name for file in self.files]

    @property
    def groups(self) -> list[str]:
        """The samples' groups, in order."""
        return [file.group for file in self.files]

    @property
    def labels(self) -> list[int | None]:
        """The samples' labels, in order; reads the masks of those that go by their mask."""
        return [
            int(self._cache.load(self._mask_slot(slot), self._read).any())
            if self._files[slot].label is None and isinstance(self._files[slot].mask, Path)
            else self._files[slot].label
            for slot in self._kept
        ]

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, h, w) of every image, or None when they differ."""
        shapes = {self._image_shapes[slot] for slot in self._kept}
        return shapes.pop() if len(shapes) == 1 else None

    def preload(self) -> None:
        """Decode everything now, for instance before workers are spawned."""
        for slot in self._kept:
            self._cache.load(slot, self._read)
            if isinstance(self._files[slot].mask, Path):
                self._cache.load(self._mask_slot(slot), self._read)

    def _mask_slot(self, slot: int) -> int:
        return len(self._files) + slot

    def _mask(self, slot: int) -> Tensor | None:
        mask = self._files[slot].mask
        if mask == UNKNOWN:
            return None
        if mask == EMPTY:
            return torch.zeros(self._own_sizes[slot], dtype=torch.bool)
        array = self._cache.load(self._mask_slot(slot), self._read)
        return torch.from_numpy(array.astype(np.bool_))

    def _read(self, slot: int) -> Array:
        """Decode an image, or the mask of image ``slot - len(files)``."""
        if slot < len(self._files):
            return read_image(self._files[slot].path, self.channels, self._size)
        mask = self._files[slot - len(self._files)].mask
        if not isinstance(mask, Path):
            return np.empty(0, dtype=np.uint8)
        return read_mask(mask).view(np.uint8)

    def _probe(
        self, files: Sequence[ImageFile]
    ) -> tuple[list[ImageFile], list[ImageHeader], list[ImageHeader | None]]:
        """Read the headers of images and masks; leave out what is no image if asked to."""
        kept, images, masks = [], [], []
        for file in files:
            try:
                image = probe_image(file.path)
                mask = probe_image(file.mask) if isinstance(file.mask, Path) else None
            except UnreadableImageError as error:
                if self._on_error == "raise":
                    raise
                self.skipped.append(Skipped(error.path or file.path, error.reason))
                continue
            kept.append(file)
            images.append(image)
            masks.append(mask)
        self._own_sizes = [(image.height, image.width) for image in images]
        return kept, images, masks

    def _open_cache(
        self, kind: CacheKind, folder: str | Path | None, shapes: list[tuple[int, ...]]
    ) -> ArrayCache:
        if kind == "none":
            return NoCache()
        if folder is None:
            return MemoryCache(shapes)
        paths = [file.path for file in self._files]
        paths += [file.mask for file in self._files if isinstance(file.mask, Path)]
        stats = [(str(path.resolve()), path.stat()) for path in paths]
        fingerprint = {
            "files": [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats],
            "image_size": self._size,
            "channels": self.channels,
            "on_error": self._on_error,
        }
        return DiskCache(Path(folder), fingerprint, shapes, self._read, self._on_error)

    def _leave_out_undecodable(self) -> None:
        failures = self._cache.failures if isinstance(self._cache, DiskCache) else {}
        kept = []
        for slot in self._kept:
            failure = failures.get(slot) or failures.get(self._mask_slot(slot))
            if failure is None:
                try:
                    self._cache.load(slot, self._read)
                    self._cache.load(self._mask_slot(slot), self._read)
                except UnreadableImageError as error:
                    failure = (error.path or self._files[slot].path, error.reason)
            if failure is None:
                kept.append(slot)
            else:
                self.skipped.append(Skipped(*failure))
        self._kept = kept


def image_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """List the images in a folder in natural order (2 before 10).

    Hidden files (``.DS_Store``, ``._001.tif``) and files that are not images are passed over.
    """
    found = folder.rglob("*") if recursive else folder.iterdir()
    return natural_sort(
        path
        for path in found
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder in natural order, hidden ones passed over."""
    return natural_sort(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def natural_sort(paths: Iterable[Path]) -> list[Path]:
    """Sort paths so that numbers in names count as numbers."""
    return sorted(paths, key=lambda path: (_natural_key(path.as_posix()), path.as_posix()))


def existing_folder(path: str | Path, argument: str, wanted: str) -> Path:
    """Return ``path`` if it is a folder.

    Raises:
        FileNotFoundError: naming the argument, the path and what was ``wanted`` there.
    """
    folder = Path(path)
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{argument}: {folder} {kind}; wanted {wanted}")
    return folder


def match_masks(
    images: Iterable[tuple[str | int, Path]], masks: Iterable[tuple[str | int, Path]]
) -> dict[Path, Path]:
    """Pair each mask with the image that has the same key; images may go without.

    Args:
        images: keys and images.
        masks: keys and masks.

    Returns:
        The mask of each image that has one.

    Raises:
        ValueError: for a mask without an image, two masks of one image, or two images that would
            share one mask.
    """
    images_of: dict[str | int, list[Path]] = {}
    for key, image in images:
        images_of.setdefault(key, []).append(image)
    mask_of: dict[Path, Path] = {}
    for key, mask in masks:
        owners = images_of.get(key, [])
        if len(owners) != 1:
            found = " and ".join(str(path) for path in owners) or "no image"
            raise ValueError(
                f"the mask {mask} matches {found}; wanted exactly one image of that name, so "
                "remove the mask or restore its image"
            )
        if owners[0] in mask_of:
            raise ValueError(
                f"{mask_of[owners[0]]} and {mask} are both masks of {owners[0]}; remove one"
            )
        mask_of[owners[0]] = mask
    return mask_of


def _resolve_channels(
    asked: ImageChannels, files: Sequence[ImageFile], headers: Sequence[ImageHeader]
) -> int:
    if asked != "auto":
        return asked
    example = {header.channels: file.path for file, header in zip(files, headers, strict=True)}
    if len(example) > 1:
        raise ValueError(
            f"images mix grey ({example[1]}) and colour ({example[3]}); "
            "pass image_channels=1 or image_channels=3 to convert them"
        )
    return next(iter(example), 1)


def _check_mask_sizes(
    files: Sequence[ImageFile],
    images: Sequence[ImageHeader],
    masks: Sequence[ImageHeader | None],
) -> None:
    for file, image, mask in zip(files, images, masks, strict=True):
        if mask is not None and mask[:2] != image[:2]:
            raise ValueError(
                f"the mask {file.mask} is {mask.height} x {mask.width} pixels and its image "
                f"{file.path} is {image.height} x {image.width}; wanted the same size"
            )


def _check_choice(argument: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{argument} is {value!r}; wanted one of {choices}")


def _natural_key(text: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.lower())
        for part in re.split(r"(\d+)", text)
        if part
    ]
