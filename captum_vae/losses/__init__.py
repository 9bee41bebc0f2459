"""Losses: the terms of the evidence lower bound and FactorVAE's total correlation."""

from captum_vae.losses.elbo import (
    ELBO,
    bernoulli_nll,
    free_bits,
    gaussian_nll,
    kl_per_dimension,
    linear_warmup,
    optimal_gaussian_nll,
)
from captum_vae.losses.total_correlation import (
    discriminator_loss,
    permute_dims,
    total_correlation,
)

__all__ = [
    "ELBO",
    "bernoulli_nll",
    "discriminator_loss",
    "free_bits",
    "gaussian_nll",
    "kl_per_dimension",
    "linear_warmup",
    "optimal_gaussian_nll",
    "permute_dims",
    "total_correlation",
]
