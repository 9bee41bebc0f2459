"""A run described by configurations: built from their names and options, and trained."""

import inspect
import os
import warnings
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_vae.attr.engine.layers import find_layers
from captum_vae.data import Augmented
from captum_vae.data.held_out import ImagesKept, write_held_out
from captum_vae.losses import ELBO
from captum_vae.models import FactorDiscriminator, GaussianVAE, build_model
from captum_vae.models.feature_space import FeatureSpaceVAE
from captum_vae.plugins import Registry, import_object
from captum_vae.training.attention_term import AttentionTerm
from captum_vae.training.batches import SeededImages
from captum_vae.training.closed_form import FittedInClosedForm, fit_model
from captum_vae.training.configuration import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    Resume,
    TrainerConfig,
)
from captum_vae.training.contract import first_image
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

    A model that is fitted in closed form, such as ``linear_features``, is fitted instead: the
    objective and the trainer's steps then do not matter.

    Args:
        model: Which VAE to train.
        data: What to train on.
        objective: What to minimise.
        trainer: Steps, batches, devices, checkpoints and logs; its seed also draws the weights.
        out: The run's folder.
        resume: ``"auto"`` continues the run that ``out`` holds, ``"never"`` refuses it.

    Returns:
        The VAE in eval mode on the training device, the data set and what the trainer tells.

    Raises:
        ValueError: A name is unknown, an option is out of range, or ``out`` holds another run.
        TypeError: The data set yields something else than images.
        FileNotFoundError: The data are not there.
    """
    dataset = build_dataset(data)
    shape = first_image(dataset).shape[1:]
    if objective.warmup_steps > trainer.steps:
        warnings.warn(
            f"objective.warmup_steps {objective.warmup_steps} is longer than the {trainer.steps} "
            "steps of training: the KL never gets its full weight",
            stacklevel=2,
        )
    seed_everything(trainer.seed)
    vae = build_vae(model, shape)
    if isinstance(vae, FittedInClosedForm):
        result = fit_model(vae, dataset, trainer, out=out, resume=resume)
        _list_held_out(dataset, result, out)
        return vae, dataset, result
    if isinstance(vae, FeatureSpaceVAE):
        vae.features.standardize(torch.split(sample_images(dataset), 16))
    if model.initialization == "data":
        standardize_encoder(vae, sample_images(dataset))
    loss = build_objective(objective, vae)
    result = Trainer.of(trainer).fit(vae, dataset, loss, out=out, resume=resume)
    _list_held_out(dataset, result, out)
    return vae, dataset, result


def _list_held_out(dataset: Dataset[Any], result: TrainingResult, out: str | Path) -> None:
    """Write which images the run left out, if it left any."""
    while isinstance(dataset, Augmented):
        dataset = dataset.dataset
    if isinstance(dataset, ImagesKept) and result.is_first_process:
        write_held_out(out, dataset.held_out)


def build_vae(config: ModelConfig, image_shape: Sequence[int]) -> GaussianVAE:
    """The model that a configuration names, for images of shape (C, h, w) by default.

    Args:
        config: Name and options of the model.
        image_shape: Shape of the images to train on; the default of image_size and in_channels.

    Raises:
        ValueError: The name or an option is unknown, an option is out of range, or the model is of
            another contract than :class:`captum_vae.models.GaussianVAE`.
    """
    if len(image_shape) != 3:
        raise ValueError(f"images must have the shape (C, H, W), got {tuple(image_shape)}")
    channels, height, width = image_shape
    options = {"image_size": [height, width], "in_channels": channels, **config.options}
    if ":" in config.name:
        return _own_vae(config.name, import_object(config.name, "model.name"), options)
    try:
        return _checked_vae(config.name, build_model(config.name, **options))
    except TypeError as error:
        raise ValueError(f"model.options does not fit {config.name}: {error}") from error


def _own_vae(name: str, constructor: Any, options: dict[str, Any]) -> GaussianVAE:
    """A model of the user's own class or function, called with the options that it takes."""
    if not callable(constructor):
        raise ValueError(
            f"model.name={name!r} is a {type(constructor).__name__}; wanted a class, or a function "
            "that returns a model"
        )
    try:
        vae = constructor(**options)
    # The class is the user's: it can raise anything at all.
    except Exception as error:
        raise ValueError(
            f"model.name={name!r} cannot be built with {options}: {type(error).__name__}: "
            f"{' '.join(str(error).split())}; it is called with image_size, in_channels and "
            "model.options"
        ) from error
    return _checked_vae(name, vae)


def _checked_vae(name: str, vae: Any) -> GaussianVAE:
    missing = [attribute for attribute in _CONTRACT if not hasattr(vae, attribute)]
    if not isinstance(vae, nn.Module):
        missing.insert(0, "torch.nn.Module as its base")
    if missing:
        wanted = "; ".join(f"{attribute}: {what}" for attribute, what in _CONTRACT.items())
        raise ValueError(
            f"model.name={name!r} gave {type(vae).__name__}, which lacks {', '.join(missing)}; "
            "wanted a captum_vae.models.GaussianVAE, or a torch.nn.Module that offers the same: "
            f"called with images it gives (reconstruction, mean, log-variance); {wanted}"
        )
    return cast(GaussianVAE, vae)


_CONTRACT = {
    "encode": "gives mean and log-variance of images (B, C, H, W)",
    "decode": "gives images of latents",
    "config": "a dict of the arguments that rebuild it",
    "latent_shape": "(D,), or (D, h, w)",
    "output": "what decode gives, sigmoid, logits or linear",
}
"""What training, checkpoints and attribution need of a model, and what each part is."""


def build_dataset(config: DataConfig, argument: str = "data") -> Dataset[Any]:
    """The data set that a configuration names, augmented if it says so.

    Args:
        config: Name and options of the data set.
        argument: What the configuration was given as, for messages.

    Raises:
        ValueError: The name or an option is unknown, or ``root`` names an environment variable
            that is not set.
        FileNotFoundError: The folder is not there.
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
    if config.held_out:
        dataset = ImagesKept(dataset, config.held_out, f"{argument}.held_out")
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
    return SeededImages(dataset, seed=0).batch([(0, i * length // count) for i in range(count)])


def _call(
    constructor: Callable[..., Dataset[Any]], options: dict[str, Any], argument: str
) -> Dataset[Any]:
    """Call ``constructor``, blaming options it does not take on ``argument``."""
    name = getattr(constructor, "__name__", str(constructor))
    try:
        signature = inspect.signature(constructor)
    except TypeError as error:
        raise ValueError(
            f"{argument}: {name} is a {type(constructor).__name__}; wanted a class or a function"
        ) from error
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(
            f"{argument} does not fit {name}: {error}; it takes {', '.join(signature.parameters)}"
        ) from error
    try:
        return constructor(**options)
    except (ValueError, OSError, TypeError, ImportError):
        raise
    # The class may be the user's: it can raise anything at all.
    except Exception as error:
        raise ValueError(
            f"{argument} {options}: {name} fails with {type(error).__name__}: {error}"
        ) from error


def _expanded(root: str, argument: str) -> str:
    path = os.path.expanduser(os.path.expandvars(root))
    if "$" in path:
        raise ValueError(
            f"{argument}.root is {root!r}, which names an environment variable that is not set; "
            f"set it, or pass --{argument}.root FOLDER"
        )
    return path
