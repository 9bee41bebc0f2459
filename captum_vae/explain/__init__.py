"""Maps of one's own VAE on one's own images, as numbers and as a page."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.explain.explaining import explain, list_layers
    from captum_vae.explain.explanation import Explanation
    from captum_vae.explain.page import write_explanation

__all__ = ["Explanation", "explain", "list_layers", "write_explanation"]

load_on_first_use(__name__)
