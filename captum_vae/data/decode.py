"""Reading image files into arrays of bytes, whatever their format, or saying which file is bad."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from captum_vae.checks import real_number
from captum_vae.data.resize import resize_image
from captum_vae.files import DamagedFileError

PixelRange: TypeAlias = tuple[float, float]
"""The values that are black and white in files of more than eight bits."""

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
"""Tags of the sides as they are stored."""

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")


class UnreadableImageError(DamagedFileError):
    """An image or mask file that does not decode.

    Attributes:
        path: The file; None once a ``DataLoader`` worker has passed the error on as text.
        reason: What the decoder said.
    """

    path: Path | None  # type: ignore[assignment]

    def __init__(self, message: str, path: Path | None = None, reason: str = "") -> None:
        """Keep the file and the decoder's words beside the message."""
        ValueError.__init__(self, message)
        self.path = path
        self.reason = reason


class UnknownPixelRangeError(UnreadableImageError):
    """An image of floats or of more than 16 bits, whose black and white nobody has told."""


class ImageHeader(NamedTuple):
    """What the header of an image says, known without decoding the pixels.

    Attributes:
        height: Height in pixels of the image as it is to be seen.
        width: Its width in pixels.
        channels: 1 for grey, 3 for colour.
        turned: Whether EXIF asks for the stored pixels to be turned or mirrored.
    """

    height: int
    width: int
    channels: int
    turned: bool


class DecodedImage(NamedTuple):
    """An image and what a person should know about how it was read.

    Attributes:
        pixels: (channels, h, w) bytes.
        remarks: Sentences about frames, transparency or bits that were left out; usually empty.
    """

    pixels: NDArray[np.uint8]
    remarks: tuple[str, ...]


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever the decoder raises in the block becomes one error.

    Raises:
        UnreadableImageError: The file is not there, truncated, damaged or no image.
    """
    try:
        with Image.open(path) as image:
            yield image
    except UnreadableImageError:
        raise
    # Every decoder has its own words for damage; a MemoryError comes of a header that lies.
    except Exception as error:
        raise unreadable(path, error) from error


def probe_image(path: Path) -> ImageHeader:
    """Read the header of an image file.

    Raises:
        UnreadableImageError: The file is not an image.
    """
    with opened(path) as image:
        height, width = image.height, image.width
        orientation = _orientation(image)
        if orientation >= 5:
            # Of TIFF files some versions of Pillow already say the size that they will have.
            tags: Any = getattr(image, "tag_v2", {})
            height, width = tags.get(_TIFF_WIDTH, width), tags.get(_TIFF_HEIGHT, height)
        channels = 1 if image.mode in GREY_MODES else 3
        return ImageHeader(height, width, channels, orientation != 1)


def read_image(
    path: Path,
    channels: int,
    size: tuple[int, int] | None,
    pixel_range: PixelRange | None = None,
) -> DecodedImage:
    """Decode an image to bytes.

    The image is turned as its EXIF orientation asks, as every viewer does. Transparency is dropped
    and the first frame of several is taken; both are remarked on. Without a ``pixel_range``, grey
    of 16 bits keeps its upper eight bits, which is remarked on where fewer than 14 are in use.

    Args:
        path: The file.
        channels: 1 for grey, 3 for colour.
        size: (h, w) to resize to; None keeps the size.
        pixel_range: The values that become 0 and 255 in grey files of more than eight bits.

    Raises:
        UnreadableImageError: The file is truncated or damaged.
        UnknownPixelRangeError: Its values are floats or have more than 16 bits and no range is
            given, or lie outside the range.
    """
    remarks = []
    with opened(path) as image:
        frames = getattr(image, "n_frames", 1)
        # Cameras append a preview to their JPEG files, which makes them multi-picture objects.
        if frames > 1 and image.format != "MPO":
            remarks.append(f"holds {frames} frames, of which the first is read")
        tiles: list[Any] = getattr(image, "tile", [])
        wide = image.mode == "RGB" and any(";16" in str(tile[3]) for tile in tiles)
        if image.mode == "LAB":
            # Pillow mistakes the sign of its colours.
            raise ValueError("its colours are LAB; save it as RGB or grey")
        turn_upright(image)
        extrema: Any = image.getextrema() if wide or image.mode in ("RGBA", "LA", "PA") else None
        if extrema is not None and not wide and extrema[-1][0] < 255:
            remarks.append("is partly transparent; the colours under the transparency are read")
        eight, remark = _eight_bit(image, path, pixel_range)
        pixels = eight.convert("L" if channels == 1 else "RGB")
        if wide and max(high for _, high in extrema) < 2**6:
            remark = (
                "has 16 bits per colour and uses fewer than 14, so that it reads nearly black; "
                "save it with 8 bits per colour"
            )
        array = resize_image(np.asarray(pixels), size)
    remarks += [remark] if remark else []
    array = array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))
    return DecodedImage(array, tuple(remarks))


def turn_upright(image: Image.Image) -> None:
    """Decode an image and turn it in place as its EXIF orientation asks."""
    image.load()
    # Pillow turns TIFF files itself when it loads them.
    if image.format != "TIFF" and _orientation(image) != 1:
        ImageOps.exif_transpose(image, in_place=True)


def checked_pixel_range(pixel_range: Any) -> PixelRange | None:
    """The range as two floats, or None.

    Raises:
        TypeError: It is no pair of numbers.
        ValueError: The first is not below the second.
    """
    if pixel_range is None:
        return None
    if isinstance(pixel_range, str) or not hasattr(pixel_range, "__len__"):
        raise TypeError(f"pixel_range is {pixel_range!r}; wanted [black, white], as [0, 4095]")
    if len(pixel_range) != 2:
        raise ValueError(f"pixel_range is {pixel_range!r}; wanted [black, white], as [0, 4095]")
    black, white = (real_number("pixel_range", value) for value in pixel_range)
    if not black < white:
        raise ValueError(f"pixel_range is {pixel_range!r}; wanted black below white, as [0, 4095]")
    return black, white


def unreadable(path: Path, error: BaseException) -> UnreadableImageError:
    """The error that names the file and the decoder's words."""
    words = " ".join(str(error).split())
    reason = f"{type(error).__name__}: {words}"
    return UnreadableImageError(f"cannot decode {path}: {reason}", path, reason)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, from 1 (as stored) to 8."""
    # Asking a PNG file without EXIF for it would decode the pixels.
    stated = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
    if image.format != "TIFF" and not any(key in image.info for key in stated):
        return 1
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _eight_bit(
    image: Image.Image, path: Path, pixel_range: PixelRange | None
) -> tuple[Image.Image, str]:
    """Bring grey of more bits to eight: Pillow's own conversion clips at 255 instead of scaling."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return image, ""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("its pixels are not finite")
    low, high = values.min(), values.max()
    if pixel_range is not None:
        black, white = pixel_range
        if low < black or high > white:
            raise _unknown_range(path, f"pixels run from {low:g} to {high:g}, beyond pixel_range")
        scaled = (values.astype(np.float64) - black) * (255 / (white - black))
        return Image.fromarray(np.rint(scaled).astype(np.uint8)), ""
    if image.mode == "F":
        raise _unknown_range(
            path, f"pixels are floats from {low:g} to {high:g}, without a known range"
        )
    if low < 0 or high >= 2**16:
        raise _unknown_range(
            path, f"pixels run from {low} to {high}, and 16 bits without sign are all that is known"
        )
    remark = (
        f"has 16 bits and no value above {high}, so that it reads nearly black or in few levels"
        if 0 < high < 2**14
        else ""
    )
    return Image.fromarray((values >> 8).astype(np.uint8)), remark


def _unknown_range(path: Path, reason: str) -> UnknownPixelRangeError:
    return UnknownPixelRangeError(f"cannot read {path}: {reason}", path, reason)
