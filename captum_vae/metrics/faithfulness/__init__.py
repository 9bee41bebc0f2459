"""Whether a map shows what its latent dimension depends on, measured on the model itself."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.metrics.faithfulness.curves import Area, RemovalCurves, compare_areas
    from captum_vae.metrics.faithfulness.imputation import noisy_linear_imputation
    from captum_vae.metrics.faithfulness.randomization import randomization_check
    from captum_vae.metrics.faithfulness.removal import removal_curves

__all__ = [
    "Area",
    "RemovalCurves",
    "compare_areas",
    "noisy_linear_imputation",
    "randomization_check",
    "removal_curves",
]

load_on_first_use(__name__)
