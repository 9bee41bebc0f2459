"""``captum-vae fit``: a run described by names and options, trained and summed up."""

import inspect
import json
import os
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.attr.engine.layer_pass import find_layers
from captum_vae.commands.model_source import import_object
from captum_vae.data import Augmented
from captum_vae.losses.elbo import ELBO, Likelihood
from captum_vae.models import FactorDiscriminator, GaussianVAE, build_model
from captum_vae.plugins import Registry
from captum_vae.training.attention_term import AttentionConfig, AttentionTerm
from captum_vae.training.batches import SeededImages, image_of
from captum_vae.training.initialization import standardize_encoder
from captum_vae.training.logs import say
from captum_vae.training.objectives import FactorVAEObjective, VAEObjective
from captum_vae.training.random_state import seed_everything
from captum_vae.training.summary import summarize
from captum_vae.training.trainer import Resume, Trainer, TrainingResult


@dataclass
class ModelConfig:
    """Which VAE to train.

    Attributes:
        name: a registered model, such as conv, mnist, ucsd, resnet18 (captum-vae plugins lists
            them), or package.module:Class.
        options: its arguments; image_size and in_channels default to those of the data.
        initialization: pytorch, or data to scale the encoder's layers on images of the data,
            which keeps look-alike images from collapsing the posterior.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    initialization: Literal["pytorch", "data"] = "pytorch"


@dataclass
class DataConfig:
    """What to train on.

    Attributes:
        name: a registered data set, such as digits, folder, mnist, mvtec (captum-vae plugins
            lists them), or package.module:Class.
        root: the folder it lies in, for folder the normal images; environment variables are
            expanded.
        options: further arguments of the data set.
        augment: arguments of captum_vae.data's Augmented; leave out for none.
    """

    name: str
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] | None = None


@dataclass
class ObjectiveConfig:
    """What to minimise.

    Attributes:
        name: vae, or factor_vae for a total-correlation penalty.
        likelihood: bernoulli, gaussian or optimal_gaussian.
        beta: final weight of the KL.
        warmup_steps: steps over which the KL's weight climbs from 0.
        free_bits: nats per dimension below which the KL is not rewarded.
        variance: of a pixel, for gaussian.
        learning_rate: of Adam.
        gamma: weight of the total correlation, for factor_vae.
        discriminator_learning_rate: of its Adam, for factor_vae.
        attention: attention disentanglement on top of either; leave out for none.
    """

    name: Literal["vae", "factor_vae"] = "vae"
    likelihood: Likelihood = "optimal_gaussian"
    beta: float = 1.0
    warmup_steps: int = 0
    free_bits: float = 0.0
    variance: float = 1.0
    learning_rate: float = 1e-3
    gamma: float = 10.0
    discriminator_learning_rate: float = 1e-4
    attention: AttentionConfig | None = None


def fit(
    model: ModelConfig,
    data: DataConfig,
    objective: ObjectiveConfig,
    trainer: Trainer,
    *,
    out: str,
    resume: Resume = "auto",
    report_json: str | None = None,
) -> None:
    """Train a VAE and report which latent dimensions it uses.

    Run the same command again to continue a run that was stopped or killed. Under torchrun it
    trains on every process.

    Args:
        model: which VAE to train.
        data: what to train on.
        objective: what to minimise.
        trainer: steps, batches, devices, checkpoints, logs.
        out: folder of the run: checkpoints, log.jsonl, report.json.
        resume: auto continues the run that out holds, never refuses it.
        report_json: also write the report to this file.

    Raises:
        ValueError: an unknown name or an option out of range.
        FileNotFoundError: the data are not there.
    """
    started = time.perf_counter()
    _, dataset, result = train(model, data, objective, trainer, out=out, resume=resume)
    if not result.is_first_process:
        return
    shape = image_of(dataset[0]).shape
    protocol = {
        "model": asdict(model),
        "data": {**asdict(data), "images": len(cast(Sized, dataset)), "shape": list(shape)},
        "objective": asdict(objective),
        "trainer": asdict(trainer),
    }
    report = summarize(result, protocol, seconds=time.perf_counter() - started)
    paths = [Path(out) / "report.json", *([Path(report_json)] if report_json else [])]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    say(result.active.table())
    result.active.warn_if_collapsed()
    say(
        f"done after {result.step} steps: weights in {result.checkpoint} (load them with "
        f"captum_vae.training.load_vae({out!r})), report in {paths[0]}, losses in "
        f"{Path(out) / 'log.jsonl'}"
    )


def train(
    model: ModelConfig,
    data: DataConfig,
    objective: ObjectiveConfig,
    trainer: Trainer,
    *,
    out: str | Path,
    resume: Resume = "auto",
) -> tuple[GaussianVAE, Dataset[Any], TrainingResult]:
    """Build what the configurations name and train it, or continue the run in ``out``.

    Returns:
        The VAE in eval mode on the training device, the data set and what the trainer tells.

    Raises:
        ValueError: an unknown name or an option out of range.
        FileNotFoundError: the data are not there.
    """
    dataset = build_dataset(data)
    shape = image_of(dataset[0]).shape
    seed_everything(trainer.seed)
    vae = build_vae(model, shape)
    if model.initialization == "data":
        standardize_encoder(vae, sample_images(dataset))
    result = trainer.fit(vae, dataset, build_objective(objective, vae), out=out, resume=resume)
    return vae, dataset, result


def build_vae(config: ModelConfig, image_shape: Sequence[int]) -> GaussianVAE:
    """The model that a configuration names, for images of shape (C, h, w) by default.

    Raises:
        ValueError: an unknown name or option, one out of range, or a model of another contract
            than :class:`captum_vae.models.GaussianVAE`.
    """
    channels, height, width = image_shape
    options = {"image_size": [height, width], "in_channels": channels, **config.options}
    try:
        if ":" in config.name:
            vae = import_object(config.name, "model.name")(**options)
        else:
            vae = build_model(config.name, **options)
    except TypeError as error:
        raise ValueError(f"model.options does not fit {config.name}: {error}") from error
    wanted = ("encode", "decode", "config", "latent_shape", "output", "parameters")
    missing = [name for name in wanted if not hasattr(vae, name)]
    if missing:
        raise ValueError(
            f"model.name={config.name!r} gave {type(vae).__name__}, which has no "
            f"{', '.join(missing)}; wanted a captum_vae.models.GaussianVAE, or a module that "
            "offers the same"
        )
    return cast(GaussianVAE, vae)


def build_dataset(config: DataConfig, argument: str = "data") -> Dataset[Any]:
    """The data set that a configuration names, augmented if it says so.

    Args:
        config: of the data set.
        argument: what it was given as, for messages.

    Raises:
        ValueError: an unknown name or option, or an unset environment variable in ``root``.
        FileNotFoundError: the folder is not there.
    """
    if ":" in config.name:
        constructor = import_object(config.name, f"{argument}.name")
    else:
        constructor = Registry("datasets").load(config.name)
    options = dict(config.options)
    if config.root is not None:
        # The one reader without a root takes the folder of normal images in its place.
        options["normal" if config.name == "folder" else "root"] = _expanded(config.root, argument)
    dataset = _call(constructor, options, f"{argument}.options")
    if config.augment is not None:
        dataset = _call(Augmented, {"dataset": dataset, **config.augment}, f"{argument}.augment")
    return dataset


def build_objective(config: ObjectiveConfig, model: GaussianVAE) -> VAEObjective:
    """The objective that a configuration describes, for ``model``'s latent and output scale."""
    elbo = ELBO(
        config.likelihood,
        beta=config.beta,
        warmup_steps=config.warmup_steps,
        free_bits=config.free_bits,
        variance=config.variance,
        scale="logits" if model.output == "logits" else "probabilities",
    )
    terms = {}
    if config.attention is not None:
        if len(model.latent_shape) != 1:
            raise ValueError("objective.attention needs a model with a vector latent")
        find_layers(model, config.attention.layer)
        terms["attention_overlap"] = AttentionTerm.of(config.attention)
    if config.name == "vae":
        return VAEObjective(elbo, learning_rate=config.learning_rate, extra_terms=terms)
    if len(model.latent_shape) != 1:
        raise ValueError("objective.name='factor_vae' needs a model with a vector latent")
    return FactorVAEObjective(
        elbo,
        gamma=config.gamma,
        discriminator=FactorDiscriminator(latent_dims=model.latent_shape[0]),
        learning_rate=config.learning_rate,
        discriminator_learning_rate=config.discriminator_learning_rate,
        extra_terms=terms,
    )


def sample_images(dataset: Dataset[Any], count: int = 128) -> Tensor:
    """(B, C, H, W): images evenly spaced over the data set, the same at every call."""
    length = len(cast(Sized, dataset))
    count = min(count, length)
    images = SeededImages(dataset, seed=0)
    return torch.stack(images.__getitems__([(0, i * length // count) for i in range(count)]))


def _call(
    constructor: Callable[..., Dataset[Any]], options: dict[str, Any], argument: str
) -> Dataset[Any]:
    """Call ``constructor``, blaming options it does not take on ``argument``."""
    signature = inspect.signature(constructor)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(
            f"{argument} does not fit {getattr(constructor, '__name__', constructor)}: {error}; it "
            f"takes {', '.join(signature.parameters)}"
        ) from error
    return constructor(**options)


def _expanded(root: str, argument: str) -> str:
    path = os.path.expanduser(os.path.expandvars(root))
    if "$" in path:
        raise ValueError(
            f"{argument}.root is {root!r}, which names an environment variable that is not set; "
            f"set it, or pass --{argument}.root FOLDER"
        )
    return path
