"""A trained VAE back from its checkpoint, if it is of the same architecture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_vae.models import build_model
from captum_vae.training.checkpoint import read_checkpoint


def load_vae(
    path: str | Path,
    model: nn.Module | None = None,
    *,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """The model that a checkpoint holds, in eval mode.

    Args:
        path: A checkpoint, or a run's folder, whose newest checkpoint is taken.
        model: A model to load the weights into; by default one is built from the name and
            configuration in the checkpoint, which takes a model of :mod:`captum_vae.models`.
        device: Where to put the model.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: It is damaged, of another architecture than ``model``, or of a model that this
            package cannot build; or there is no such device.
        TypeError: ``model`` is no module.

    Example::

        vae = load_vae("runs/bottle")
        LatentGradCAM(vae, vae.encoder.conv2).attribute(images)
    """
    place = _existing(device)
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module or None, got {type(model).__name__}")
    state = read_checkpoint(path)
    if model is None:
        name, config = state["model"]["name"], state["model"]["config"]
        try:
            model = build_model(name, **config)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds a {name} that cannot be built ({error}); "
                "pass the model: load_vae(path, model)"
            ) from error
    load_weights(state, model)
    return model.to(place).eval()


def describe_model(model: nn.Module) -> dict[str, Any]:
    """The name and configuration by which a checkpoint knows a model's architecture."""
    return {"name": type(model).__name__, "config": dict(getattr(model, "config", {}))}


def check_architecture(state: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse a checkpoint of another architecture than ``model``'s.

    Raises:
        ValueError: The class or its configuration differs; the message says in what.
    """
    stored, wanted = state["model"], describe_model(model)
    if stored["name"] != wanted["name"]:
        raise ValueError(
            f"the checkpoint holds a {stored['name']}, the model is a {wanted['name']}"
        )
    differences = [
        f"{key}: {stored['config'].get(key)!r} in the checkpoint, {wanted['config'].get(key)!r} "
        "in the model"
        for key in sorted(stored["config"].keys() | wanted["config"].keys())
        if stored["config"].get(key) != wanted["config"].get(key)
    ]
    if differences:
        raise ValueError(
            f"the checkpoint holds a {stored['name']} of another configuration: "
            + "; ".join(differences)
        )


def load_weights(state: Mapping[str, Any], model: nn.Module) -> None:
    """Put a checkpoint's weights into ``model``.

    Raises:
        ValueError: The checkpoint is of another architecture; the message says what differs.
    """
    check_architecture(state, model)
    try:
        model.load_state_dict(state["model"]["weights"])
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        raise ValueError(
            f"the checkpoint's weights do not fit this {type(model).__name__}: "
            + " ".join(reasons[:3])
        ) from error


def _existing(device: str | torch.device) -> torch.device:
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r} is no device; wanted cpu, or cuda:0") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but PyTorch finds no CUDA device; use 'cpu'")
    return place
