"""``captum-vae disentangle-seeds``."""

from captum_vae.experiments.disentanglement_seeds import disentangle_seeds

__all__ = ["disentangle_seeds"]
