"""Attention maps for every latent dimension of a VAE, in Captum's vocabulary.

Names load on first use, so that ``captum-vae --help`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captum_vae.version import __version__

if TYPE_CHECKING:
    from captum_vae.attr import (
        DecoderAttribution,
        LatentGradCAM,
        MeanActivation,
        MeanSumGradCAM,
        NormalDifferenceGradCAM,
        explanation_func,
        watch_forward,
    )
    from captum_vae.losses import AttentionDisentanglementLoss
    from captum_vae.posterior import AmbiguousPosteriorError, Posterior, PosteriorAdapter

_HOMES = {
    "AmbiguousPosteriorError": "captum_vae.posterior",
    "AttentionDisentanglementLoss": "captum_vae.losses",
    "DecoderAttribution": "captum_vae.attr",
    "LatentGradCAM": "captum_vae.attr",
    "MeanActivation": "captum_vae.attr",
    "MeanSumGradCAM": "captum_vae.attr",
    "NormalDifferenceGradCAM": "captum_vae.attr",
    "Posterior": "captum_vae.posterior",
    "PosteriorAdapter": "captum_vae.posterior",
    "explanation_func": "captum_vae.attr",
    "watch_forward": "captum_vae.attr",
}

__all__ = [
    "AmbiguousPosteriorError",
    "AttentionDisentanglementLoss",
    "DecoderAttribution",
    "LatentGradCAM",
    "MeanActivation",
    "MeanSumGradCAM",
    "NormalDifferenceGradCAM",
    "Posterior",
    "PosteriorAdapter",
    "__version__",
    "explanation_func",
    "watch_forward",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the package that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
