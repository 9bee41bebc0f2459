"""``captum-vae reproduce``."""

from captum_vae.experiments.reproduce import reproduce

__all__ = ["reproduce"]
