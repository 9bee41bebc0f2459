"""VAEs: the published ones at any size, those on timm backbones, and the linear one of features."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.models.base import GaussianVAE
    from captum_vae.models.conv import MNISTVAE, UCSDVAE, ConvVAE
    from captum_vae.models.factor import FactorDiscriminator, FactorVAE
    from captum_vae.models.feature_vae import FeatureVAE
    from captum_vae.models.frozen_features import FrozenFeatures
    from captum_vae.models.linear_feature_vae import LinearFeatureVAE
    from captum_vae.models.linear_latent import LinearLatent, fit_linear_latent
    from captum_vae.models.registered import build_model
    from captum_vae.models.timm_vae import ResNet18VAE, TimmVAE

__all__ = [
    "ConvVAE",
    "FactorDiscriminator",
    "FactorVAE",
    "FeatureVAE",
    "FrozenFeatures",
    "GaussianVAE",
    "LinearFeatureVAE",
    "LinearLatent",
    "MNISTVAE",
    "ResNet18VAE",
    "TimmVAE",
    "UCSDVAE",
    "build_model",
    "fit_linear_latent",
]

load_on_first_use(__name__)
