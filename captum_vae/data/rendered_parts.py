"""Rendered images for inspection: a part on an empty background, or a woven fabric."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.data.defects import perlin_noise
from captum_vae.data.resize import height_width
from captum_vae.data.sample import Sample, SampleDataset, digest_of

Subject: TypeAlias = Literal["part", "fabric"]
Pixels: TypeAlias = NDArray[np.float64]
Region: TypeAlias = NDArray[np.bool_]
Random: TypeAlias = np.random.Generator

_DEFECTS: dict[str, tuple[str, ...]] = {
    "part": ("dent", "missing tooth", "scratch", "stain"),
    "fabric": ("missing thread", "hole", "slack", "stain"),
}
_NOISE = 0.01


class RenderedParts(SampleDataset):
    """Colour images of one subject, half of the test images with a defect and its mask.

    A ``part`` is a brushed cog wheel, turned, shifted and lit a little differently each time, on a
    grey background that is the same everywhere; its defects (a dent, a missing tooth, a scratch, a
    stain) lie on it. A ``fabric`` is a weave that fills the image, its threads of uneven width and
    shade; a thread is missing, there is a hole, threads are slack, or there is a stain. Sample i
    depends on (seed, split, i) and the options alone.

    Args:
        subject: "part" or "fabric".
        split: "train", all normal, or "test", whose odd images have a defect.
        count: Number of images.
        image_size: (h, w), or one number for a square; at least 32 pixels a side.
        seed: A whole number that is not negative.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        subject: Subject = "part",
        split: Literal["train", "test"] = "train",
        *,
        count: int = 60,
        image_size: int | tuple[int, int] = 128,
        seed: int = 0,
    ) -> None:
        """Check the options; images are rendered on access."""
        check_choice("subject", subject, _DEFECTS)
        check_choice("split", split, ("train", "test"))
        height, width = height_width(image_size) or (0, 0)
        if min(height, width) < 32:
            raise ValueError(f"image_size is {image_size}; wanted at least 32 x 32 pixels")
        self._subject, self._split, self._size = subject, split, (height, width)
        self._count = whole_number("count", count, least=1)
        self._seed = checked_seed(seed)

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    @property
    def digest(self) -> str:
        """SHA-256 over the options, on which all samples depend."""
        return digest_of(
            "RenderedParts", self._subject, self._split, self._count, self._size, self._seed
        )

    def __getitem__(self, index: int) -> Sample:
        """Render an image; the group is the kind of its defect, or "good"."""
        if not 0 <= index < self._count:
            raise IndexError(f"index {index} is not in [0, {self._count})")
        kinds = _DEFECTS[self._subject]
        defective = self._split == "test" and index % 2 == 1
        kind = kinds[index // 2 % len(kinds)] if defective else "good"
        random = np.random.default_rng(
            (self._seed, list(_DEFECTS).index(self._subject), self._split == "test", index)
        )
        image, mask = _RENDERERS[self._subject](self._size, kind, random)
        image += _NOISE * random.standard_normal(image.shape)
        pixels = torch.from_numpy(image.clip(0, 1).astype(np.float32))
        name = f"{self._split}/{kind}/{index:03d}"
        return Sample(pixels, torch.from_numpy(mask), int(defective), name, kind)


def _part(size: tuple[int, int], kind: str, random: Random) -> tuple[Pixels, Region]:
    """A cog wheel (3, h, w) and the mask (h, w) of its defect."""
    height, width = size
    radius = 0.36 * min(size)
    y = np.arange(height)[:, None] + 0.5 - height / 2 + random.uniform(-0.03, 0.03) * height
    x = np.arange(width)[None, :] + 0.5 - width / 2 + random.uniform(-0.03, 0.03) * width
    turn, teeth = random.uniform(0, 2 * math.pi), 12
    angle, distance = np.arctan2(y, x) + turn, np.hypot(y, x)
    rim = radius * (1 + 0.08 * np.sign(np.cos(teeth * angle)))
    wheel = (distance <= rim) & (distance >= 0.3 * radius)
    mask = np.zeros(size, dtype=np.bool_)
    brushed = 0.06 * np.sin(distance / radius * 60 + random.uniform(0, 6))
    light = random.uniform(0, 2 * math.pi)
    shade = 0.62 + 0.18 * (x * math.cos(light) + y * math.sin(light)) / radius + brushed
    # The middle of a spot on the ring, for what lies on it.
    at, ring = random.uniform(0, 2 * math.pi), random.uniform(0.45, 0.85) * radius
    spot = np.hypot(y - ring * math.sin(at), x - ring * math.cos(at))
    if kind == "missing tooth":
        tooth = round((at + turn) / (2 * math.pi) * teeth) * 2 * math.pi / teeth
        apart = np.abs((angle - tooth + math.pi) % (2 * math.pi) - math.pi)
        mask = wheel & (distance > 0.92 * radius) & (apart < math.pi / teeth)
        wheel &= ~mask
    elif kind == "dent":
        mask = wheel & (spot < random.uniform(0.08, 0.16) * radius)
        shade = shade - 0.25 * np.exp(-((spot / (0.1 * radius)) ** 2)) * mask
    elif kind == "scratch":
        along = math.pi * random.uniform(0, 1)
        dx, dy = x - ring * math.cos(at), y - ring * math.sin(at)
        across = np.abs(dx * math.sin(along) - dy * math.cos(along))
        mask = wheel & (across < max(0.012 * radius, 0.7)) & (spot < 0.3 * radius)
        shade = shade + 0.2 * mask
    colour = np.array([0.75, 0.72, 0.66])[:, None, None] * shade
    if kind == "stain":
        mask = wheel & _blot(size, spot, 0.17 * radius, random)
        colour = np.where(mask, colour * np.array([0.8, 0.6, 0.45])[:, None, None], colour)
    image = np.where(wheel, colour, 0.3)
    return np.asarray(ndimage.gaussian_filter(image, (0, 0.6, 0.6))), mask


def _fabric(size: tuple[int, int], kind: str, random: Random) -> tuple[Pixels, Region]:
    """A plain weave (3, h, w) and the mask (h, w) of its defect."""
    height, width = size
    pitch = max(min(size) / 24, 4.0)
    wave = 0.25 * pitch
    sway = wave * perlin_noise(height, width, (4, 4), random).astype(np.float64)
    y = np.arange(height)[:, None] + sway + random.uniform(0, pitch)
    x = np.arange(width)[None, :] - sway.T[:1].mean() + 0 * sway + random.uniform(0, pitch)
    mask = np.zeros(size, dtype=np.bool_)
    row, column = random.uniform(0.2, 0.8) * height, random.uniform(0.2, 0.8) * width
    spot = np.hypot(np.arange(height)[:, None] - row, np.arange(width)[None, :] - column)
    if kind == "slack":
        mask = spot < 0.1 * min(size)
        pull = pitch * np.exp(-((spot / (0.06 * min(size))) ** 2))
        y, x = y + pull, x + 0.6 * pull
    weft, warp = np.floor(y / pitch).astype(int), np.floor(x / pitch).astype(int)
    tones = 0.08 * random.standard_normal((2, 4096))
    over = (weft + warp) % 2 == 0
    round_weft = np.sin(math.pi * (y / pitch % 1))
    round_warp = np.sin(math.pi * (x / pitch % 1))
    shade = np.where(
        over,
        0.35 + 0.4 * round_weft + tones[0][weft % 4096],
        0.3 + 0.35 * round_warp + tones[1][warp % 4096],
    )
    if kind == "missing thread":
        thread = weft == weft[int(row), int(column)]
        mask = thread & (np.abs(np.arange(width)[None, :] - column) < 0.2 * width)
        shade = np.where(mask, 0.25 + 0.2 * round_warp, shade)
    elif kind == "hole":
        mask = _blot(size, spot, 0.05 * min(size), random)
        shade = np.where(mask, 0.12, shade)
    colour = np.array([0.62, 0.7, 0.86])[:, None, None] * shade
    if kind == "stain":
        mask = _blot(size, spot, 0.12 * min(size), random)
        colour = np.where(mask, colour * np.array([0.95, 0.8, 0.6])[:, None, None], colour)
    lit = 1 + 0.08 * perlin_noise(height, width, (2, 2), random)
    return np.asarray(ndimage.gaussian_filter(colour * lit, (0, 0.6, 0.6))), mask


def _blot(size: tuple[int, int], spot: Pixels, radius: float, random: Random) -> Region:
    """A round region with an uneven outline around the middle that ``spot`` is measured from."""
    noise = perlin_noise(size[0], size[1], (8, 8), random)
    return np.asarray(spot < radius * (1 + 0.6 * noise))


_RENDERERS: dict[str, Callable[[tuple[int, int], str, Random], tuple[Pixels, Region]]] = {
    "part": _part,
    "fabric": _fabric,
}
