"""Runs of models that are fitted in closed form: one fit, one checkpoint, no step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.data.loading import naming_dead_loaders
from captum_vae.files import holding
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.batches import SeededImages, load_batches
from captum_vae.training.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from captum_vae.training.configuration import Resume, TrainerConfig
from captum_vae.training.data_digest import data_digest
from captum_vae.training.devices import start_fabric
from captum_vae.training.load import describe_model
from captum_vae.training.logs import say
from captum_vae.training.trainer import TrainingResult
from captum_vae.version import __version__


@runtime_checkable
class FittedInClosedForm(Protocol):
    """A model that takes all images at once, as LinearFeatureVAE does."""

    def fit_closed_form(self, images: Any) -> Any:
        """Fit the model in place to batches of images that can be gone through several times."""


def fit_model(
    model: FittedInClosedForm,
    dataset: Dataset[Any],
    trainer: TrainerConfig,
    *,
    out: str | Path,
    resume: Resume,
) -> TrainingResult:
    """Fit a model to a data set and write its checkpoint; a run that is done is read again.

    Args:
        model: What is fitted, in place.
        dataset: Images.
        trainer: Its batch_size, workers, accelerator, seed and progress count.
        out: The run's folder.
        resume: ``"auto"`` takes the model that ``out`` holds, if images and settings are the same;
            ``"never"`` refuses it.

    Raises:
        ValueError: Several processes were started, ``out`` holds another run, or the images do not
            suffice.
        TypeError: The data set yields no images.
    """
    fabric = start_fabric(trainer.accelerator, trainer.precision)
    if fabric.world_size > 1:
        raise ValueError(
            f"{type(model).__name__} is fitted in closed form, by one process; {fabric.world_size} "
            "were started: run the command without torchrun"
        )
    vae: Any = model
    vae.to(fabric.device)
    settings = {
        "seed": trainer.seed,
        "images": len(dataset),  # type: ignore[arg-type]
        "data": data_digest(dataset),
        "model": describe_model(vae)["config"],
    }
    folder = Path(out) / "checkpoints"
    with naming_dead_loaders(), holding(out):
        found = list_checkpoints(folder)
        if found:
            _take_over(vae, found[-1], settings, resume)
        else:
            vae.fit_closed_form(_Images(dataset, trainer, fabric.device))
            found = [checkpoint_path(folder, 0)]
            write_checkpoint(
                found[0],
                {
                    "version": __version__,
                    "step": 0,
                    "model": {**describe_model(vae), "weights": vae.state_dict()},
                    "settings": settings,
                },
            )
        vae.eval()
        active = measure_active_dimensions(
            vae,
            dataset,
            device=fabric.device,
            batch_size=trainer.batch_size,
            workers=trainer.workers,
        )
    return TrainingResult(
        step=0,
        losses={},
        checkpoint=found[-1],
        active=active,
        is_first_process=True,
        device=fabric.device,
        processes=1,
    )


def _take_over(model: Any, path: Path, settings: dict[str, Any], resume: Resume) -> None:
    """Load the model of a run that is done, if it is the same run."""
    if resume == "never":
        raise ValueError(
            f"{path.parent.parent} already holds a run ({path.name}); choose another folder, or "
            "resume='auto' to take it as it is"
        )
    state = read_checkpoint(path)
    stored = state.get("settings")
    if state["model"]["name"] != type(model).__name__ or not isinstance(stored, dict):
        raise ValueError(
            f"{path} holds a {state['model']['name']}, not a {type(model).__name__}; choose "
            "another output folder"
        )
    changed = [name for name, value in settings.items() if stored.get(name) != value]
    if changed:
        raise ValueError(
            f"{path.parent.parent} holds a model that was fitted with other settings "
            f"({', '.join(changed)}); set them back, or choose another output folder"
        )
    model.load_state_dict(state["model"]["weights"])
    say(f"{path} is fitted already and taken as it is")


class _Images:
    """Batches of a data set's images in its order, the same whenever they are gone through."""

    def __init__(self, dataset: Dataset[Any], trainer: TrainerConfig, device: torch.device) -> None:
        """Name the images; nothing is read yet."""
        self._images = SeededImages(dataset, seed=trainer.seed)
        self._workers = trainer.workers
        self._device = device
        count: int = len(dataset)  # type: ignore[arg-type]
        size = trainer.batch_size
        self._order = [
            [(number, place) for place in range(start, min(start + size, count))]
            for number, start in enumerate(range(0, count, size))
        ]

    def __len__(self) -> int:
        """Count the batches."""
        return len(self._order)

    def __iter__(self) -> Iterator[Tensor]:
        """Read them once more."""
        return load_batches(self._images, self._order, workers=self._workers, device=self._device)
