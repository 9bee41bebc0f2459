"""What an experiment works with: trained models from a cache, and finished cells kept."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from captum_vae.checks import real_number
from captum_vae.experiments.cost import Planned, StepCost, announcement, step_cost
from captum_vae.experiments.verdicts import ENOUGH
from captum_vae.files import reading, write_json
from captum_vae.models import GaussianVAE
from captum_vae.progress import stage
from captum_vae.provenance import Code
from captum_vae.training.batches import image_of
from captum_vae.training.building import (
    build_dataset,
    build_objective,
    build_vae,
    sample_images,
    train,
)
from captum_vae.training.checkpoint import read_checkpoint, write_checkpoint
from captum_vae.training.configuration import Accelerator, DataConfig, ModelConfig, ObjectiveConfig
from captum_vae.training.devices import chosen_device
from captum_vae.training.load import load_vae
from captum_vae.training.logs import say
from captum_vae.training.random_state import isolated_randomness
from captum_vae.training.trainer import Trainer

_NOT_RESULT = frozenset(
    ("accelerator", "compile", "workers", "save_every", "keep", "log_every", "logger", "progress")
)
"""Options of the trainer that leave its result as it is, or nearly so."""


class Training(NamedTuple):
    """A training as :meth:`Work.trained` takes it.

    Attributes:
        name: What the training is called in the results.
        model: Which VAE to train, as ``captum-vae fit`` describes it.
        data: What to train on.
        objective: What to minimise.
        trainer: Steps, batches and precision.
    """

    name: str
    model: ModelConfig
    data: DataConfig
    objective: ObjectiveConfig
    trainer: Trainer


@dataclass
class Work:
    """Where an experiment runs, and what it has done before.

    A command that is repeated continues: a killed training from its checkpoint, a finished one and
    every stored cell without being repeated.

    Attributes:
        out: The folder of the results.
        models: The folder of trained models, which several experiments may share.
        accelerator: Where to run: auto, cpu or cuda.
        seed: The seed of everything.
        trainings: What each training came to, in the order in which they were asked for.
        code: Version and commit when the work began, and what has changed since that commit.
    """

    out: Path
    models: Path
    accelerator: Accelerator = "auto"
    seed: int = 0
    trainings: list[dict[str, Any]] = field(default_factory=list)
    code: Code = field(default_factory=Code.now)

    @property
    def device(self) -> torch.device:
        """Where models and images go."""
        return chosen_device(self.accelerator)

    def doubts(self, *, rendered: str = "", share: float = 1.0) -> list[str]:
        """Why verdicts would mean nothing: other data, too short a training, or nothing learned.

        A VAE has learned nothing if it left no dimension active, so that its maps are noise, or if
        the mean of its training images reconstructs them as well as it does. After a training of
        less than :data:`ENOUGH` of the published one that is no finding, and not said.

        Args:
            rendered: What was measured on in place of the published data; empty if on those.
            share: Images seen in training, as a share of those seen as published.
        """
        doubts = [f"measured on {rendered}"] if rendered else []
        if share < ENOUGH:
            return [
                *doubts,
                f"trained on {share:.2g} times as many images as published, below {ENOUGH:g}",
            ]
        collapsed = [t["name"] for t in self.trainings if not t["active_dimensions"]["active"]]
        if collapsed:
            doubts.append(f"no dimension is active in the VAE of {', '.join(collapsed)}")
        unlearned = [t["name"] for t in self.trainings if not t["explained_variance"] > 0]
        if unlearned:
            doubts.append(
                "the mean of the training images is nearer to them than the reconstruction by the "
                f"VAE of {', '.join(unlearned)}"
            )
        return doubts

    def announce(self, trainings: Sequence[Training]) -> None:
        """Say what the trainings that are not done yet will take, by a few steps of each kind."""
        with isolated_randomness(self.seed):
            say(self._announcement(trainings))

    def _announcement(self, trainings: Sequence[Training]) -> str:
        planned: list[Planned] = []
        costs: dict[str, StepCost] = {}
        done = 0
        for training in trainings:
            _, model, data, objective, trainer = training
            dataset = build_dataset(data)
            shape = image_of(dataset[0]).shape
            if self._is_done(self._folder(training, dataset)):
                done += 1
                continue
            kind = digest(
                [asdict(model), asdict(objective), list(shape), data.augment, trainer.batch_size]
            )
            if kind not in costs:
                vae = build_vae(model, shape)
                costs[kind] = step_cost(
                    vae,
                    dataset,
                    build_objective(objective, vae),
                    images=len(cast(Sized, dataset)),
                    batch_size=trainer.batch_size,
                    device=self.device,
                    precision=trainer.precision,
                )
            planned.append(Planned(1, trainer.steps, costs[kind]))
        return announcement(planned, done, self.device)

    def _folder(self, training: Training, dataset: Any) -> Path:
        return self.models / f"{training.model.name}-{digest(self._settled(training, dataset))}"

    def _settled(self, training: Training, dataset: Any) -> dict[str, Any]:
        """What the outcome of a training depends on."""
        _, model, data, objective, trainer = training
        kept = {
            **{k: v for k, v in asdict(trainer).items() if k not in _NOT_RESULT},
            "seed": self.seed,
        }
        return {
            "model": asdict(model),
            "data": {k: v for k, v in asdict(data).items() if k != "root"},
            "images": len(cast(Sized, dataset)),
            "shape": list(image_of(dataset[0]).shape),
            "objective": asdict(objective),
            "trainer": kept,
        }

    @staticmethod
    def _is_done(folder: Path) -> bool:
        return (folder / "training.json").is_file() and (folder / "weights.pt").is_file()

    def trained(self, training: Training) -> GaussianVAE:
        """The model that a training describes: from the cache, or trained now.

        Trainings with the same outcome share a model: where the data lie, and how often is logged
        or saved, does not count. The trainer's seed and accelerator are this object's.

        Returns:
            The VAE in eval mode on :attr:`device`.

        Raises:
            ValueError: A name is not known, or an option is out of range.
            FileNotFoundError: The data are not there.
            DamagedFileError: What is stored of the training cannot be read.
        """
        name, model, data, objective, trainer = training
        trainer = replace(trainer, seed=self.seed, accelerator=self.accelerator, keep=1)
        dataset = build_dataset(data)
        folder = self._folder(training, dataset)
        weights, record = folder / "weights.pt", folder / "training.json"
        if not self._is_done(folder):
            stage(f"training: {name}, {trainer.steps} steps")
            started = time.perf_counter()
            _, _, result = train(model, data, objective, trainer, out=folder)
            # Optimizer states are two thirds of a checkpoint, and no longer needed.
            stored = read_checkpoint(result.checkpoint)["model"]
            write_checkpoint(weights, {"model": stored, "step": result.step})
            outcome = {
                "steps": result.step,
                "final_losses": {k: round(v, 4) for k, v in result.losses.items()},
                "active_dimensions": result.active.to_dict(),
                "device": str(result.device),
                "version": self.code.version,
                "commit": self.code.commit,
                "seconds": round(time.perf_counter() - started, 1),
                "configuration": self._settled(training, dataset),
            }
            explained = explained_variance(self._loaded(weights), sample_images(dataset))
            write_record(record, {**outcome, "explained_variance": explained})
            shutil.rmtree(folder / "checkpoints")
        vae = self._loaded(weights)
        outcome = read_record(record, "the record of a training")
        self.trainings.append({"name": name, "model": folder.name, **outcome})
        active = outcome["active_dimensions"]
        stage(f"{name}: {active['active']} of {active['dimensions']} dimensions active")
        return vae

    def _loaded(self, weights: Path) -> GaussianVAE:
        return cast(GaussianVAE, load_vae(weights, device=self.device))

    def stored(self, name: str, key: Any, compute: Callable[[], Any]) -> Any:
        """``compute()``, or what it gave when it was last called under the same name and key.

        Other code makes other numbers, so a cell counts for one state of the code alone.

        Args:
            name: The cell's name, which is part of its file's.
            key: JSON data on which the cell depends, apart from the seed;
                ``trainings[-1]["model"]`` stands for the model that was trained last.
            compute: Gives JSON data.

        Raises:
            DamagedFileError: What was stored cannot be read.
        """
        depends = [key, self.seed, asdict(self.code)]
        path = self.out / "cells" / f"{name}-{digest(depends)}.json"
        if not path.is_file():
            write_record(path, compute())
        return read_record(path, "a finished cell of this experiment")


def check_epochs(epochs: float, steps: int) -> None:
    """Refuse a length in epochs that is no number, negative, or 0 where it is the length.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    if steps:
        real_number("epochs", epochs, least=0)
    else:
        real_number("epochs", epochs, above=0)


def steps_of(steps: int, epochs: float, batch_size: int, images: int) -> int:
    """Optimizer steps of a training: ``steps``, or if 0 those of so many epochs of the images.

    At least one, however short the epochs.
    """
    return steps or max(1, round(epochs * images / batch_size))


def explained_variance(vae: Any, images: Tensor) -> float:
    """Share of the images' squared distance to their mean image that the reconstruction explains.

    1 for a perfect reconstruction, 0 for one that is no better than the mean image, negative for a
    worse one; NaN for images that are all alike.

    Args:
        vae: The model in eval mode.
        images: (B, C, H, W), with values in [0, 1].
    """
    error = 0.0
    device = next(vae.parameters()).device
    for start in range(0, len(images), 16):
        part = images[start : start + 16]
        with torch.no_grad():
            difference = vae.reconstruct(part.to(device)).cpu() - part
        error += float(difference.double().square().sum())
    spread = float((images - images.mean(0)).double().square().sum())
    return 1 - error / spread if spread > 0 else math.nan


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that tell JSON data apart."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_record(path: Path, content: Any) -> None:
    """Write JSON data with a checksum, by which :func:`read_record` notices damage."""
    write_json(path, {"checksum": digest(content), "content": content})


def read_record(path: Path, wanted: str) -> Any:
    """What :func:`write_record` wrote.

    Args:
        path: The file.
        wanted: What it holds, in words.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It does not hold what was written.
    """
    with reading(path, wanted, remedy="delete it, and it is made anew"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.keys() != {"checksum", "content"}:
            raise ValueError("it holds no checksum")
        if record["checksum"] != digest(record["content"]):
            raise ValueError("it does not fit its checksum")
    return record["content"]
