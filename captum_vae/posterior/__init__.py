"""Reading the posterior q(z|x) of any VAE without changing it. Needs only torch."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.posterior.adapter import PosteriorAdapter, as_adapter
    from captum_vae.posterior.gaussian import (
        CollapsedPosteriorWarning,
        Posterior,
        Spatial,
        posterior_of_latent,
        standard_normal_kl,
    )
    from captum_vae.posterior.reading import PosteriorError, Reading, Spread
    from captum_vae.posterior.refusal import AmbiguousPosteriorError, Candidate

__all__ = [
    "AmbiguousPosteriorError",
    "Candidate",
    "CollapsedPosteriorWarning",
    "Posterior",
    "PosteriorAdapter",
    "PosteriorError",
    "Reading",
    "Spatial",
    "Spread",
    "as_adapter",
    "posterior_of_latent",
    "standard_normal_kl",
]

load_on_first_use(__name__)
