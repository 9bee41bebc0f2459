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

from captum_vae.data.sample import Sample, SampleDataset

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
        dataset: normal images of one channel, white ink on black.
        kinds: used in turn: "pasted" adds a bent stroke as wide as a pen's, "erased" takes away
            the ink inside a disc.
        length: shortest and longest stroke, and diameter of what is erased, as shares of the
            image's shorter side.
        contrast: least difference, in (0, 0.5], that counts.
        seed: a non-negative number.

    Raises:
        ValueError: for options out of range; on access, for an anomalous or coloured sample, or
            one without ink.
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
        unknown = [kind for kind in kinds if kind not in _DRAWERS]
        if unknown or not kinds:
            raise ValueError(f"kinds is {list(kinds)}; wanted some of {', '.join(_DRAWERS)}")
        if not 0 < length[0] <= length[1] <= 1:
            raise ValueError(f"length is {length}; wanted 0 < shortest <= longest <= 1")
        if not 0 < contrast <= 0.5:
            raise ValueError(f"contrast is {contrast}; wanted more than 0, at most 0.5")
        if seed < 0:
            raise ValueError(f"seed is {seed}; wanted 0 or more")
        self.dataset = dataset
        self._kinds, self._length = tuple(kinds), length
        self._contrast, self._seed = contrast, seed

    def __len__(self) -> int:
        """Count the samples of the data set underneath."""
        return len(self.dataset)

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
        ink: (h, w).
        kind: "pasted" or "erased".
        random: the source of all randomness.
        length: shares of the shorter side, see :class:`StrokeDefects`.
        contrast: least difference that counts.

    Returns:
        The image with the stroke, and its mask (h, w): exactly the pixels that changed.

    Raises:
        ValueError: no ink to stand near or to erase.
    """
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
