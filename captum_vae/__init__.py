"""Attention maps for every latent dimension of a VAE, in Captum's vocabulary."""

from captum_vae.version import __version__

__all__ = ["__version__"]
