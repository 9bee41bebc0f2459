"""Images as arrays hold them, brought to bytes of one shape, and to what a model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vae.data.resize import resize_image


def channels_last(image: Any) -> NDArray[Any]:
    """An image (h, w), (h, w, C) or (C, h, w) as (h, w, C).

    Raises:
        ValueError: It has another shape than one of 1 or 3 channels.
    """
    if image.ndim == 2:
        return np.asarray(image[:, :, None])
    if image.shape[2] in (1, 3):
        return np.asarray(image)
    if image.shape[0] in (1, 3):
        return np.asarray(image.transpose(1, 2, 0))
    raise ValueError(f"an image has the shape {image.shape}; wanted 1 or 3 channels, first or last")


def as_image_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An image of bytes, booleans or numbers from 0 to 1 as (h, w, C) bytes.

    Raises:
        ValueError: It has another shape, or values out of that range.
    """
    image = channels_last(np.asarray(image))
    if image.dtype == np.uint8:
        found: NDArray[np.uint8] = image
        return found
    if image.dtype == bool:
        return np.asarray(np.where(image, 255, 0), np.uint8)
    if image.dtype.kind != "f":
        raise ValueError(f"an image holds {image.dtype}; wanted bytes, or numbers from 0 to 1")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"the values of an image run from {low:.4g} to {high:.4g}; wanted bytes, or numbers "
            "from 0 (black) to 1 (white)"
        )
    return np.asarray(np.rint(image * 255), np.uint8)


def fitted_bytes(
    pixels: NDArray[np.uint8], channels: int, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """(C, h, w) bytes of (H, W, 1 or 3) bytes, in the channels and the size that are wanted."""
    from PIL import Image

    if pixels.shape[2] != channels:
        mode = "L" if channels == 1 else "RGB"
        source = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        converted = np.asarray(source.convert(mode))
        pixels = converted if converted.ndim == 3 else converted[:, :, None]
    if channels == 1:
        return np.ascontiguousarray(resize_image(pixels[:, :, 0], size)[None])
    return np.ascontiguousarray(resize_image(pixels, size).transpose(2, 0, 1))


def as_batch(images: Any, channels: int, size: tuple[int, int] | None) -> Tensor:
    """Images as (B, C, h, w) float32 in [0, 1], whatever array holds them.

    Args:
        images: A float tensor (B, C, h, w) in [0, 1], which is passed on; or an array or list of
            images (H, W), (H, W, C) or (C, H, W) of bytes or of numbers from 0 to 1, each of any
            size.
        channels: 1 or 3.
        size: (h, w) to resize to; None keeps their own, which must be one.

    Raises:
        ValueError: An image has another shape or range, sizes differ, or it is one image alone.
        TypeError: It holds no images.
    """
    if isinstance(images, Tensor):
        if images.dim() != 4:
            raise ValueError(f"images has shape {tuple(images.shape)}; wanted (B, C, H, W)")
        if images.is_floating_point():
            return images
        images = images.numpy()
    if isinstance(images, np.ndarray) and images.dtype == object:  # images of several sizes
        images = list(images)
    if isinstance(images, np.ndarray) and (
        images.ndim < 3 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    ):
        raise ValueError(
            f"images is an array of shape {images.shape}, which is one image and not several; put "
            "it into a list"
        )
    if not hasattr(images, "__len__") or isinstance(images, str | bytes | dict):
        raise TypeError(f"images is a {type(images).__name__}; wanted an array or list of images")
    read = [fitted_bytes(as_image_bytes(np.asarray(image)), channels, size) for image in images]
    if len({tuple(image.shape) for image in read}) > 1:
        raise ValueError("images of one batch differ in size, and the detector resizes none")
    if not read:
        raise ValueError("images is empty; wanted at least one image")
    return stacked(read)


def stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Bytes (C, h, w) of several images as (B, C, h, w) float32 in [0, 1]."""
    return torch.from_numpy(np.stack(images)).float().div_(255)
