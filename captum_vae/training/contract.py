"""What the trainer takes, checked before the first step: model, data set, objective, folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_vae.training.batches import SeededImages
from captum_vae.training.random_state import isolated_randomness


def check_arguments(model: Any, dataset: Any, objective: Any, out: Any) -> None:
    """Check the kinds of the arguments of :meth:`captum_vae.training.Trainer.fit`.

    Raises:
        TypeError: One is of another kind; the message says what it must offer.
        ValueError: The data set is empty, the model has nothing to train, or ``out`` is a file.
    """
    if not isinstance(model, nn.Module) or not callable(getattr(model, "encode", None)):
        raise TypeError(
            f"model is a {type(model).__name__}; wanted a torch.nn.Module whose encode(images) "
            "gives mean and log-variance, and which gives (reconstruction, mean, log-variance) "
            "when it is called"
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"model ({type(model).__name__}) has no parameter to train")
    # A data set may be anything with a length and items, also a list or a tensor of images.
    offers_items = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if not offers_items or isinstance(dataset, (str, bytes, Mapping)):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; wanted a data set with a length and items by "
            "index (torch.utils.data.Dataset)"
        )
    if len(dataset) == 0:
        raise ValueError("the data set is empty")
    offered = ("optimizers", "config", "batches_per_step")
    missing = [name for name in offered if not hasattr(objective, name)]
    if not isinstance(objective, nn.Module) or missing:
        raise TypeError(
            f"objective is a {type(objective).__name__}; wanted a VAEObjective, or a module that "
            f"offers the same: forward(model, batch, step), {', '.join(offered)}"
        )
    if not isinstance(out, (str, Path)) or not str(out):
        raise TypeError(f"out={out!r} must be the path of the run's folder")
    if Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"out={str(out)!r} is a file; name a folder")


def first_image(dataset: Dataset[Any]) -> Tensor:
    """The first image of a data set as a batch of its own, (1, C, H, W).

    Raises:
        TypeError: The item holds no image of floating point.
        ValueError: The image is empty, or has pixels that are not finite.
    """
    return SeededImages(dataset, seed=0).batch([(0, 0)])


def check_encoder(model: nn.Module, image: Tensor) -> None:
    """Check that ``model.encode`` takes an image and gives a posterior; leaves the mode as it is.

    Args:
        model: The model on the device of training.
        image: A batch of one image, (1, C, H, W).

    Raises:
        TypeError: The image's type of number is not the weights'.
        ValueError: ``encode`` fails on it, or gives something else than mean and log-variance.
    """
    weight = next(model.parameters())
    if image.dtype != weight.dtype:
        raise TypeError(
            f"images are {image.dtype}, the model's weights {weight.dtype}; convert the images"
        )
    encode: Any = model.encode
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), isolated_randomness(0):
            outputs = encode(image.to(weight.device))
    except torch.OutOfMemoryError:
        raise
    # The model is the user's: its layers complain in their own words.
    except Exception as error:
        raise ValueError(
            f"model.encode fails on images of shape {tuple(image.shape)}: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    check_posterior("model.encode(images)", outputs, images=1)


def check_posterior(source: str, outputs: Any, *, images: int) -> None:
    """Check that a model's outputs start with mean and log-variance of as many images.

    Args:
        source: The call that gave them, for the message.
        outputs: What it gave.
        images: B.

    Raises:
        ValueError: They do not.
    """
    posterior = outputs[:2] if isinstance(outputs, (tuple, list)) else ()
    shapes = [tuple(part.shape) for part in posterior if isinstance(part, Tensor)]
    if len(shapes) < 2 or shapes[0] != shapes[1] or len(shapes[0]) < 2 or shapes[0][0] != images:
        raise ValueError(
            f"{source} gave {describe_outputs(outputs)}; wanted mean and log-variance of q(z|x), "
            f"each ({images}, D) or ({images}, D, h, w)"
        )


def describe_outputs(outputs: Any) -> str:
    """What a model gave, in a few words, for a message."""
    if isinstance(outputs, Tensor):
        return f"a tensor of shape {tuple(outputs.shape)}"
    if isinstance(outputs, (tuple, list)):
        parts = ", ".join(
            f"{tuple(part.shape)}" if isinstance(part, Tensor) else type(part).__name__
            for part in outputs
        )
        return f"a {type(outputs).__name__} of {len(outputs)} ({parts})"
    return f"a {type(outputs).__name__}"
