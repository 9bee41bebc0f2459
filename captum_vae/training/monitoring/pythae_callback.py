"""The latent monitor as a callback of pythae's trainers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_vae.checks import whole_number
from captum_vae.training.monitoring.monitor import LatentMonitor, first_images, untraced

if TYPE_CHECKING:

    class TrainingCallback:
        """Stands in for the class of pythae, which has no types."""

else:
    try:
        from pythae.trainers.training_callbacks import TrainingCallback
    except ImportError:
        TrainingCallback = object


class PythaeLatentAttentionCallback(TrainingCallback):
    """Keeps pictures of what each latent dimension looks at while pythae trains.

    Every N epochs, or steps, a picture and a line of numbers go to a folder: attention maps of the
    same images, their reconstruction, the KL per dimension and the number of active dimensions.
    The training is not changed: weights, buffers, modes and random numbers stay, bit for bit.

    Args:
        layer: A module of the model, or its dotted name, such as "encoder.layers.2".
        images: (N, C, H, W) images to look at; None takes the first of the training data.
        out: Folder for the pictures and latents.csv; None is ``latent_attention`` in the trainer's
            output_dir.
        every_n_epochs: Epochs from one snapshot to the next; None goes by steps.
        every_n_steps: Steps from one snapshot to the next, where every_n_epochs is None.
        max_images: How many of the images are drawn, and at most taken of the training data.
        max_dims: How many dimensions are drawn: those of the largest KL at the time.
        posterior: How to read the posterior, as in LatentGradCAM.
        reshape_transform: Brings tokens (B, N, C) to (B, C, h, w), as in LatentGradCAM.
        **options: Arguments of ``LatentGradCAM.attribute``, such as rectifier or baselines.

    Raises:
        ImportError: The package pythae is not installed.
        TypeError: An argument is of another kind.
        ValueError: A number is out of range, or images have another shape.

    Example::

        callback = PythaeLatentAttentionCallback("encoder.layers.2", images)
        pipeline(train_data=data, callbacks=[callback])
    """

    def __init__(
        self,
        layer: nn.Module | str,
        images: Tensor | None = None,
        *,
        out: str | Path | None = None,
        every_n_epochs: int | None = 1,
        every_n_steps: int = 1000,
        max_images: int = 8,
        max_dims: int = 16,
        posterior: Any = None,
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Checks the arguments."""
        if TrainingCallback is object:
            raise ImportError("a pythae callback needs: pip install pythae")
        super().__init__()
        self.every_n_epochs = (
            None
            if every_n_epochs is None
            else whole_number("every_n_epochs", every_n_epochs, least=1)
        )
        self.monitor = LatentMonitor(
            layer,
            images,
            every_n_steps=every_n_steps,
            out=out,
            max_images=max_images,
            max_dims=max_dims,
            posterior=posterior,
            reshape_transform=reshape_transform,
            **options,
        )
        self._steps = 0
        self._epochs = 0

    def on_train_begin(self, training_config: Any, **kwargs: Any) -> None:
        """Say where the pictures go, where nobody said so."""
        self._steps = self._epochs = 0
        if self.monitor.out is None:
            self.monitor.out = Path(training_config.output_dir or ".") / "latent_attention"

    def on_epoch_begin(self, training_config: Any, **kwargs: Any) -> None:
        """Take images of the training data where none were given."""
        loader, model = kwargs.get("train_loader"), kwargs.get("model")
        if self.monitor.images is None and loader is not None and model is not None:
            data = loader.dataset
            # Reading an item may draw random numbers, as augmentation does.
            with untraced(model):
                items = [data[i] for i in range(min(self.monitor.max_images, len(data)))]
            self.monitor.watch(torch.stack([first_images(item, dim=3) for item in items]))

    def on_train_step_end(self, training_config: Any, **kwargs: Any) -> None:
        """Count the step; where steps decide, take a snapshot."""
        # pythae calls this after every batch of an epoch.
        self._steps += 1
        if self.every_n_epochs is None and _writes(training_config):
            self.monitor(_inner(kwargs["model"]), self._steps)

    def on_epoch_end(self, training_config: Any, **kwargs: Any) -> None:
        """Count the epoch; where epochs decide, take a snapshot."""
        self._epochs += 1
        every = self.every_n_epochs
        if every and self._epochs % every == 0 and _writes(training_config):
            self.monitor.snapshot(_inner(kwargs["model"]), self._steps)


def _writes(training_config: Any) -> bool:
    """Whether this is the process that writes files."""
    return getattr(training_config, "rank", -1) in (-1, 0)


def _inner(model: Any) -> nn.Module:
    module: nn.Module = getattr(model, "module", model)
    return module
