"""Attention maps for every latent dimension of a VAE, in Captum's vocabulary.

Names load on first use, so that ``captum-vae --help`` does not wait for torch.
"""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use
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
    from captum_vae.localization import AnomalyDetector
    from captum_vae.losses import AttentionDisentanglementLoss
    from captum_vae.posterior import AmbiguousPosteriorError, Posterior, PosteriorAdapter
    from captum_vae.report import show

__all__ = [
    "AmbiguousPosteriorError",
    "AnomalyDetector",
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
    "show",
    "watch_forward",
]

load_on_first_use(__name__)
