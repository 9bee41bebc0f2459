"""The latent monitor as a callback of Lightning's trainer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from captum_vae.checks import whole_number
from captum_vae.training.monitoring.monitor import LatentMonitor, first_images, write_snapshot
from captum_vae.training.monitoring.snapshot import LatentSnapshot

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError:
            Callback = object


class LatentAttentionCallback(Callback):
    """Logs what each latent dimension looks at while Lightning trains.

    Every N steps (or epochs) the same images' attention maps, their reconstruction, the KL per
    dimension and the number of active dimensions go to every logger that the trainer has: numbers
    to all of them, pictures to TensorBoard, Weights & Biases and others with ``log_image``. Where
    no logger takes pictures, as CSV, they lie in ``latent_attention`` beside the logs. The training
    is not changed: weights, buffers, modes and random numbers stay, bit for bit. Under several
    processes the first one looks; a model whose weights are sharded (FSDP) is refused.

    Args:
        layer: A module of the model, or its dotted name.
        images: (N, C, H, W) images to look at, as the model wants them; None takes the first
            training batch's, which may be a tensor, or a tuple or dict that holds one.
        model: Dotted name of the VAE in the LightningModule, such as "vae"; None is the
            LightningModule itself. Dotted names of layers begin there.
        every_n_steps: Optimizer steps from one snapshot to the next.
        every_n_epochs: Epochs from one snapshot to the next, in place of steps.
        out: Folder for pictures and latents.csv, beside what the loggers get; None writes pictures
            only where no logger takes them.
        max_images: How many of the images are drawn, and at most kept of a first batch.
        max_dims: How many dimensions are drawn: those of the largest KL at the time.
        posterior: How to read the posterior, as in LatentGradCAM.
        reshape_transform: Brings tokens (B, N, C) to (B, C, h, w), as in LatentGradCAM.
        **options: Arguments of ``LatentGradCAM.attribute``, such as rectifier or baselines.

    Raises:
        ImportError: Neither lightning nor pytorch_lightning is installed.
        TypeError: An argument is of another kind.
        ValueError: A number is out of range, or images have another shape.

    Example::

        callback = LatentAttentionCallback("encoder.conv2", model="vae", every_n_steps=500)
        Trainer(callbacks=[callback]).fit(module, loader)
    """

    def __init__(
        self,
        layer: nn.Module | str,
        images: Tensor | None = None,
        *,
        model: str | None = None,
        every_n_steps: int = 1000,
        every_n_epochs: int | None = None,
        out: str | Path | None = None,
        max_images: int = 8,
        max_dims: int = 16,
        posterior: Any = None,
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Checks the arguments."""
        if Callback is object:
            raise ImportError("a Lightning callback needs: pip install lightning")
        super().__init__()
        if model is not None and not isinstance(model, str):
            raise TypeError(
                f"model must be the dotted name of the VAE in the LightningModule, or None; got "
                f"{type(model).__name__}"
            )
        self.model = model
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

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what cannot be looked at before anything is trained."""
        if "fsdp" in type(trainer.strategy).__name__.lower():
            raise ValueError(
                "strategy='fsdp' shards the model's weights, so that one process cannot run it; "
                "leave LatentAttentionCallback out, or train with DDP"
            )
        self._vae(pl_module)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the images of the first batch where none were given."""
        if self.monitor.images is None and trainer.is_global_zero:
            self.monitor.watch(first_images(batch)[: self.monitor.max_images])

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take a snapshot where the steps say so."""
        if self.every_n_epochs is None and trainer.is_global_zero:
            taken = self.monitor(self._vae(pl_module), trainer.global_step)
            if taken is not None:
                self._log(trainer, taken)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take a snapshot where the epochs say so."""
        every = self.every_n_epochs
        if every and (trainer.current_epoch + 1) % every == 0 and trainer.is_global_zero:
            vae = self._vae(pl_module)
            self._log(trainer, self.monitor.snapshot(vae, trainer.global_step))

    def _vae(self, pl_module: LightningModule) -> nn.Module:
        if self.model is None:
            return pl_module
        try:
            return pl_module.get_submodule(self.model)
        except AttributeError as error:
            children = ", ".join(name for name, _ in pl_module.named_children())
            raise ValueError(
                f"model={self.model!r} is no submodule of {type(pl_module).__name__}; it has "
                f"{children or 'none'}"
            ) from error

    def _log(self, trainer: Trainer, taken: LatentSnapshot) -> None:
        picture, shown = taken.picture(), False
        for logger in trainer.loggers:
            logger.log_metrics(taken.scalars(), step=taken.step)
            shown |= _log_picture(logger, picture, taken.step)
        if not shown and self.monitor.out is None:
            folder = trainer.log_dir or trainer.default_root_dir
            write_snapshot(taken, Path(folder) / "latent_attention")


def _log_picture(logger: Any, picture: Tensor, step: int) -> bool:
    """Whether the logger took the picture (3, H, W)."""
    name = "latent/attention"
    if hasattr(logger, "log_image"):
        logger.log_image(key=name, images=[picture.permute(1, 2, 0).numpy()], step=step)
        return True
    if hasattr(logger.experiment, "add_image"):
        logger.experiment.add_image(name, picture, step)
        return True
    return False
