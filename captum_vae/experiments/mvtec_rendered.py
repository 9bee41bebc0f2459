"""Rendered textures in place of MVTec AD where no data are at hand."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.data import perlin_noise
from captum_vae.data.sample import Sample, SampleDataset

Texture = Literal["grain", "weave"]


class RenderedTexture(SampleDataset):
    """Normal colour images of a surface: stained grain, or threads over and under each other.

    Image i depends on (texture, split, seed, i) alone.

    Args:
        texture: The kind of surface: "grain" or "weave".
        split: The part of the data: "train" or "test".
        length: The number of images.
        image_size: Height and width of the images in pixels, at least 32.
        seed: The seed of the images, 0 or more.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        texture: Texture,
        split: Literal["train", "test"] = "train",
        *,
        length: int = 32,
        image_size: int = 64,
        seed: int = 0,
    ) -> None:
        """Check the options; images are rendered on access."""
        check_choice("texture", texture, get_args(Texture))
        check_choice("split", split, ("train", "test"))
        whole_number("length", length, least=1)
        whole_number("image_size", image_size, least=32)
        checked_seed(seed)
        self._texture, self._split, self._length = texture, split, length
        self._size, self._seed = image_size, seed

    def __len__(self) -> int:
        """Return ``length``."""
        return self._length

    def __getitem__(self, index: int) -> Sample:
        """Render image ``index``."""
        if not 0 <= index < self._length:
            raise IndexError(f"index {index} is not in [0, {self._length})")
        kind = get_args(Texture).index(self._texture)
        random = np.random.default_rng((self._seed, kind, int(self._split == "test"), index))
        shade = _grain(self._size, random) if kind == 0 else _weave(self._size, random)
        tint = np.array([0.95, 0.75, 0.55])[:, None, None]
        pixels = tint * shade + 0.01 * random.standard_normal((3, self._size, self._size))
        return Sample(
            torch.from_numpy(pixels.clip(0, 1).astype(np.float32)),
            torch.zeros(self._size, self._size, dtype=torch.bool),
            0,
            f"{self._split}/good/{index:03d}.png",
            "good",
        )


def _grain(size: int, random: np.random.Generator) -> NDArray[np.float64]:
    noise = sum(
        perlin_noise(size, size, (cells, cells), random) / cells**0.5 for cells in (2, 4, 8)
    )
    return np.asarray(0.5 + 0.15 * noise, dtype=np.float64)


def _weave(size: int, random: np.random.Generator) -> NDArray[np.float64]:
    phase = random.uniform(0, 2 * np.pi, 2)
    rows, columns = np.mgrid[:size, :size] * (2 * np.pi / 16)
    return np.asarray(0.5 + 0.2 * np.sin(rows + phase[0]) * np.sin(columns + phase[1]))
