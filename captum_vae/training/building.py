"""A run described by configurations: built from their names and options, and trained."""

import inspect
import os
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.attr.engine.layers import find_layers
from captum_vae.data import Augmented
from captum_vae.losses import ELBO
from captum_vae.models import FactorDiscriminator, GaussianVAE, build_model
from captum_vae.plugins import Registry, import_object
from captum_vae.training.attention_term import AttentionTerm
from captum_vae.training.batches import SeededImages, image_of
from captum_vae.training.configuration import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    Resume,
    TrainerConfig,
)
from captum_vae.training.initialization import standardize_encoder
from captum_vae.training.objectives import FactorVAEObjective, VAEObjective
from captum_vae.training.random_state import seed_everything
from captum_vae.training.trainer import Trainer, TrainingResult


def train(
    model: ModelConfig,
    data: DataConfig,
    objective: ObjectiveConfig,
    trainer: TrainerConfig,
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
    loss = build_objective(objective, vae)
    result = Trainer.of(trainer).fit(vae, dataset, loss, out=out, resume=resume)
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
