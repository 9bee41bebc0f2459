"""A trained VAE back from its checkpoint."""

from pathlib import Path

import torch
from torch import nn

from captum_vae.models import build_model
from captum_vae.training.checkpoint import load_weights, read_checkpoint


def load_vae(
    path: str | Path,
    model: nn.Module | None = None,
    *,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """The model that a checkpoint holds, in eval mode.

    Args:
        path: a checkpoint, or a run's folder, whose newest checkpoint is taken.
        model: a model to load the weights into; by default one is built from the name and
            configuration in the checkpoint, which takes a model of :mod:`captum_vae.models`.
        device: where to put it.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is damaged, of another architecture than ``model``, or of a model that
            this package cannot build.

    Example::

        vae = load_vae("runs/bottle")
        LatentGradCAM(vae, vae.encoder.conv2).attribute(images)
    """
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
    return model.to(device).eval()
