"""Synthetic defects with exact masks on normal images, for tests and label-free choices.

The kinds follow DRAEM (Zavrtanik et al., ICCV 2021: Perlin noise cut out and blended) and CutPaste
(Li et al., CVPR 2021: a patch moved, and thin scars); blobs and scratches are drawn.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.data.defect_options import (
    check_pixels,
    check_random,
    checked_contrast,
    checked_kinds,
    checked_share,
    checked_shares,
)
from captum_vae.data.defect_places import (
    Region,
    checked_places,
    disc_in,
    inner_places,
    outline,
    share_inside,
)
from captum_vae.data.options import DefectMasks, Visibility
from captum_vae.data.sample import Sample, SampleDataset, check_samples, digest_of

DefectKind: TypeAlias = Literal["perlin", "cutpaste", "scratch", "blob"]
Pixels: TypeAlias = NDArray[np.float32]
Random: TypeAlias = np.random.Generator
Drawn: TypeAlias = tuple[Pixels, Region]
"""A repainted image (C, h, w) and where (h, w) it was repainted."""

_TRIES = 10
_TRIES_IN_PLACES = 40


class SyntheticDefects(SampleDataset):
    """Normal images with one defect each, and its mask to the pixel.

    With masks of the ``"changed"`` pixels, the image is bit-identical to the original outside the
    mask, and inside every pixel differs from it by at least ``contrast`` in some channel, unless
    the defect is patchy. The mask has the size of the image. Sample i depends on (seed, i) alone.

    Args:
        dataset: Normal images.
        kinds: Kinds of defects, used in turn: "perlin", "cutpaste", "scratch", "blob".
        defect_rate: Share of images that get a defect; the rest stay normal (label 0).
        area: Smallest and largest share of the image that a defect is drawn on. Scratches are
            as long as 0.2 to 0.8 of the diagonal instead.
        contrast: Least difference, in (0, 0.5], that counts as a defect.
        visibility: ``"whole"``, or ``"patchy"``: the defect fades in and out over its region, as
            real ones do, see :func:`fade`.
        masks: The ``"changed"`` pixels, or ``"outlined"`` as annotators draw them: without holes
            and with a margin, see :func:`outline`.
        places: Where defects lie, (h, w) bool of the images' size, such as
            :func:`varying_places` gives; None puts them anywhere.
        inside: Share of each defect, as outlined, that lies in ``places`` at least.
        seed: A whole number that is not negative.

    Raises:
        TypeError: An option has the wrong type, or ``dataset`` is no data set.
        ValueError: An option is out of range, or the data set is empty; on access, a sample is
            labelled anomalous.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        kinds: Sequence[DefectKind] = ("perlin", "cutpaste", "scratch", "blob"),
        *,
        defect_rate: float = 1.0,
        area: tuple[float, float] = (0.005, 0.1),
        contrast: float = 0.1,
        visibility: Visibility = "whole",
        masks: DefectMasks = "changed",
        places: torch.Tensor | None = None,
        inside: float = 0.8,
        seed: int = 0,
    ) -> None:
        """Check the options; nothing is drawn yet."""
        check_choice("visibility", visibility, get_args(Visibility))
        check_choice("masks", masks, get_args(DefectMasks))
        self._size = check_samples("dataset", dataset)
        self.dataset = dataset
        self._kinds = checked_kinds("kinds", kinds, _PAINTERS)
        self._defect_rate = checked_share("defect_rate", defect_rate)
        self._area = checked_shares("area", area, most=0.5)
        self._contrast = checked_contrast(contrast)
        self._seed = checked_seed(seed)
        self._visibility, self._masks = visibility, masks
        self._places = None if places is None else checked_places(places)
        self._inside = checked_share("inside", inside)

    def __len__(self) -> int:
        """Count the samples of the data set underneath."""
        return self._size

    @property
    def kinds(self) -> tuple[DefectKind, ...]:
        """The kinds of defects, used in turn."""
        return self._kinds

    @property
    def digest(self) -> str | None:
        """SHA-256 over the data set's digest and the options; None where it has none."""
        below = getattr(self.dataset, "digest", None)
        drawn = (self._kinds, self._defect_rate, self._area, self._contrast, self._seed)
        places = None if self._places is None else self._places.tobytes()
        options = (*drawn, self._visibility, self._masks, places, self._inside)
        return None if below is None else digest_of("SyntheticDefects", below, options)

    def __getitem__(self, index: int) -> Sample:
        """Return sample ``index`` with its defect; the group is the defect's kind or "good"."""
        if not 0 <= index < self._size:
            raise IndexError(f"index {index} is not in [0, {self._size})")
        sample = self.dataset[index]
        if sample.label == 1:
            raise ValueError(f"{sample.name} is labelled anomalous; wanted normal images only")
        random = np.random.default_rng((self._seed, index))
        if random.random() >= self._defect_rate:
            normal = torch.zeros(sample.image.shape[-2:], dtype=torch.bool)
            return Sample(sample.image, normal, 0, sample.name, "good")
        kind = self._kinds[index % len(self._kinds)]
        original = sample.image.numpy()
        image, mask = paint_defect(
            original,
            kind,
            random,
            area=self._area,
            contrast=self._contrast,
            places=self._places,
            inside=self._inside,
        )
        if self._visibility == "patchy":
            image = fade(original, image, mask, random)
        if self._masks == "outlined":
            mask = outline(mask)
        return Sample(
            torch.from_numpy(image), torch.from_numpy(mask), 1, f"{sample.name}#{kind}", kind
        )


def paint_defect(
    image: Pixels,
    kind: DefectKind,
    random: Random,
    *,
    area: tuple[float, float] = (0.005, 0.1),
    contrast: float = 0.1,
    places: Region | None = None,
    inside: float = 0.8,
) -> Drawn:
    """Paint one visible defect.

    A drawing of which less than half is visible, such as a black patch pasted on black, is drawn
    again; if that keeps failing, its pixels are moved by half the range, which shows anywhere.
    Given ``places``, each drawing is put on one of them, and one that still lies too much outside
    is drawn again; in the end its part outside is left out.

    Args:
        image: (C, h, w) float32 in [0, 1].
        kind: "perlin", "cutpaste", "scratch" or "blob".
        random: Source of all randomness.
        area: Smallest and largest share of the image.
        contrast: Least difference that counts.
        places: Where defects lie, (h, w) bool; None puts them anywhere.
        inside: Share of the defect, as outlined, that lies there at least.

    Returns:
        The image with the defect, and its mask (h, w): exactly the pixels that changed.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An option is out of range, or the image is not (C, h, w) with some pixels.
    """
    check_pixels("image", image, 3)
    check_choice("kind", kind, _PAINTERS)
    check_random(random)
    area = checked_shares("area", area, most=0.5)
    contrast = checked_contrast(contrast)
    if places is not None and places.shape != image.shape[1:]:
        raise ValueError(
            f"places is {places.shape} for an image {image.shape[1:]}; wanted the same size"
        )
    nearest: tuple[float, Pixels, Region] | None = None
    for _ in range(_TRIES if places is None else _TRIES_IN_PLACES):
        share = math.exp(random.uniform(math.log(area[0]), math.log(area[1])))
        painted, region = _PAINTERS[kind](image, random, share, places)
        mask = region & (np.abs(painted - image).max(axis=0) >= contrast)
        if mask.any() and 2 * mask.sum() >= region.sum():
            within = 1.0 if places is None else share_inside(mask, places)
            if within >= inside:
                return np.where(mask, painted, image), mask
            if nearest is None or within > nearest[0]:
                nearest = (within, np.asarray(painted), mask)
    if places is not None:
        inner = inner_places(places)
        if nearest is not None and (nearest[2] & inner).any():
            mask = nearest[2] & inner
            return np.where(mask, nearest[1], image), mask
        region = disc_in(inner, area[0], random)
    if not region.any():
        region[region.shape[0] // 2, region.shape[1] // 2] = True
    return np.where(region, np.where(image < 0.5, image + 0.5, image - 0.5), image), region


def fade(original: Pixels, painted: Pixels, mask: Region, random: Random) -> Pixels:
    """Let a defect fade in and out over its region.

    Its opacity is Perlin noise with eight cells to a side: 0 below -0.3, 1 above 0.3, linear in
    between, blurred by one pixel.

    Args:
        original: (C, h, w) without the defect.
        painted: (C, h, w) with it.
        mask: (h, w) bool, where it is.
        random: Source of all randomness.

    Returns:
        (C, h, w) float32.
    """
    noise = perlin_noise(mask.shape[0], mask.shape[1], (8, 8), random)
    opacity = ndimage.gaussian_filter(((noise + 0.3) / 0.6).clip(0, 1) * mask, 1.0)
    faded: Pixels = (original + opacity * (painted - original)).astype(np.float32)
    return faded


def perlin_noise(height: int, width: int, cells: tuple[int, int], random: Random) -> Pixels:
    """Perlin's gradient noise, (height, width) with values in [-1, 1].

    Args:
        height: Number of rows.
        width: Number of columns.
        cells: Lattice cells along rows and columns: the more, the finer.
        random: Draws the gradients' angles.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A side or a number of cells is not positive.
    """
    height = whole_number("height", height, least=1)
    width = whole_number("width", width, least=1)
    if not isinstance(cells, Sequence) or len(cells) != 2:
        raise TypeError(f"cells is {cells!r}; wanted two whole numbers, as (4, 4)")
    cells = (whole_number("cells", cells[0], least=1), whole_number("cells", cells[1], least=1))
    check_random(random)
    angles = random.uniform(0, 2 * math.pi, (cells[0] + 1, cells[1] + 1))
    downward, rightward = np.sin(angles), np.cos(angles)
    y = (np.arange(height) + 0.5) * cells[0] / height
    x = (np.arange(width) + 0.5) * cells[1] / width
    row, column = y.astype(int), x.astype(int)
    fraction_y, fraction_x = (y - row)[:, None], (x - column)[None, :]

    def corner(down: int, right: int) -> NDArray[np.float64]:
        # What does not depend on the column is computed once per lattice line.
        along_y = downward[row + down] * (fraction_y - down)
        slopes_x = rightward[row + down].take(column + right, axis=1)
        product = along_y.take(column + right, axis=1) + slopes_x * (fraction_x - right)
        return np.asarray(product)

    blend_y, blend_x = _smoothstep(fraction_y), _smoothstep(fraction_x)
    top = corner(0, 0) * (1 - blend_x) + corner(0, 1) * blend_x
    bottom = corner(1, 0) * (1 - blend_x) + corner(1, 1) * blend_x
    # sqrt(2) brings the noise's bounds, +-sqrt(1/2), to +-1.
    return (math.sqrt(2) * (top * (1 - blend_y) + bottom * blend_y)).astype(np.float32)


def _perlin(image: Pixels, random: Random, share: float, places: Region | None) -> Drawn:
    """Blend a coloured noise texture in where another noise is largest (DRAEM, section 3.1)."""
    channels, height, width = image.shape
    shape_noise = perlin_noise(height, width, _cells(random), random)
    if places is None:
        region = shape_noise >= np.quantile(shape_noise, 1 - share)
    else:
        inner = inner_places(places)
        share_of_places = min(share * inner.size / inner.sum(), 1.0)
        region = inner & (shape_noise >= np.quantile(shape_noise[inner], 1 - share_of_places))
    texture = 0.3 * perlin_noise(height, width, (16, 16), random)
    colour = random.uniform(0, 1, (channels, 1, 1)).astype(np.float32)
    opacity = np.float32(random.uniform(0.5, 1))
    return (1 - opacity) * image + opacity * (colour + texture).clip(0, 1), region


def _cutpaste(image: Pixels, random: Random, share: float, places: Region | None) -> Drawn:
    """Paste a rectangle from elsewhere in the image, its brightness changed (CutPaste, 2.2)."""
    _, height, width = image.shape
    stretch = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
    pixels = share * height * width
    rows = min(max(round(math.sqrt(pixels * stretch)), 1), height)
    columns = min(max(round(math.sqrt(pixels / stretch)), 1), width)
    top, to_top = random.integers(0, height - rows + 1, 2)
    left, to_left = random.integers(0, width - columns + 1, 2)
    if places is not None:
        y, x = _place(places, random)
        to_top = min(max(round(y - rows / 2), 0), height - rows)
        to_left = min(max(round(x - columns / 2), 0), width - columns)
    patch = image[:, top : top + rows, left : left + columns]
    painted, region = image.copy(), np.zeros((height, width), dtype=np.bool_)
    across, along = slice(to_top, to_top + rows), slice(to_left, to_left + columns)
    painted[:, across, along] = (patch * np.float32(random.uniform(0.6, 1.4))).clip(0, 1)
    region[across, along] = True
    return painted, region


def _scratch(image: Pixels, random: Random, share: float, places: Region | None) -> Drawn:
    """Draw a thin line with two bends; ``share`` does not apply to it."""
    _, height, width = image.shape
    step = math.hypot(height, width) * random.uniform(0.2, 0.8) / 3
    heading = random.uniform(0, 2 * math.pi)
    start = (random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.8) * height)
    points = [start if places is None else _place(places, random)[::-1]]
    for _ in range(3):
        x, y = points[-1]
        points.append((x + step * math.cos(heading), y + step * math.sin(heading)))
        heading += random.uniform(-0.6, 0.6)
    thickness = max(round(min(height, width) * random.uniform(0.01, 0.02)), 1)
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).line(points, fill=1, width=thickness, joint="curve")
    return _filled(image, np.asarray(canvas).copy(), random)


def _blob(image: Pixels, random: Random, share: float, places: Region | None) -> Drawn:
    """Fill a round shape with a wavy outline."""
    _, height, width = image.shape
    radius = math.sqrt(share * height * width / math.pi)
    middle = (random.uniform(0.1, 0.9) * height, random.uniform(0.1, 0.9) * width)
    if places is not None:
        middle = _place(places, random)
    y = np.arange(height)[:, None] + 0.5 - middle[0]
    x = np.arange(width)[None, :] + 0.5 - middle[1]
    angle = np.arctan2(y, x)
    outline = np.ones_like(angle)
    for waves in (2, 3, 5):
        outline += random.uniform(0, 0.15) * np.cos(waves * angle + random.uniform(0, 2 * math.pi))
    return _filled(image, np.asarray(np.hypot(y, x) <= radius * outline), random)


def _filled(image: Pixels, region: Region, random: Random) -> Drawn:
    """Fill a region with one colour at least 0.3 away from its mean, in every channel."""
    inside = image[:, region] if region.any() else image.reshape(len(image), -1)
    mean = inside.mean(axis=1)
    dark, light = random.uniform(0, 1, (2, len(image)))
    colour = np.where(mean > 0.5, dark * (mean - 0.3), mean + 0.3 + light * (0.7 - mean))
    return np.broadcast_to(colour.astype(np.float32)[:, None, None], image.shape), region


def _place(places: Region, random: Random) -> tuple[float, float]:
    """The middle (y, x), in pixels, of one of the places."""
    row, column = divmod(int(random.choice(np.flatnonzero(places))), places.shape[1])
    return row + 0.5, column + 0.5


def _cells(random: Random) -> tuple[int, int]:
    rows, columns = 2 ** random.integers(1, 5, 2)
    return int(rows), int(columns)


def _smoothstep(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Perlin's fade curve: its first two derivatives vanish at 0 and 1."""
    return t * t * t * (t * (6 * t - 15) + 10)


_PAINTERS: dict[str, Callable[[Pixels, Random, float, Region | None], Drawn]] = {
    "perlin": _perlin,
    "cutpaste": _cutpaste,
    "scratch": _scratch,
    "blob": _blob,
}
