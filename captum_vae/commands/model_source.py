"""Where a command takes its VAE from: a checkpoint of this package, or a function of the user's."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_vae.commands.model_option import ModelSource
from captum_vae.plugins import import_object

if TYPE_CHECKING:
    from torch import nn


def source_model(source: ModelSource, argument: str = "model.factory") -> nn.Module:
    """The VAE that a source names.

    Args:
        source: A checkpoint or a factory.
        argument: The option that the factory was given as, for messages.

    Raises:
        ValueError: The source names neither or both of checkpoint and factory, or the factory does
            not import, does not take the options, fails or returns no module.
        FileNotFoundError: There is no such checkpoint.
    """
    from torch import nn

    if (source.checkpoint is None) == (source.factory is None):
        raise ValueError("model wants either a checkpoint or a factory, package.module:function")
    if source.checkpoint is not None:
        if is_detector(source.checkpoint):
            from captum_vae.localization.detector.detector import AnomalyDetector

            model: nn.Module = AnomalyDetector.load(source.checkpoint).model
            return model
        from captum_vae.training.load import load_vae

        return load_vae(source.checkpoint)
    assert source.factory is not None
    factory = import_object(source.factory, argument)
    if not callable(factory):
        raise ValueError(
            f"{argument} is {source.factory!r}, a {type(factory).__name__}; wanted a function that "
            "returns your model"
        )
    try:
        inspect.signature(factory).bind(**source.options)
    except ValueError:  # a function of another language, which tells no signature
        pass
    except TypeError as error:
        raise ValueError(
            f"the options {source.options} do not fit {argument} {source.factory}: {error}"
        ) from error
    # The user's own code can raise anything at all.
    try:
        model = factory(**source.options)
    except Exception as error:
        raise ValueError(
            f"{argument} {source.factory} raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{argument} {source.factory} returned {type(model).__name__}; wanted a "
            "torch.nn.Module with its weights loaded"
        )
    return model


def is_detector(path: str) -> bool:
    """Whether a path is the folder of a detector that captum-vae detect wrote."""
    return (Path(path) / "detector.json").is_file()


def detector_layer(path: str) -> str | None:
    """The first layer that a saved detector's scorers read; None where they read none."""
    from captum_vae.localization.detector.saving import read_record

    for scorer in read_record(path)["scorers"]:
        layers = scorer["options"].get("layers")
        if layers:
            return str(layers if isinstance(layers, str) else layers[0])
    return None


def range_of(source: ModelSource, value_range: Sequence[float]) -> Sequence[float]:
    """The range of a model's images: what a user says, or else what its detector knows.

    Args:
        source: Where the model comes from.
        value_range: The option, (0, 1) where the user does not give it.
    """
    if source.checkpoint is None or not is_detector(source.checkpoint):
        return value_range
    from captum_vae.localization.detector.saving import read_record

    known: Sequence[float] = read_record(source.checkpoint)["images"].get("value_range", (0, 1))
    return known if tuple(value_range) == (0, 1) else value_range


def source_of(words: str, options: dict[str, Any]) -> ModelSource:
    """The source that a user names in one word: a run's folder, a checkpoint, or a factory.

    Raises:
        ValueError: The words are neither a path that exists nor ``package.module:function``, name a
            Python file, or name a checkpoint, which takes no options.
    """
    wanted = (
        "wanted a run's folder, a checkpoint, or package.module:function that returns your model"
    )
    if not words.strip():
        raise ValueError(f"model is empty; {wanted}")
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
    raise ValueError(f"model is {words!r}, which is no file or folder; {wanted}")
