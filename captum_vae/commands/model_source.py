"""Where a command takes its VAE from: a checkpoint of this package, or a factory of the user's."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from captum_vae.plugins import import_object
from captum_vae.training.load import load_vae


@dataclass
class ModelSource:
    """Where the VAE comes from.

    Attributes:
        checkpoint: a run's folder or checkpoint of captum-vae fit.
        factory: ``package.module:function`` of your own, called with ``options``; it returns the
            model with its weights.
        options: arguments of the factory.
        posterior: how to read the model's posterior, in the words of PosteriorAdapter; left out,
            it is detected.
    """

    checkpoint: str | None = None
    factory: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    posterior: str | None = None


def source_model(source: ModelSource) -> nn.Module:
    """The VAE that a source names.

    Raises:
        ValueError: neither or both of checkpoint and factory, or a factory that does not import,
            does not take the options or returns no module.
        FileNotFoundError: no such checkpoint.
    """
    if (source.checkpoint is None) == (source.factory is None):
        raise ValueError("model wants either a checkpoint or a factory, package.module:function")
    if source.checkpoint is not None:
        return load_vae(source.checkpoint)
    assert source.factory is not None
    factory = import_object(source.factory, "model.factory")
    try:
        inspect.signature(factory).bind(**source.options)
    except TypeError as error:
        raise ValueError(
            f"model.options {source.options} do not fit {source.factory}: {error}"
        ) from error
    model = factory(**source.options)
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model.factory {source.factory} returned {type(model).__name__}; wanted a "
            "torch.nn.Module with its weights loaded"
        )
    return model


def source_of(words: str, options: dict[str, Any]) -> ModelSource:
    """The source that a user names in one word: a run's folder, a checkpoint, or a factory.

    Raises:
        ValueError: neither a path that exists nor ``package.module:function``, a Python file, or
            options for a checkpoint, which takes none.
    """
    if Path(words).suffix == ".py":
        raise ValueError(
            f"model is {words!r}, a Python file; of its function that returns your model, say "
            f"{Path(words).stem}:NAME"
        )
    if Path(words).exists():
        if options:
            raise ValueError(f"model_options are for a function, and {words} is a checkpoint")
        return ModelSource(checkpoint=words)
    if ":" in words:
        return ModelSource(factory=words, options=options)
    raise ValueError(
        f"model is {words!r}, which is no file or folder; wanted a run's folder, a checkpoint, or "
        "package.module:function that returns your model"
    )
