"""Reading image and mask files into arrays, whatever their format, or saying which file is bad."""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_vae.data.resize import resize_image

GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")

_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow's decoders raise on damaged files, by experience with each format."""


class UnreadableImageError(ValueError):
    """An image or mask file that does not decode.

    Attributes:
        path: the file; None once a ``DataLoader`` worker has passed the error on as text.
        reason: what the decoder said.
    """

    def __init__(self, message: str, path: Path | None = None, reason: str = "") -> None:
        """Keep the file and the decoder's words beside the message."""
        super().__init__(message)
        self.path = path
        self.reason = reason


class ImageHeader(NamedTuple):
    """Size and number of channels (1 grey, 3 colour), known without decoding the pixels."""

    height: int
    width: int
    channels: int


def probe_image(path: Path) -> ImageHeader:
    """Read the header of an image file.

    Raises:
        UnreadableImageError: when the file is not an image.
    """
    try:
        with Image.open(path) as image:
            channels = 1 if image.mode in GREY_MODES else 3
            return ImageHeader(image.height, image.width, channels)
    except _DECODER_ERRORS as error:
        raise _unreadable(path, error) from error


def read_image(path: Path, channels: int, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Decode an image to (channels, h, w) uint8, resized to ``size`` = (h, w) unless it is None.

    Sixteen-bit images keep their upper eight bits, transparency is dropped, the first frame of
    several is taken.

    Raises:
        UnreadableImageError: when the file is truncated or damaged, or its values are floats.
    """
    try:
        with Image.open(path) as image:
            pixels = _eight_bit(image).convert("L" if channels == 1 else "RGB")
            array = resize_image(np.asarray(pixels), size)
    except _DECODER_ERRORS as error:
        raise _unreadable(path, error) from error
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Decode a mask to (H, W) bool at its own size.

    Masks in the wild hold 0/1, 0/255, or values in between at soft edges; these are split at half
    of the range. A colour mask is anomalous where any of its channels is.

    Raises:
        UnreadableImageError: when the file does not decode, or its largest value lies between 2
            and the middle of the range, where guessing a threshold could lose the defect.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("P", "PA", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "LAB"):
                pixels = np.asarray(image.convert("L" if image.mode == "LA" else "RGB"))
            else:
                pixels = np.asarray(image)
            mode = image.mode
    except _DECODER_ERRORS as error:
        raise _unreadable(path, error) from error
    if pixels.ndim == 3:
        pixels = pixels.max(axis=2)
    top = float(pixels.max(initial=0))
    if top <= 1:
        return np.asarray(pixels > 0.5)
    half = 2**15 if mode.startswith("I") and top > 255 else 2**7
    if top < half:
        raise _unreadable(
            path,
            ValueError(f"a mask whose largest value is {top:g}; wanted 0 and 1, or 0 and 255"),
        )
    return np.asarray(pixels >= half)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Bring sixteen-bit grey to eight: Pillow's own conversion clips at 255 instead of scaling."""
    if image.mode == "F":
        raise ValueError("pixels are floats without a known range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2**16:
        raise ValueError(f"pixels span {low} to {high}; wanted at most 16 bits without sign")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _unreadable(path: Path, error: BaseException) -> UnreadableImageError:
    reason = f"{type(error).__name__}: {error}"
    message = (
        f"cannot decode {path}: {reason}. Replace or remove the file; readers of data sets leave "
        'it out and report it under on_error="skip"'
    )
    return UnreadableImageError(message, path, reason)
