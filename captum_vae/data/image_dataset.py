"""Data sets made of image files: the machinery that every folder layout shares."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_vae.checks import check_choice, warn_caller
from captum_vae.data.cache import Array, CacheKind, MemoryCache, NoCache
from captum_vae.data.decode import (
    ImageHeader,
    PixelRange,
    UnknownPixelRangeError,
    UnreadableImageError,
    checked_pixel_range,
    probe_image,
    read_image,
)
from captum_vae.data.image_file import (
    EMPTY,
    UNKNOWN,
    ImageFile,
    check_mask_sizes,
    check_one_size,
    resolve_channels,
)
from captum_vae.data.listing import PassedOver, counted_reasons
from captum_vae.data.mask_values import (
    ANOMALOUS,
    IGNORED,
    MaskValues,
    checked_mask_values,
    described,
    read_states,
)
from captum_vae.data.reading_options import ImageChannels, OnError
from captum_vae.data.resize import ImageSize, height_width, resize_mask
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.files import reading

_CONTRADICTIONS = (
    "is labelled normal, and its mask marks anomalous pixels",
    "is labelled anomalous, and its mask marks no pixel",
)
"""What is remarked on where label and mask do not agree, by label."""


class Skipped(NamedTuple):
    """A sample left out under on_error="skip": the file that does not decode, and why."""

    path: Path
    reason: str


class ImageFileDataset(SampleDataset):
    """Samples read from files, decoded once.

    Every reader of a folder layout inherits from here and passes its options on.

    Args:
        files: The images, in the order in which they are to be indexed.
        passed_over: What a reader found beside them and did not read, for :attr:`summary`.
        image_size: Side, or height and width, that images are resized to, in pixels; None keeps
            their own. It and the options below are those of
            :class:`~captum_vae.data.ReadingOptions`.
        image_channels: 1, 3 or "auto".
        mask_size: None keeps the masks untouched.
        mask_values: What the values of masks mean; None decides by rule or refuses.
        pixel_range: The values that are black and white in files of more than eight bits.
        on_error: "raise" or "skip" what does not decode.
        cache: "memory" or "none".

    Attributes:
        files: The images that can be read, in order.
        skipped: The images left out because they do not decode.
        passed_over: The files and folders that were found and not read, with reasons.
        channels: 1 or 3.

    Raises:
        ValueError: There are no files, an option is out of range, grey and colour are mixed, or a
            mask has another size than its image.
        TypeError: An option has the wrong type.
        UnreadableImageError: A file does not decode (here or on access).
        UndecidedMaskError: The values of a mask do not say what is anomalous (on access).
    """

    _has_options: ClassVar[bool] = True
    """Whether messages may advise options: those who build the data set can pass them."""

    def __init__(
        self,
        files: Sequence[ImageFile],
        *,
        passed_over: Sequence[PassedOver] = (),
        image_size: ImageSize = None,
        image_channels: ImageChannels = "auto",
        mask_size: ImageSize = None,
        mask_values: MaskValues = None,
        pixel_range: PixelRange | None = None,
        on_error: OnError = "raise",
        cache: CacheKind = "memory",
    ) -> None:
        """Read every header; decode only as far as the options ask for."""
        if not any(image_channels is value or image_channels == value for value in ("auto", 1, 3)):
            raise ValueError(f'image_channels is {image_channels!r}; wanted 1, 3 or "auto"')
        check_choice("on_error", on_error, ("raise", "skip"))
        check_choice("cache", cache, ("memory", "none"))
        self._size = height_width(image_size)
        self._mask_size = height_width(mask_size, "mask_size")
        self._mask_values = checked_mask_values(mask_values)
        self._ignores = "ignore" in (
            self._mask_values.values() if isinstance(self._mask_values, dict) else ()
        )
        self._pixel_range = checked_pixel_range(pixel_range)
        self._on_error = on_error
        self.passed_over = list(passed_over)
        self.skipped: list[Skipped] = []
        self._remarked: set[str] = set()
        self._digest: str | None = None
        found = len(files)
        self._files, images, masks = self._probe(files)
        self.channels = resolve_channels(image_channels, self._files, images)
        check_mask_sizes(self._files, images, masks)
        self._image_shapes = [(self.channels, *(self._size or header[:2])) for header in images]
        mask_shapes = [(mask.height, mask.width) if mask else (0,) for mask in masks]
        shapes = [*self._image_shapes, *mask_shapes]
        self._cache = NoCache() if cache == "none" else MemoryCache(shapes)
        self._kept = list(range(len(self._files)))
        if on_error == "skip":
            self._leave_out_undecodable()
        if self.skipped:
            warn_caller(
                f"skipped {len(self.skipped)} of {found} images that do not decode, first "
                f"{self.skipped[0].path}; the attribute skipped lists them"
            )
        if not self._kept:
            raise ValueError(f"none of the {found} images can be decoded: {self.skipped[:3]}")
        self.files = [self._files[slot] for slot in self._kept]

    def __len__(self) -> int:
        """Count the images that can be read."""
        return len(self._kept)

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index``; negative indices count from the end."""
        slot = self._kept[operator.index(index)]
        file = self._files[slot]
        array = self._cache.load(slot, self._read)
        image = torch.from_numpy(array.astype(np.float32)).div_(255)
        mask, ignored = self._truth(slot)
        label = file.label
        if mask is not None and file.mask_files:
            marked = bool(mask.any())
            if label is None:
                label = int(marked)
            elif label != marked:
                self._remark(file.path, _CONTRADICTIONS[label])
        if mask is not None:
            mask = resize_mask(mask, self._mask_size)
        if ignored is not None:
            ignored = resize_mask(ignored, self._mask_size)
        return Sample(image, mask, label, file.name, file.group, ignored)

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
            int((self._cache.load(self._mask_slot(slot), self._read) == ANOMALOUS).any())
            if self._files[slot].label is None and self._files[slot].mask_files
            else self._files[slot].label
            for slot in self._kept
        ]

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(C, h, w) of every image, or None when they differ."""
        shapes = {self._image_shapes[slot] for slot in self._kept}
        return shapes.pop() if len(shapes) == 1 else None

    @property
    def digest(self) -> str:
        """SHA-256 over names, labels, the bytes of images and masks, and the reading options.

        Two data sets of the same digest give the same samples. Every file is read once for it.
        """
        if self._digest is None:
            total = hashlib.sha256()
            options = (self._size, self.channels, self._mask_size, self._mask_values)
            total.update(repr((*options, self._pixel_range)).encode())
            for file in self.files:
                known = (
                    file.name,
                    file.group,
                    file.label,
                    isinstance(file.mask, str) and file.mask,
                )
                total.update(repr(known).encode())
                for path in (file.path, *file.mask_files):
                    with reading(path, "an image file"):
                        total.update(hashlib.sha256(path.read_bytes()).digest())
            self._digest = total.hexdigest()
        return self._digest

    @property
    def summary(self) -> str:
        """How many images were read, what is known of their masks, and what was passed over."""
        with_mask = sum(bool(file.mask_files) for file in self.files)
        empty = sum(file.mask == EMPTY for file in self.files)
        parts = [f"{len(self)} images", f"{with_mask} with a mask", f"{empty} known to be normal"]
        unknown = len(self) - with_mask - empty
        parts += [f"{unknown} with an unknown mask"] if unknown else []
        if self.skipped:
            parts.append(f"skipped {len(self.skipped)} that do not decode")
        if self.passed_over:
            parts.append(f"passed over {counted_reasons(self.passed_over)}")
        return "; ".join(parts)

    def describe(self) -> dict[str, str]:
        """What a report should say about the data: the :attr:`summary` and the rule of masks."""
        facts = {"images": self.summary}
        if any(file.mask_files for file in self.files):
            facts["masks"] = described(self._mask_values)
        if self._pixel_range is not None:
            black, white = self._pixel_range
            facts["pixels"] = f"in files of more than eight bits {black:g} is 0, {white:g} is 1"
        return facts

    def preload(self) -> None:
        """Decode everything now, for instance before workers are spawned."""
        for slot in self._kept:
            self._cache.load(slot, self._read)
            if self._files[slot].mask_files:
                self._cache.load(self._mask_slot(slot), self._read)

    def _mask_slot(self, slot: int) -> int:
        return len(self._files) + slot

    def _truth(self, slot: int) -> tuple[Tensor | None, Tensor | None]:
        """The anomalous and the ignored pixels, each None where there is no such mask."""
        mask = self._files[slot].mask
        if mask == UNKNOWN:
            return None, None
        if mask == EMPTY:
            return torch.zeros(self._own_sizes[slot], dtype=torch.bool), None
        states = self._cache.load(self._mask_slot(slot), self._read)
        anomalous = torch.from_numpy(states == ANOMALOUS)
        ignored = torch.from_numpy(states == IGNORED) if self._ignores else None
        return anomalous, ignored

    def _read(self, slot: int) -> Array:
        """Decode an image, or the mask of image ``slot - len(files)``."""
        try:
            if slot >= len(self._files):
                return self._read_mask(self._files[slot - len(self._files)])
            path = self._files[slot].path
            pixels, remarks = read_image(path, self.channels, self._size, self._pixel_range)
        except UnreadableImageError as error:
            raise self._advised(error) from error
        for remark in remarks:
            self._remark(path, remark)
        return pixels

    def _read_mask(self, file: ImageFile) -> Array:
        joined = np.zeros((0,), dtype=np.uint8)
        for path in file.mask_files:
            states = read_states(path, self._mask_values)
            if not joined.size:
                joined = states
            else:
                anomalous = (joined == ANOMALOUS) | (states == ANOMALOUS)
                joined = np.where(anomalous, np.uint8(ANOMALOUS), np.maximum(joined, states))
        return joined

    def _remark(self, path: Path, remark: str) -> None:
        """Warn of a kind of trouble once for the data set, with the file that showed it first."""
        kind = " ".join(word for word in remark.split() if not word.strip(",").isdecimal())
        if kind in self._remarked:
            return
        self._remarked.add(kind)
        advice = ""
        if "16 bits and no value" in remark:
            advice = (
                "; say which values are black and white with pixel_range, as in "
                "pixel_range=[0, 4095]"
                if self._has_options
                else "; save it with 8 bits"
            )
        warn_caller(f"{path} {remark}{advice} (said once for all such files of the data set)")

    def _advised(self, error: UnreadableImageError) -> UnreadableImageError:
        advice = "replace or remove the file"
        if isinstance(error, UnknownPixelRangeError):
            advice = "save it with 8 bits"
            if self._has_options:
                advice += ", or give its range, as in pixel_range=[0, 1]"
        elif self._has_options:
            advice += ', or leave it out and have it listed with on_error="skip"'
        return UnreadableImageError(f"{error}; {advice}", error.path, error.reason)

    def _probe(
        self, files: Sequence[ImageFile]
    ) -> tuple[list[ImageFile], list[ImageHeader], list[ImageHeader | None]]:
        """Read the headers of images and masks; leave out what is no image if asked to."""
        kept, images, masks = [], [], []
        for file in files:
            try:
                image = probe_image(file.path)
                headers = [probe_image(path) for path in file.mask_files]
            except UnreadableImageError as error:
                if self._on_error == "raise":
                    raise self._advised(error) from error
                self.skipped.append(Skipped(error.path or file.path, error.reason))
                continue
            kept.append(file)
            images.append(image)
            check_one_size(file, headers)
            masks.append(headers[0] if headers else None)
        self._own_sizes = [(image.height, image.width) for image in images]
        turned = [file.path for file, image in zip(kept, images, strict=True) if image.turned]
        if turned:
            warn_caller(
                f"{len(turned)} of {len(kept)} images are turned or mirrored as their EXIF "
                f"orientation asks, first {turned[0]}; masks must be drawn on the turned image"
            )
        return kept, images, masks

    def _leave_out_undecodable(self) -> None:
        kept = []
        for slot in self._kept:
            try:
                self._cache.load(slot, self._read)
                if self._files[slot].mask_files:
                    self._cache.load(self._mask_slot(slot), self._read)
            except UnreadableImageError as error:
                path = error.path or self._files[slot].path
                self.skipped.append(Skipped(path, error.reason))
            else:
                kept.append(slot)
        self._kept = kept
