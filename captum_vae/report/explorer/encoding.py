"""Tensors as small picture files: images as PNG or JPEG, maps as sheets of 8-bit grey PNG tiles."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

IMAGE_BYTES = 18_000
RECONSTRUCTION_BYTES = 9_000
SHEET_BYTES = 18_000
TRAVERSAL_BYTES = 9_000
MASK_BYTES = 2_000
"""The most bytes of each file, so that an image with all of them stays below 60 KB."""

_LOSSLESS_PIXELS = 128 * 128
"""Images of at most so many pixels are tried as PNG; photographs beyond it never fit."""

_SHRINK = 0.8
_QUALITIES = (88, 80, 70)


@dataclass(frozen=True)
class Encoded:
    """A picture as the bytes of a file.

    Attributes:
        data: The file's bytes.
        suffix: The ending of its name: .png or .jpg.
        height: Height of the picture, or of each tile without its border, in pixels.
        width: The width.
    """

    data: bytes
    suffix: str
    height: int
    width: int


def encode_image(image: Tensor, most: int = IMAGE_BYTES) -> Encoded:
    """An image (C, H, W) in [0, 1] as a file of at most ``most`` bytes, shrunk where it must be.

    Small images keep every pixel as PNG, others become JPEG.
    """
    pixels = image.detach().float().cpu().clamp(0, 1)
    if pixels.shape[0] not in (1, 3):
        pixels = pixels.mean(0, keepdim=True)
    while True:
        height, width = pixels.shape[1:]
        picture = _picture((pixels * 255).round().byte())
        if height * width <= _LOSSLESS_PIXELS:
            data = _bytes(picture, "PNG", optimize=True)
            if len(data) <= most:
                return Encoded(data, ".png", height, width)
        for quality in _QUALITIES:
            data = _bytes(picture, "JPEG", quality=quality, optimize=True)
            if len(data) <= most:
                return Encoded(data, ".jpg", height, width)
        pixels = _shrunk(pixels, min(_SHRINK, max(0.3, math.sqrt(most / len(data)))))


def encode_mask(mask: Tensor, ignored: Tensor | None, most: int = MASK_BYTES) -> Encoded:
    """A mask (H, W) as a grey PNG: 255 anomalous, 128 not counted, 0 normal."""
    levels = torch.where(mask.cpu(), 255, 0).byte()
    if ignored is not None:
        levels[ignored.cpu() & ~mask.cpu()] = 128
    step = 1
    while True:
        part = levels[::step, ::step].contiguous()
        data = _bytes(Image.fromarray(part.numpy()), "PNG", optimize=True)
        if len(data) <= most or min(part.shape) < 8:
            return Encoded(data, ".png", part.shape[0], part.shape[1])
        step += 1


@dataclass(frozen=True)
class Sheet:
    """Maps side by side in one grey PNG, each with a border of one pixel that repeats its edge.

    Attributes:
        file: The picture; its height and width are those of a tile without border.
        columns: Tiles in a row.
        low: (T,) the value that level 0 starts at, per map.
        high: (T,) the value that level 255 ends at.
    """

    file: Encoded
    columns: int
    low: tuple[float, ...]
    high: tuple[float, ...]


def encode_maps(maps: Tensor, most: int = SHEET_BYTES) -> Sheet:
    """Maps (T, h, w) as one sheet, every map in 256 levels of its own range.

    Level q stands for values from low + q (high - low) / 256 up to the next.

    Args:
        maps: (T, h, w) finite floats.
        most: Bytes of the file at most; larger maps are shrunk.
    """
    values = maps.detach().double().cpu()
    flat = values.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    span = torch.where(high > low, high - low, torch.ones_like(high))
    shown = values
    while True:
        part = (shown - low[:, None, None]) / span[:, None, None]
        levels = (part * 256).floor().clamp(0, 255).byte()
        sheet, columns = tile(levels[:, None], border=1)
        data = _bytes(_picture(sheet), "PNG", optimize=sheet.numel() < 1 << 16)
        height, width = levels.shape[1:]
        if len(data) <= most or min(height, width) <= 4:
            file = Encoded(data, ".png", height, width)
            return Sheet(file, columns, tuple(low.tolist()), tuple(high.tolist()))
        # Averaging is what a picture of fewer pixels shows; high maps keep their range.
        shown = _shrunk(shown, min(_SHRINK, max(0.3, math.sqrt(most / len(data)))))


@dataclass(frozen=True)
class TraversalSheet:
    """Decoded images by latent dimension (rows) and step (columns) in one picture.

    Attributes:
        file: The picture; its height and width are those of a tile.
        rows: Latent dimensions.
        columns: Steps.
    """

    file: Encoded
    rows: int
    columns: int


def encode_traversal(images: Tensor, most: int = TRAVERSAL_BYTES) -> TraversalSheet:
    """Decoded images (T, S, C, H, W) in [0, 1] as one JPEG with a row per dimension."""
    rows, columns, channels, height, width = images.shape
    pixels = images.detach().float().cpu().clamp(0, 1).flatten(0, 1)
    if channels not in (1, 3):
        pixels = pixels.mean(1, keepdim=True)
    # JPEG's blocks are 8 pixels wide (16 for colour): tiles of whole blocks do not mix.
    block = 16 if pixels.shape[1] == 3 else 8
    side = max(block, math.ceil(max(height, width) / block) * block)
    side = min(side, 64)
    while True:
        tiles = interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        sheet, _ = tile((tiles * 255).round().clamp(0, 255).byte(), columns=columns)
        for quality in _QUALITIES:
            data = _bytes(_picture(sheet), "JPEG", quality=quality, optimize=True)
            if len(data) <= most or (side == block and quality == _QUALITIES[-1]):
                return TraversalSheet(Encoded(data, ".jpg", side, side), rows, columns)
        side -= block if side > block else 0


def tile(tiles: Tensor, *, border: int = 0, columns: int | None = None) -> tuple[Tensor, int]:
    """Tiles (T, C, h, w) of bytes side by side: (C, H, W), and how many there are in a row."""
    count, channels = tiles.shape[:2]
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    if border:
        padded = np.pad(tiles.numpy(), ((0, 0), (0, 0), (border, border), (border, border)), "edge")
        tiles = torch.from_numpy(padded)
    height, width = tiles.shape[2:]
    sheet = torch.zeros(rows * columns, channels, height, width, dtype=torch.uint8)
    sheet[:count] = tiles
    grid = sheet.view(rows, columns, channels, height, width).permute(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * height, columns * width).contiguous(), columns


def _shrunk(planes: Tensor, share: float) -> Tensor:
    """(N, H, W) resized by a share of its sides, averaging."""
    size = [max(1, round(side * share)) for side in planes.shape[1:]]
    return interpolate(planes[None], size, mode="bilinear", antialias=True)[0]


def _picture(pixels: Tensor) -> Image.Image:
    """A grey or colour picture of bytes (1 or 3, H, W)."""
    array: NDArray[np.uint8] = pixels.numpy()
    plane = array[0] if array.shape[0] == 1 else array.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(plane))


def _bytes(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()
