"""The options that every reader of image files takes."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

from captum_vae.data.cache import CacheKind
from captum_vae.data.decode import PixelRange
from captum_vae.data.mask_values import MaskValues
from captum_vae.data.resize import ImageSize

ImageChannels: TypeAlias = Literal["auto", 1, 3]
OnError: TypeAlias = Literal["raise", "skip"]


class ReadingOptions(TypedDict, total=False):
    """How images and masks are read; every reader takes these as keywords.

    Attributes:
        image_size: (h, w) of the images, or one number for a square; None keeps each at its own
            size. Masks keep theirs.
        image_channels: 1 converts to grey, 3 to RGB; "auto" takes what the files have and refuses
            a mixture.
        mask_size: (h, w) to bring masks to by area (``resize_mask``); None, the default, leaves
            the ground truth untouched.
        mask_values: What the values of masks mean, as {0: "normal", 1: "anomalous", 255:
            "ignore"}, with colours as "#ff0000", or the smallest value that is anomalous; None
            decides by ``captum_vae.data.mask_values.MASK_RULE`` and refuses what that leaves open.
        pixel_range: (black, white), the values that become 0 and 1 in grey files of more than
            eight bits, as (0, 4095); None takes 16 bits as 0 to 65535 and refuses floats. Files
            of eight bits are not affected.
        on_error: "raise" stops at the first file that does not decode, naming it; "skip" decodes
            everything at construction, leaves out what fails, warns with the count and lists it
            in ``skipped``.
        cache: "memory" decodes on first use and keeps the resized bytes, shared with forked
            workers; "none" decodes on every access.
    """

    image_size: ImageSize
    image_channels: ImageChannels
    mask_size: ImageSize
    mask_values: MaskValues
    pixel_range: PixelRange | None
    on_error: OnError
    cache: CacheKind
