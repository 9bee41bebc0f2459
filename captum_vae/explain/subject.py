"""The model to explain, with how it wants its images and how its posterior is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from captum_vae.data.arrays import read_images
from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.explain.images import expected_images, to_range
from captum_vae.posterior import PosteriorAdapter, PosteriorError, as_adapter


@dataclass(frozen=True)
class Subject:
    """A model that is ready to be explained.

    Attributes:
        model: in eval mode, on its device.
        adapter: reads its posterior.
        image_size: (h, w) of the images it takes; None leaves the images' own.
        channels: of the images it takes; None likewise.
        value_range: lowest and highest value of these images.
        batch_size: images per pass.
    """

    model: nn.Module
    adapter: PosteriorAdapter
    image_size: tuple[int, int] | None
    channels: int | None
    value_range: Sequence[float]
    batch_size: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        posterior: str | None,
        posterior_options: Mapping[str, Any],
        image_size: tuple[int, int] | None,
        channels: int | None,
        value_range: Sequence[float],
        batch_size: int,
    ) -> Subject:
        """Fill in the size and the channels that the model itself states.

        Args:
            model: in eval mode, on its device.
            posterior: a registered name or words; None detects.
            posterior_options: of PosteriorAdapter beside these words.
            image_size: as the user says.
            channels: as the user says.
            value_range: as the user says.
            batch_size: images per pass.

        Raises:
            ValueError: words or options that mean nothing.
        """
        stated_channels, stated_size = expected_images(model)
        return cls(
            model,
            _adapter(model, posterior, posterior_options),
            image_size or stated_size,
            channels or stated_channels,
            value_range,
            batch_size,
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._parameter.device

    def read(self, path: str) -> SampleDataset:
        """Images for the model: see :func:`captum_vae.data.read_images`."""
        return read_images(path, image_size=self.image_size, channels=self.channels)

    def batches(self, images: SampleDataset) -> DataLoader[Any]:
        """Batches of (images as the model wants them, their names)."""

        def collate(samples: Sequence[Any]) -> tuple[Tensor, list[str]]:
            batch = collate_samples(samples)
            return to_range(batch.image, self.value_range).to(self._parameter), batch.name

        return DataLoader(images, batch_size=self.batch_size, collate_fn=collate)

    def noise(self) -> Tensor | None:
        """Two images of noise in the model's size; None where that is unknown."""
        if self.channels is None or self.image_size is None:
            return None
        images = torch.rand(2, self.channels, *self.image_size)
        return to_range(images, self.value_range).to(self._parameter)

    def latent_count(self, images: Tensor) -> int:
        """D, having made sure that the model runs on such images and its posterior is read.

        Raises:
            ValueError: it does not run, or its posterior cannot be told.
        """
        try:
            with torch.no_grad():
                return self.adapter.prepare(images)(images).mean.shape[1]
        except PosteriorError:
            raise
        # Whatever a model that is not ours raises on images of the wrong shape.
        except Exception as error:
            raise ValueError(
                f"{type(self.model).__name__} does not run on images {tuple(images.shape)} "
                f"({type(error).__name__}: {error}); if they have the wrong shape, say what it "
                "takes with --image_size and --channels"
            ) from error

    @property
    def _parameter(self) -> Tensor:
        """The tensor whose device and floating type images must have."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return next((t for t in tensors if t.is_floating_point()), torch.empty(0))


def _adapter(
    model: nn.Module, posterior: str | None, options: Mapping[str, Any]
) -> PosteriorAdapter:
    if not options:
        return as_adapter(model, posterior)
    chosen = dict(options)
    if isinstance(chosen.get("spatial"), list):
        chosen["spatial"] = tuple(chosen["spatial"])
    try:
        return PosteriorAdapter(model, **{"read": posterior or "auto", **chosen})
    except TypeError as error:
        raise ValueError(f"posterior_options do not fit: {error}") from error
