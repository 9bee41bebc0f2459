"""The explorer: a page on which people browse images, maps and thresholds."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.report.explorer.writer import DATA_FOLDER, Explorer

__all__ = ["DATA_FOLDER", "Explorer"]

load_on_first_use(__name__)
