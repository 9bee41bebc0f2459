"""The VAEs of the published experiments, at any image and latent size."""

from __future__ import annotations

import difflib
from typing import Any

from captum_vae.models.base import GaussianVAE
from captum_vae.models.conv import MNISTVAE, UCSDVAE, ConvVAE
from captum_vae.models.factor import FactorDiscriminator, FactorVAE
from captum_vae.models.timm_vae import ResNet18VAE, TimmVAE

__all__ = [
    "MODELS",
    "ConvVAE",
    "FactorDiscriminator",
    "FactorVAE",
    "GaussianVAE",
    "MNISTVAE",
    "ResNet18VAE",
    "TimmVAE",
    "UCSDVAE",
    "build_model",
]

MODELS: dict[str, type[GaussianVAE]] = {
    "conv": ConvVAE,
    "factor": FactorVAE,
    "mnist": MNISTVAE,
    "resnet18": ResNet18VAE,
    "timm": TimmVAE,
    "ucsd": UCSDVAE,
}


def build_model(name: str, **config: Any) -> GaussianVAE:
    """A built-in VAE by name.

    Args:
        name: a key of :data:`MODELS`, or the class's own name, as a checkpoint stores it.
        config: the model's constructor arguments, such as a ``model.config``.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
        TypeError: an argument that the model does not take.

    Example::

        >>> vae = build_model("mnist", latent_dims=16)
        >>> twin = build_model(type(vae).__name__, **vae.config)
    """
    known = MODELS | {model.__name__: model for model in MODELS.values()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"model name is {name!r}; wanted one of {', '.join(known)}{hint}")
    # Each class has its own constructor; the base class's is not theirs.
    constructor: Any = known[name]
    model: GaussianVAE = constructor(**config)
    return model
