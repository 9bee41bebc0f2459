"""Takes the second name of captum_vae_sample's model."""

from captum_vae.models import ConvVAE as Other  # noqa: F401
