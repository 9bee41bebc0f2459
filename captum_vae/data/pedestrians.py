"""A small synthetic scene: people walk along a path, and now and then a cart or a cyclist comes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vae.checks import check_choice, checked_seed, real_number, whole_number
from captum_vae.data.defect_options import checked_kinds
from captum_vae.data.defects import perlin_noise
from captum_vae.data.resize import height_width
from captum_vae.data.sample import Sample, SampleDataset, digest_of

Vehicle: TypeAlias = Literal["cart", "cyclist"]
Region: TypeAlias = NDArray[np.bool_]
Part: TypeAlias = tuple[Region, float]
"""Where a part of a figure is drawn, and its brightness."""

VEHICLES: tuple[Vehicle, ...] = ("cart", "cyclist")


@dataclass(frozen=True)
class _Walker:
    """A figure: ``foot`` (row of its feet), ``height`` in pixels, brightness, and its motion."""

    kind: Literal["pedestrian", "cart", "cyclist"]
    foot: float
    height: float
    shade: float
    start: float
    speed: float
    phase: float
    returns: bool


class MovingPedestrians(SampleDataset):
    """Grey clips of a static camera, in the manner of UCSD Ped2, with masks to the pixel.

    In training clips people only walk. Each test clip is also crossed by one vehicle, faster than
    the people and of another shape; the mask holds its visible pixels, those that nobody in front
    of it hides. Everything depends on (seed, split, clip, frame) alone; the background on the seed.

    Args:
        split: "train" or "test".
        clips: Number of clips; the group of a sample is its clip's name.
        frames: Number of frames per clip.
        image_size: (h, w), or one number for a square; at least 32 pixels a side.
        pedestrians: Number of people per clip.
        vehicles: Kinds that cross the test clips in turn: "cart", "cyclist".
        noise: Standard deviation of the camera's noise.
        seed: A whole number that is not negative.

    Raises:
        TypeError: An option has the wrong type.
        ValueError: An option is out of range.
    """

    groups_are_clips = True

    def __init__(
        self,
        split: Literal["train", "test"] = "train",
        *,
        clips: int = 4,
        frames: int = 40,
        image_size: int | tuple[int, int] = (96, 144),
        pedestrians: int = 6,
        vehicles: Sequence[Vehicle] = VEHICLES,
        noise: float = 0.01,
        seed: int = 0,
    ) -> None:
        """Draw the walkers of every clip; frames are rendered on access."""
        check_choice("split", split, ("train", "test"))
        clips = whole_number("clips", clips, least=1)
        frames = whole_number("frames", frames, least=1)
        pedestrians = whole_number("pedestrians", pedestrians, least=0)
        noise = real_number("noise", noise, least=0)
        seed = checked_seed(seed)
        vehicles = checked_kinds("vehicles", vehicles, VEHICLES)
        height, width = height_width(image_size) or (0, 0)
        if min(height, width) < 32:
            raise ValueError(f"image_size is {image_size}; wanted at least 32 x 32 pixels")
        self._digest = digest_of(
            "MovingPedestrians", split, clips, frames, (height, width), pedestrians, vehicles,
            noise, seed,
        )  # fmt: skip
        self._split, self._clips, self._frames = split, clips, frames
        self._size, self._noise, self._seed = (height, width), noise, seed
        self._background = _background(height, width, np.random.default_rng(seed))
        self._walkers = [
            _walkers(
                self._random(clip), self._size, frames, pedestrians, self._vehicle(vehicles, clip)
            )
            for clip in range(clips)
        ]

    def __len__(self) -> int:
        """Return clips times frames."""
        return self._clips * self._frames

    def __getitem__(self, index: int) -> Sample:
        """Render frame ``index % frames`` of clip ``index // frames``."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is not in [0, {len(self)})")
        clip, frame = divmod(index, self._frames)
        image, mask = self._render(clip, frame)
        image += self._noise * self._random(clip, frame).standard_normal(image.shape)
        pixels = torch.from_numpy(image.clip(0, 1).astype(np.float32))[None]
        name = f"{self._split.capitalize()}{clip + 1:03d}"
        return Sample(
            pixels, torch.from_numpy(mask), int(mask.any()), f"{name}/{frame + 1:03d}", name
        )

    @property
    def digest(self) -> str:
        """SHA-256 over the options, on which all samples depend."""
        return self._digest

    @property
    def labels(self) -> list[int | None]:
        """The samples' labels, in order."""
        return [
            int(self._render(clip, frame)[1].any())
            for clip in range(self._clips)
            for frame in range(self._frames)
        ]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(1, h, w)."""
        return 1, *self._size

    def _vehicle(self, vehicles: Sequence[Vehicle], clip: int) -> Vehicle | None:
        return vehicles[clip % len(vehicles)] if self._split == "test" else None

    def _random(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, int(self._split == "test"), *numbers))

    def _render(self, clip: int, frame: int) -> tuple[NDArray[np.floating], Region]:
        """Paint the walkers from the far to the near; return the image and the vehicle's pixels."""
        image = self._background.copy()
        vehicle = np.zeros(self._size, dtype=np.bool_)
        for walker in self._walkers[clip]:
            for region, shade in _parts(walker, frame, self._size):
                image[region] = shade
                vehicle[region] = walker.kind != "pedestrian"
        return image, vehicle


def _background(height: int, width: int, random: np.random.Generator) -> NDArray[np.floating]:
    """A light path, (h, w): brighter towards the camera, with a coarse stain and two kerbs."""
    rows = np.linspace(0.6, 0.72, height)[:, None]
    image = rows + 0.06 * perlin_noise(height, width, (4, 6), random)
    image[int(0.2 * height)] -= 0.15
    image[: int(0.2 * height)] -= 0.1
    return np.asarray(image, dtype=np.float64)


def _walkers(
    random: np.random.Generator,
    size: tuple[int, int],
    frames: int,
    pedestrians: int,
    vehicle: Vehicle | None,
) -> list[_Walker]:
    """Draw a clip's figures, those further from the camera first."""
    height, width = size
    walkers = []
    for _ in range(pedestrians):
        tall, foot = _stand(random.uniform(0.4, 0.98), height)
        speed = tall * random.uniform(0.02, 0.05) * random.choice([-1, 1])
        shade, start, phase = random.uniform([0.1, 0, 0], [0.35, 1, 2 * math.pi])
        walkers.append(_Walker("pedestrian", foot, tall, shade, start * width, speed, phase, True))
    if vehicle is not None:
        tall, foot = _stand(random.uniform(0.5, 0.9), height)
        # Enters after a sixth to a third of the clip and crosses within half of it.
        speed = (width + 2 * tall) / (0.5 * frames)
        start = -tall - speed * frames * random.uniform(1 / 6, 1 / 3)
        shade = 0.95 if vehicle == "cart" else 0.05
        walkers.append(_Walker(vehicle, foot, tall, shade, start, speed, 0.0, False))
    return sorted(walkers, key=lambda walker: walker.foot)


def _stand(depth: float, height: int) -> tuple[float, float]:
    """A figure's size and the row of its feet at a depth from 0 (horizon) to 1 (camera)."""
    return (0.12 + 0.14 * depth) * height, depth * height


def _parts(walker: _Walker, frame: int, size: tuple[int, int]) -> list[Part]:
    height, width = size
    tall = walker.height
    x = walker.start + walker.speed * frame
    if walker.returns:
        x = (x + tall) % (width + 2 * tall) - tall
    if not -tall < x < width + tall:
        return []
    # In units of the figure's height: v from 0 at the feet to 1 at the head, u to the right.
    u = (np.arange(width)[None, :] + 0.5 - x) / tall
    v = (walker.foot - np.arange(height)[:, None] - 0.5) / tall
    if walker.kind == "cart":
        return _cart(u, v, walker.shade)
    if walker.kind == "cyclist":
        return _cyclist(u, v, walker.shade)
    return _pedestrian(u, v, walker.shade, walker.phase + 0.6 * frame)


def _pedestrian(
    u: NDArray[np.floating], v: NDArray[np.floating], shade: float, stride: float
) -> list[Part]:
    swing = 0.3 * math.sin(stride) * (0.45 - v)
    legs = (v >= 0) & (v < 0.45) & ((np.abs(u - swing) < 0.06) | (np.abs(u + swing) < 0.06))
    return [
        (np.asarray(legs), 0.7 * shade),
        (_ellipse(u, v, 0.0, 0.62, 0.15, 0.24), shade),
        (_ellipse(u, v, 0.0, 0.9, 0.09, 0.1), shade + 0.1),
    ]


def _cart(u: NDArray[np.floating], v: NDArray[np.floating], shade: float) -> list[Part]:
    body = (np.abs(u) < 0.75) & (v >= 0.12) & (v < 0.55)
    roof = (np.abs(u) < 0.6) & (v >= 0.88) & (v < 0.98)
    posts = (np.abs(np.abs(u) - 0.5) < 0.05) & (v >= 0.5) & (v < 0.9)
    wheels = _ellipse(u, v, -0.45, 0.14, 0.14, 0.14) | _ellipse(u, v, 0.45, 0.14, 0.14, 0.14)
    return [(np.asarray(body | roof | posts), shade), (wheels, 0.05)]


def _cyclist(u: NDArray[np.floating], v: NDArray[np.floating], shade: float) -> list[Part]:
    wheels = [
        _ellipse(u, v, side, 0.2, 0.2, 0.2) & ~_ellipse(u, v, side, 0.2, 0.12, 0.12)
        for side in (-0.3, 0.3)
    ]
    frame = (np.abs(v - 0.3) < 0.05) & (np.abs(u) < 0.3)
    rider = _ellipse(u - 0.3 * (v - 0.6), v, 0.0, 0.6, 0.13, 0.28)
    head = _ellipse(u, v, 0.12, 0.92, 0.09, 0.1)
    return [(np.asarray(wheels[0] | wheels[1] | frame), 0.02), (rider | head, shade)]


def _ellipse(
    u: NDArray[np.floating],
    v: NDArray[np.floating],
    centre_u: float,
    centre_v: float,
    radius_u: float,
    radius_v: float,
) -> Region:
    return np.asarray(((u - centre_u) / radius_u) ** 2 + ((v - centre_v) / radius_v) ** 2 <= 1)
