"""Attention maps for every latent dimension of a VAE, in Captum's vocabulary."""

from captum_vae.attr import (
    LatentGradCAM,
    MeanActivation,
    MeanSumGradCAM,
    NormalDifferenceGradCAM,
    explanation_func,
)
from captum_vae.posterior import AmbiguousPosteriorError, Posterior, PosteriorAdapter
from captum_vae.version import __version__

__all__ = [
    "AmbiguousPosteriorError",
    "LatentGradCAM",
    "MeanActivation",
    "MeanSumGradCAM",
    "NormalDifferenceGradCAM",
    "Posterior",
    "PosteriorAdapter",
    "__version__",
    "explanation_func",
]
