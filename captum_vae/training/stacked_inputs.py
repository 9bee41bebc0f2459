"""The random numbers and the images of K stacked runs, which are those of K single runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.data import DSprites
from captum_vae.training.batches import SeededImages, epoch_order
from captum_vae.training.stacked_step import Noise

BLOCK = 64
"""Steps whose random numbers are drawn at once on a GPU."""


class NoiseSource(Protocol):
    """Random numbers for one step of every run."""

    def draw(self, step: int) -> Noise:
        """Those of a step; steps are asked for in order."""

    def states(self) -> list[Tensor]:
        """The state of each run's generator, for its checkpoint."""


class SequentialNoise:
    """The numbers that a single run on the CPU draws, from a generator for each run.

    Args:
        states: The generators' states, one for each run.
        shape: (B, D).
        discriminated: Whether the step has a discriminator, for which it draws three times more.
        dtype: The models' type of number.
    """

    def __init__(
        self,
        states: Sequence[Tensor],
        shape: tuple[int, int],
        *,
        discriminated: bool,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Make the generators."""
        self._dtype = dtype
        self._shape, self._discriminated = shape, discriminated
        self._generators = [torch.Generator() for _ in states]
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)

    def draw(self, step: int) -> Noise:
        """The numbers of the next step."""
        decoded = self._normal()
        if not self._discriminated:
            return Noise(decoded)
        joint = self._normal()
        # A single run decodes the second batch too, and draws for that.
        self._normal()
        return Noise(decoded, joint, self._normal(), self._each(torch.rand))

    def states(self) -> list[Tensor]:
        """The generators' states."""
        return [generator.get_state() for generator in self._generators]

    def _normal(self) -> Tensor:
        return self._each(partial(torch.randn, dtype=self._dtype))

    def _each(self, draw: Any) -> Tensor:
        return torch.stack([draw(self._shape, generator=g) for g in self._generators])


class BlockNoise:
    """Numbers that depend on (seed, step) alone, drawn on the device for many steps at once.

    Args:
        seeds: The runs' seeds.
        shape: (B, D).
        discriminated: Whether the step has a discriminator.
        device: Where to draw.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        shape: tuple[int, int],
        *,
        discriminated: bool,
        device: torch.device,
    ) -> None:
        """Nothing is drawn yet."""
        self._seeds, self._shape, self._device = list(seeds), shape, device
        self._normal = 3 if discriminated else 1
        self._block = -1
        self._normals = self._uniforms = torch.empty(0)

    def draw(self, step: int) -> Noise:
        """The numbers of a step."""
        block, place = divmod(step, BLOCK)
        if block != self._block:
            self._block = block
            drawn = [self._drawn(seed, block) for seed in self._seeds]
            self._normals = torch.stack([normal for normal, _ in drawn], 2)
            self._uniforms = torch.stack([uniform for _, uniform in drawn], 1)
        normals = self._normals[place]
        if self._normal == 1:
            return Noise(normals[0])
        return Noise(normals[0], normals[1], normals[2], self._uniforms[place])

    def states(self) -> list[Tensor]:
        """Nothing changes: the states of fresh generators."""
        return [torch.Generator().manual_seed(seed).get_state() for seed in self._seeds]

    def _drawn(self, seed: int, block: int) -> tuple[Tensor, Tensor]:
        entropy = np.random.SeedSequence((seed, block)).generate_state(1, np.uint64)[0]
        generator = torch.Generator(self._device).manual_seed(int(entropy))
        normals = torch.randn(
            (BLOCK, self._normal, *self._shape), generator=generator, device=self._device
        )
        uniforms = torch.rand((BLOCK, *self._shape), generator=generator, device=self._device)
        return normals, uniforms


class StackedImages:
    """The batches of K runs, each in the order of its own seed, as ``load_batches`` gives them.

    Images that are drawn on request are drawn for all runs at once, and on a GPU they all lie in
    its memory, a byte a pixel.

    Args:
        dataset: A data set of images.
        seeds: The runs' seeds.
        batch_size: Images of one run in a step, over all batches of the step.
        device: Where the images go.
    """

    def __init__(
        self, dataset: Dataset[Any], seeds: Sequence[int], *, batch_size: int, device: torch.device
    ) -> None:
        """Choose how images are read."""
        self._dataset, self._seeds = dataset, list(seeds)
        self._batch_size, self._device = batch_size, device
        self._count = len(dataset)  # type: ignore[arg-type]
        self._epoch = -1
        self._orders = torch.empty(0)
        self._resident: Tensor | None = None
        if isinstance(dataset, DSprites) and device.type != "cpu":
            every = torch.arange(self._count)
            parts = [dataset.images(part).to(torch.uint8) for part in torch.split(every, 2**14)]
            self._resident = torch.cat(parts).to(device)

    def batch(self, step: int) -> Tensor:
        """The images of a step, (K, n, C, H, W)."""
        if not isinstance(self._dataset, DSprites):
            return torch.stack(self._read(step)).to(self._device)
        indices = self.indices(step)
        if self._resident is not None:
            return self._resident[indices].float()
        images: Tensor = self._dataset.images(indices.flatten())
        return images.view(*indices.shape, *images.shape[1:])

    def indices(self, step: int) -> Tensor:
        """Which images each run sees in a step, (K, n)."""
        start, parts, left = step * self._batch_size, [], self._batch_size
        while left:
            epoch, offset = divmod(start, self._count)
            part = self._of_epoch(epoch)[:, offset : offset + left]
            parts.append(part)
            start, left = start + part.shape[1], left - part.shape[1]
        return torch.cat(parts, 1)

    def _of_epoch(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            orders = [epoch_order(self._count, seed, epoch) for seed in self._seeds]
            self._orders, self._epoch = torch.stack(orders).to(self._device), epoch
        return self._orders

    def _read(self, step: int) -> list[Tensor]:
        return [
            SeededImages(self._dataset, seed=seed).batch([(step, index) for index in row])
            for seed, row in zip(self._seeds, self.indices(step).tolist(), strict=True)
        ]
