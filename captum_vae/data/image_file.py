"""One image on disk with its ground truth, and what the headers of several must agree on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from captum_vae.data.decode import ImageHeader
from captum_vae.data.reading_options import ImageChannels

MaskState: TypeAlias = Literal["empty", "unknown"]
EMPTY: MaskState = "empty"
UNKNOWN: MaskState = "unknown"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image on disk and its ground truth.

    Attributes:
        path: The image file.
        name: Its path relative to the data set's root, with forward slashes.
        group: Clip, kind of defect or folder.
        label: 0 normal, 1 anomalous; None to go by the mask, and unknown without one.
        mask: The file of the mask, or several that are joined; "empty" when the image is known
            to be normal everywhere; "unknown".
    """

    path: Path
    name: str
    group: str
    label: int | None
    mask: Path | tuple[Path, ...] | MaskState

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The files that the mask is read from."""
        if isinstance(self.mask, str):
            return ()
        return self.mask if isinstance(self.mask, tuple) else (self.mask,)


def resolve_channels(
    asked: ImageChannels, files: Sequence[ImageFile], headers: Sequence[ImageHeader]
) -> int:
    """The number of channels that images are read with, 1 or 3.

    Raises:
        ValueError: Nothing is asked for, and the files mix grey and colour.
    """
    if asked != "auto":
        return asked
    example = {header.channels: file.path for file, header in zip(files, headers, strict=True)}
    if len(example) > 1:
        raise ValueError(
            f"images mix grey ({example[1]}) and colour ({example[3]}); "
            "pass image_channels=1 or image_channels=3 to convert them"
        )
    return next(iter(example), 1)


def check_one_size(file: ImageFile, headers: Sequence[ImageHeader]) -> None:
    """Refuse the masks of one image, by their headers, that differ in size.

    Raises:
        ValueError: They do.
    """
    for path, header in zip(file.mask_files, headers, strict=True):
        if header[:2] != headers[0][:2]:
            raise ValueError(
                f"the masks of {file.path} differ in size: {file.mask_files[0]} and {path}"
            )


def check_mask_sizes(
    files: Sequence[ImageFile],
    images: Sequence[ImageHeader],
    masks: Sequence[ImageHeader | None],
) -> None:
    """Refuse masks that have another size than their images.

    Raises:
        ValueError: One has.
    """
    for file, image, mask in zip(files, images, masks, strict=True):
        if mask is not None and mask[:2] != image[:2]:
            raise ValueError(
                f"the mask {file.mask_files[0]} is {mask.height} x {mask.width} pixels and its "
                f"image {file.path} is {image.height} x {image.width}; wanted the same size"
            )
