"""Figures and pages that show attributions to people."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.report.color_scale import ColorScale, overlay
    from captum_vae.report.latent_usage import draw_active_dimensions
    from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid
    from captum_vae.report.notebook import Shown, show
    from captum_vae.report.page import Picture, Section, write_page
    from captum_vae.report.pictures import save_picture
    from captum_vae.report.tables import Table

__all__ = [
    "ColorScale",
    "GridRow",
    "Picture",
    "Section",
    "Shown",
    "Strip",
    "Table",
    "draw_active_dimensions",
    "draw_map_grid",
    "overlay",
    "save_picture",
    "show",
    "write_page",
]

load_on_first_use(__name__)
