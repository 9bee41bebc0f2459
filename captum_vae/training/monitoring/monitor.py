"""Looking at a latent from inside any training loop, without a trace in the training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from captum_vae.attr import LatentGradCAM
from captum_vae.attr.reconstruction import reconstruct
from captum_vae.checks import whole_number
from captum_vae.files import replacing, write_text
from captum_vae.posterior import CollapsedPosteriorWarning
from captum_vae.posterior.probe import undisturbed
from captum_vae.training.monitoring.snapshot import LatentSnapshot
from captum_vae.training.random_state import random_state, set_random_state


class LatentMonitor:
    """Shows what each latent dimension looks at while a model trains, in any training loop.

    Called after every step, it takes a snapshot after every ``every_n_steps`` of them: attention
    maps of the same images each time, their reconstruction, the KL per dimension and the number of
    active dimensions. The model is explained in eval mode. The training goes on as if nobody had
    looked: weights, gradients, buffers, modes and random numbers are as they were, so that its
    weights are the same, bit for bit, with and without.

    Args:
        layer: A module of the model, or its dotted name.
        images: (N, C, H, W) images to look at, as the model wants them. None takes those that the
            framework's first batch holds (the callbacks), or must be given (in a loop).
        every_n_steps: Steps from one snapshot to the next.
        out: Folder for a picture of each snapshot (``step_00001000.png``) and their numbers
            (``latents.csv``); None keeps nothing on disk.
        max_images: How many of the images are drawn; the numbers are of all of them.
        max_dims: How many dimensions are drawn: those of the largest KL at the time.
        posterior: How to read the posterior, as in LatentGradCAM.
        reshape_transform: Brings tokens (B, N, C) to (B, C, h, w), as in LatentGradCAM.
        **options: Arguments of ``LatentGradCAM.attribute``, such as rectifier or baselines.

    Attributes:
        snapshots: How many were taken.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: A number is out of range, or images have another shape.

    Example::

        monitor = LatentMonitor("encoder.conv2", images, out="runs/mine/latents")
        for step, batch in enumerate(loader, 1):
            ...
            monitor(vae, step)
    """

    def __init__(
        self,
        layer: nn.Module | str,
        images: Tensor | None = None,
        *,
        every_n_steps: int = 1000,
        out: str | Path | None = None,
        max_images: int = 8,
        max_dims: int = 16,
        posterior: Any = None,
        reshape_transform: Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        """Checks the arguments; the model comes with the calls."""
        if not isinstance(layer, (nn.Module, str)):
            raise TypeError(
                f"layer must be a torch.nn.Module or its name, got {type(layer).__name__}"
            )
        fixed = sorted({"target", "size", "create_graph", "inputs", "aggregate"} & options.keys())
        if fixed:
            raise ValueError(f"{', '.join(fixed)}: a monitor decides this itself; leave it out")
        self.layer = layer
        self.every_n_steps = whole_number("every_n_steps", every_n_steps, least=1)
        self.max_images = whole_number("max_images", max_images, least=1)
        self.max_dims = whole_number("max_dims", max_dims, least=1)
        self.images = None if images is None else _checked_images(images)
        self.out = None if out is None else Path(out)
        self.posterior = posterior
        self.reshape_transform = reshape_transform
        self.options = options
        self.snapshots = 0
        self._last = 0
        self._of: nn.Module | None = None
        self._cam: Any = None

    def __call__(self, model: nn.Module, step: int) -> LatentSnapshot | None:
        """Take a snapshot if it is time for one.

        Args:
            model: The VAE in training.
            step: Steps done so far. A loop may count by more than one.

        Returns:
            The snapshot, or None between two of them.
        """
        due = step // self.every_n_steps > self._last // self.every_n_steps
        self._last = step
        return self.snapshot(model, step) if due else None

    def watch(self, images: Tensor) -> None:
        """Look at these images, (N, C, H, W), from now on; they are copied.

        Raises:
            TypeError: They are no tensor of floats.
            ValueError: They have another shape.
        """
        self.images = _checked_images(images)

    def snapshot(self, model: nn.Module, step: int) -> LatentSnapshot:
        """Take a snapshot now, and write it to ``out``.

        Args:
            model: The VAE in training.
            step: Steps done so far.

        Raises:
            ValueError: There are no images yet, the layer is not in the model, or the posterior
                cannot be read.
            OSError: The disk is full or refuses.
        """
        if self.images is None:
            raise ValueError("there are no images to look at; give images= or call watch(images)")
        with untraced(model):
            taken = self._look(model, self.images, step)
        self.snapshots += 1
        if self.out is not None:
            write_snapshot(taken, self.out)
        return taken

    def _look(self, model: nn.Module, images: Tensor, step: int) -> LatentSnapshot:
        if self._of is not model:
            self._cam = LatentGradCAM(
                model,
                self.layer,
                posterior=self.posterior,
                reshape_transform=self.reshape_transform,
            )
            self._of = model
        images = images.to(_device(model))
        adapter = self._cam.posterior
        posterior = adapter.prepare(images)(images)
        known = posterior.log_variance is not None
        kl = posterior.kl().detach().float().mean(0) if known else None
        usage = posterior.mean.detach().float().std(0, correction=0) if kl is None else kl
        dims = sorted(usage.argsort(descending=True)[: self.max_dims].tolist())
        with warnings.catch_warnings():
            # An untrained posterior is no news here: its KL is among the numbers.
            warnings.simplefilter("ignore", CollapsedPosteriorWarning)
            maps = self._cam.attribute(images[: self.max_images], target=dims, **self.options)
        try:
            reconstruction = reconstruct(adapter, (images,), posterior).float().cpu()
        except ValueError:
            reconstruction = None
        return LatentSnapshot(
            step=step,
            images=images.float().cpu(),
            reconstruction=reconstruction,
            maps=maps.detach().float().cpu(),
            dims=tuple(dims),
            mean=posterior.mean.detach().float().cpu(),
            kl=None if kl is None else kl.cpu(),
        )


@contextmanager
def untraced(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients; afterwards all is as it was.

    Args:
        model: The model in training. Afterwards the mode of each of its modules, its buffers, and
            the states of Python's, NumPy's and PyTorch's generators are what they were.
    """
    modes = [(module, module.training) for module in model.modules()]
    # Those of every GPU are in undisturbed's care.
    cpu = torch.device("cpu")
    before = random_state(cpu)
    try:
        with undisturbed(model):
            for module, _ in modes:
                # Not model.eval(), which some classes override.
                module.training = False
            yield
    finally:
        for module, training in modes:
            module.training = training
        set_random_state(before, cpu)


def write_snapshot(snapshot: LatentSnapshot, out: Path) -> None:
    """Write a snapshot's picture, and its numbers as a line of ``latents.csv``.

    Args:
        snapshot: What to write.
        out: The folder, made where it is missing. A line of the same or a later step is replaced,
            so that a run that went back to a checkpoint appears once.

    Raises:
        OSError: The disk is full or refuses.
    """
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / f"step_{snapshot.step:08d}.png") as file:
        picture = Image.fromarray(snapshot.picture().permute(1, 2, 0).numpy())
        # Little compression: the time is the training's.
        picture.save(file, format="png", compress_level=1)
    scalars = snapshot.scalars()
    header = ",".join(["step", *scalars])
    path = out / "latents.csv"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    kept = [line for line in lines[1:] if _step_of(line) < snapshot.step]
    if lines and lines[0] != header:
        raise ValueError(
            f"{path} holds the numbers of another model ({lines[0].count(',')} columns, now "
            f"{len(scalars)}); choose another out="
        )
    line = ",".join([str(snapshot.step), *(f"{value:.6g}" for value in scalars.values())])
    write_text(path, "\n".join([header, *kept, line]) + "\n")


def first_images(batch: Any, dim: int = 4) -> Tensor:
    """The first tensor of images in a batch: itself, or in a tuple, list or dict.

    Args:
        batch: What a loader yields.
        dim: How many axes the images have, 4 for a batch of (C, H, W).

    Raises:
        ValueError: There is none.
    """
    found = _images_in(batch, dim)
    if found is None:
        raise ValueError(
            f"the first batch is {type(batch).__name__} without a tensor of images of {dim} axes; "
            "give images=, the images to look at"
        )
    return found


def _images_in(batch: Any, dim: int) -> Tensor | None:
    if isinstance(batch, Tensor):
        return batch if batch.dim() == dim and batch.is_floating_point() else None
    items = batch.values() if isinstance(batch, Mapping) else batch
    if not isinstance(items, Iterable) or isinstance(items, (str, bytes)):
        return None
    return next((found for item in items if (found := _images_in(item, dim)) is not None), None)


def _step_of(line: str) -> int:
    return int(line.split(",", 1)[0])


def _checked_images(images: Tensor) -> Tensor:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"images is {kind}; wanted a tensor (N, C, H, W) of floats")
    if images.dim() != 4 or not len(images):
        raise ValueError(f"images has shape {tuple(images.shape)}; wanted (N, C, H, W), N >= 1")
    return images.detach().clone()


def _device(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
