"""Explanations as files that run without this package: ONNX, or a program of torch.export."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.attr.export.attribution import export_attribution
    from captum_vae.attr.export.recording import NotExportableError
    from captum_vae.attr.export.saving import ExportedFile, export_function, read_metadata

__all__ = [
    "ExportedFile",
    "NotExportableError",
    "export_attribution",
    "export_function",
    "read_metadata",
]

load_on_first_use(__name__)
