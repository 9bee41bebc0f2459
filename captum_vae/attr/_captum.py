"""The only file that touches Captum's private helpers, which move between releases."""

from captum._utils.common import _format_additional_forward_args, _format_tensor_into_tuples
from captum.attr._utils.attribution import GradientAttribution, LayerAttribution
from captum.log import log_usage

__all__ = [
    "GradientAttribution",
    "LayerAttribution",
    "format_additional_forward_args",
    "format_inputs",
    "log_usage",
]

format_inputs = _format_tensor_into_tuples
format_additional_forward_args = _format_additional_forward_args
