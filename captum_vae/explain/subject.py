"""The model to explain, with how it wants its images and how its posterior is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from captum_vae.checks import whole_number
from captum_vae.data.arrays import ArrayImages, read_images
from captum_vae.data.resize import ImageSize, height_width
from captum_vae.data.sample import Sample, SampleDataset, collate_samples
from captum_vae.data.value_range import checked_value_range, to_value_range
from captum_vae.models import GaussianVAE
from captum_vae.posterior import PosteriorAdapter, PosteriorError, as_adapter

_SHAPE_WORDS = ("shape", "size", "dimension", "channel")
"""Words of PyTorch's errors about images of another shape than a layer takes."""


@dataclass(frozen=True)
class Subject:
    """A model that is ready to be explained.

    Attributes:
        model: The VAE, in eval mode on its device.
        adapter: Reads its posterior.
        image_size: (h, w) of the images it takes; None leaves the images' own.
        channels: Channels of the images it takes; None leaves the images' own.
        value_range: Lowest and highest value of these images.
        batch_size: Images per pass.
    """

    model: nn.Module
    adapter: PosteriorAdapter
    image_size: tuple[int, int] | None
    channels: int | None
    value_range: tuple[float, float]
    batch_size: int

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        posterior: Any,
        posterior_options: Mapping[str, Any] | None,
        image_size: ImageSize,
        channels: int | None,
        value_range: Sequence[float],
        batch_size: int,
    ) -> Subject:
        """Check what the user says, and fill in the size and channels that the model states.

        Args:
            model: The VAE, in eval mode on its device.
            posterior: A registered name or words of PosteriorAdapter; None detects.
            posterior_options: Arguments of PosteriorAdapter beside these words.
            image_size: (h, w) or one number; None takes what the model states.
            channels: 1 or 3; None takes what the model states.
            value_range: Lowest and highest value that the model was trained on.
            batch_size: Images per pass.

        Raises:
            ValueError: An argument is out of range, or the model is in training mode.
            TypeError: An argument is of another kind.
        """
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is {type(model).__name__}; wanted a torch.nn.Module")
        if model.training:
            raise ValueError(
                "model is in training mode, in which dropout and batch statistics change its maps; "
                "call model.eval() first"
            )
        stated_channels, stated_size = _stated_images(model)
        if channels is not None:
            channels = whole_number("channels", channels, least=1)
        return cls(
            model,
            _adapter(model, posterior, posterior_options or {}),
            height_width(image_size) or stated_size,
            channels or stated_channels,
            checked_value_range(value_range),
            whole_number("batch_size", batch_size, least=1, most=2**31 - 1),
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._parameter.device

    def read(self, images: str | Path | Tensor | SampleDataset, argument: str) -> SampleDataset:
        """Images for the model as a data set.

        Args:
            images: A path, a tensor (N, C, h, w) in [0, 1], or a data set of samples.
            argument: What the user gave them as, for messages.

        Raises:
            FileNotFoundError: There is no such path.
            ValueError: There are no images, or they have another shape or range.
            TypeError: They are something else.
        """
        if isinstance(images, str | Path):
            return read_images(images, image_size=self.image_size, channels=self.channels)
        if isinstance(images, Tensor):
            return ArrayImages(_checked_images(images, argument), argument)
        if hasattr(images, "__getitem__") and hasattr(images, "__len__"):
            if not len(images) or not isinstance(images[0], Sample):
                raise ValueError(f"{argument} is a data set without samples; wanted Sample items")
            return images
        raise TypeError(
            f"{argument} is {type(images).__name__}; wanted a path, a tensor (N, C, h, w) in "
            "[0, 1], or a data set of samples"
        )

    def batches(self, images: SampleDataset) -> DataLoader[Any]:
        """Batches of (images as the model wants them, their names)."""

        def collate(samples: Sequence[Any]) -> tuple[Tensor, list[str]]:
            batch = collate_samples(samples)
            return self.for_model(batch.image), batch.name

        return DataLoader(images, batch_size=self.batch_size, collate_fn=collate)

    def for_model(self, images: Tensor) -> Tensor:
        """Images (B, C, h, w) in [0, 1] as the model wants them: its range, type and device."""
        return self._in_range(images).to(self._parameter)

    def example(self, images: str | Path | Tensor | SampleDataset | None) -> Tensor:
        """A batch to try or record the model with: of images, else of noise in the model's size.

        Args:
            images: A path, a tensor (N, C, h, w) in [0, 1], or a data set of samples; None takes
                noise.

        Raises:
            FileNotFoundError: There is no such path.
            ValueError: There are no images, and the model does not state what it takes; or they
                have another shape or range.
            TypeError: They are something else.
        """
        if images is not None:
            batch: Tensor = next(iter(self.batches(self.read(images, "images"))))[0]
            return batch
        if self.channels is None or self.image_size is None:
            raise ValueError(
                "the model does not state what images it takes; give some with images=, or say "
                "image_size= and channels="
            )
        return self.for_model(torch.rand(self.batch_size, self.channels, *self.image_size))

    def latent_count(self, images: Tensor) -> int:
        """D, having made sure that the model runs on such images and its posterior is read.

        Args:
            images: (B, C, h, w) as the model wants them.

        Raises:
            ValueError: The model does not run, or its posterior cannot be told; the message says
                which kind of model asks for what.
        """
        try:
            with torch.no_grad():
                return self.adapter.prepare(images)(images).mean.shape[1]
        except PosteriorError:
            raise
        # A model that is not ours raises anything at all.
        except Exception as error:
            name = type(self.model).__name__
            raise ValueError(
                f"{name} does not run on images {tuple(images.shape)} ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); {_advice(error)}"
            ) from error

    def _in_range(self, images: Tensor) -> Tensor:
        """Images from [0, 1] in the range that the model was trained on."""
        return to_value_range(images, self.value_range)

    @property
    def _parameter(self) -> Tensor:
        """The tensor whose device and floating type images must have."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return next((t for t in tensors if t.is_floating_point()), torch.empty(0))


def _stated_images(model: nn.Module) -> tuple[int | None, tuple[int, int] | None]:
    """Channels and (h, w) that a model states it was built for; None where it does not say."""
    if isinstance(model, GaussianVAE):
        height, width = model.image_size
        return model.in_channels, (height, width)
    # pythae and torchvision-like models keep (C, h, w).
    stated = getattr(model, "input_dim", None)
    if isinstance(stated, Sequence) and len(stated) == 3:
        channels, height, width = (int(side) for side in stated)
        return channels, (height, width)
    return None, None


def _advice(error: Exception) -> str:
    """What to do about a model that fails on a batch of images; its arguments are told before."""
    if isinstance(error, RuntimeError | ValueError | AssertionError) and any(
        word in str(error).lower() for word in _SHAPE_WORDS
    ):
        return "if they have the wrong shape, say what it takes with image_size= and channels="
    return "the error is the model's own"


def _adapter(model: nn.Module, posterior: Any, options: Mapping[str, Any]) -> PosteriorAdapter:
    if not options:
        return as_adapter(model, posterior)
    chosen = dict(options)
    if isinstance(chosen.get("spatial"), list):
        chosen["spatial"] = tuple(chosen["spatial"])
    try:
        return PosteriorAdapter(model, **{"read": posterior or "auto", **chosen})
    except TypeError as error:
        raise ValueError(f"posterior_options do not fit: {error}") from error


def _checked_images(images: Tensor, argument: str) -> Tensor:
    if images.dim() != 4 or 0 in images.shape:
        raise ValueError(f"{argument} has shape {tuple(images.shape)}; wanted (N, C, h, w)")
    if not images.is_floating_point():
        raise TypeError(
            f"{argument} has dtype {images.dtype}; wanted numbers from 0 to 1, such as bytes / 255"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"the values of {argument} run from {low:.4g} to {high:.4g}; wanted 0 to 1, which "
            "value_range= then brings to the model's own range"
        )
    return images.detach().cpu()
