"""Losses: the evidence lower bound, FactorVAE's total correlation, attention disentanglement."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.losses.attention_disentanglement import (
        AttentionDisentanglementLoss,
        attention_overlap,
        pair_overlap,
    )
    from captum_vae.losses.density_ratio import (
        discriminator_loss,
        permute_dims,
        total_correlation,
    )
    from captum_vae.losses.elbo import (
        ELBO,
        bernoulli_nll,
        free_bits,
        gaussian_nll,
        kl_per_dimension,
        linear_warmup,
        optimal_gaussian_nll,
    )

__all__ = [
    "ELBO",
    "AttentionDisentanglementLoss",
    "attention_overlap",
    "bernoulli_nll",
    "discriminator_loss",
    "free_bits",
    "gaussian_nll",
    "kl_per_dimension",
    "linear_warmup",
    "optimal_gaussian_nll",
    "pair_overlap",
    "permute_dims",
    "total_correlation",
]

load_on_first_use(__name__)
