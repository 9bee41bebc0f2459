"""``captum-vae demo``."""

from captum_vae.experiments.demo import demo

__all__ = ["demo"]
