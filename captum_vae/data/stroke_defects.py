"""Digits with a foreign stroke pasted or part of their ink erased, with exact masks.

MNIST has no anomaly masks. Here the anomaly is of the kind that tells digits apart: a pen stroke
too many, or one too few.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from captum_vae.checks import check_choice, checked_seed
from captum_vae.data.defect_options import (
    check_pixels,
    check_random,
    checked_contrast,
    checked_kinds,
    checked_shares,
)
from captum_vae.data.sample import Sample, SampleDataset, check_samples, digest_of

StrokeKind: TypeAlias = Literal["pasted", "erased"]
Ink: TypeAlias = NDArray[np.float32]
"""(h, w) in [0, 1], white on black."""

_TRIES = 20
_FINER = 8
"""Strokes are drawn on a grid this much finer and averaged, as a scanner does."""


class StrokeDefects(SampleDataset):
    """Digits with one pen stroke added or removed each.

    Outside the mask the image is bit-identical to the original; inside, every pixel differs from
    it by at least ``contrast``. The mask has the size of the image. Sample i depends on (seed, i)
    alone.

    Args:
        dataset: Normal images of one channel, white ink on black.
        kinds: Kinds of defects, used in turn: "pasted" adds a bent stroke as wide as a pen's,
            "erased" takes away the ink inside a disc.
        length: Shortest and longest stroke, and diameter of what is erased, as shares of the
            image's shorter side.
        contrast: Least difference, in (0, 0.5], that counts.
        seed: A whole number that is not negative.

    Raises:
        TypeError: An option has the wrong type, or ``dataset`` is no data set.
        ValueError: An option is out of range, or the data set is empty; on access, a sample is
            anomalous, coloured or without ink.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        kinds: Sequence[StrokeKind] = ("pasted", "erased"),
        *,
        length: tuple[float, float] = (0.2, 0.5),
        contrast: float = 0.2,
        seed: int = 0,
    ) -> None:
        """Check the options; nothing is drawn yet."""
        check_samples("dataset", dataset)
        self.dataset = dataset
        self._kinds = checked_kinds("kinds", kinds, _DRAWERS)
        self._length = checked_shares("length", length, most=1)
        self._contrast = checked_contrast(contrast)
        self._seed = checked_seed(seed)

    def __len__(self) -> int:
        """Count the samples of the data set underneath."""
        return len(self.dataset)

    @property
    def digest(self) -> str | None:
        """SHA-256 over the data set's digest and the options; None where it has none."""
        below = getattr(self.dataset, "digest", None)
        options = (self._kinds, self._length, self._contrast, self._seed)
        return None if below is None else digest_of("StrokeDefects", below, options)

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index`` with its defect; the group is the defect's kind."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is not in [0, {len(self)})")
        sample = self.dataset[index]
        if sample.label == 1 or sample.image.shape[0] != 1:
            raise ValueError(
                f"{sample.name} has label {sample.label} and {sample.image.shape[0]} channels; "
                "wanted normal images of one channel"
            )
        kind = self._kinds[index % len(self._kinds)]
        random = np.random.default_rng((self._seed, index))
        ink, mask = change_strokes(
            sample.image[0].numpy(), kind, random, length=self._length, contrast=self._contrast
        )
        name = f"{sample.name}#{kind}"
        return Sample(torch.from_numpy(ink)[None], torch.from_numpy(mask), 1, name, kind)


def change_strokes(
    ink: Ink,
    kind: StrokeKind,
    random: np.random.Generator,
    *,
    length: tuple[float, float] = (0.2, 0.5),
    contrast: float = 0.2,
) -> tuple[Ink, NDArray[np.bool_]]:
    """Add or remove one stroke.

    A stroke that falls mostly on ink is drawn again, so that it can be seen.

    Args:
        ink: (h, w) float32 in [0, 1].
        kind: "pasted" or "erased".
        random: Source of all randomness.
        length: Shares of the shorter side, see :class:`StrokeDefects`.
        contrast: Least difference that counts.

    Returns:
        The image with the stroke, and its mask (h, w): exactly the pixels that changed.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An option is out of range, or there is no ink to stand near or to erase.
    """
    check_pixels("ink", ink, 2)
    check_choice("kind", kind, _DRAWERS)
    check_random(random)
    length = checked_shares("length", length, most=1)
    contrast = checked_contrast(contrast)
    if not (ink >= contrast).any():
        raise ValueError(f"the image has no ink of at least {contrast}; wanted white on black")
    side = min(ink.shape)
    for _ in range(_TRIES):
        changed, wanted = _DRAWERS[kind](ink, random, side * random.uniform(*length))
        mask = np.abs(changed - ink) >= contrast
        if mask.any() and 2 * mask.sum() >= wanted:
            break
    return np.where(mask, changed, ink), mask


def _paste(ink: Ink, random: np.random.Generator, length: float) -> tuple[Ink, int]:
    """Draw a stroke with one bend around a random place; the pixels it wants to change."""
    height, width = ink.shape
    rows, columns = np.nonzero(ink >= ink.max() / 2)
    # Near the digit, as a stroke of another digit would be.
    x = random.uniform(max(columns.min() - 5, 2), min(columns.max() + 5, width - 3)) + 0.5
    y = random.uniform(max(rows.min() - 3, 2), min(rows.max() + 3, height - 3)) + 0.5
    heading, bend = random.uniform(0, 2 * math.pi), random.uniform(-0.8, 0.8)
    half = length / 2
    points = [
        (x - half * math.cos(heading - bend), y - half * math.sin(heading - bend)),
        (x, y),
        (x + half * math.cos(heading + bend), y + half * math.sin(heading + bend)),
    ]
    pen = min(height, width) * random.uniform(0.07, 0.11) * _FINER
    canvas = Image.new("L", (width * _FINER, height * _FINER))
    draw = ImageDraw.Draw(canvas)
    scaled = [(_FINER * px, _FINER * py) for px, py in points]
    draw.line(scaled, fill=255, width=max(round(pen), 1), joint="curve")
    for px, py in scaled:
        draw.ellipse((px - pen / 2, py - pen / 2, px + pen / 2, py + pen / 2), fill=255)
    fine = np.asarray(canvas, dtype=np.float32) / 255
    stroke = fine.reshape(height, _FINER, width, _FINER).mean((1, 3)) * random.uniform(0.8, 1)
    return np.maximum(ink, stroke).astype(np.float32), int((stroke >= 0.5).sum())


def _erase(ink: Ink, random: np.random.Generator, length: float) -> tuple[Ink, int]:
    """Remove the ink in a disc around a pixel of ink."""
    rows, columns = np.nonzero(ink >= ink.max() / 2)
    chosen = random.integers(len(rows))
    y, x = np.mgrid[: ink.shape[0], : ink.shape[1]]
    disc = np.hypot(y - rows[chosen], x - columns[chosen]) <= length / 2
    return np.where(disc, np.float32(0), ink), 0


_DRAWERS: dict[str, Callable[[Ink, np.random.Generator, float], tuple[Ink, int]]] = {
    "pasted": _paste,
    "erased": _erase,
}
