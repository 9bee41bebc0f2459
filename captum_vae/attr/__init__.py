"""Latent attributions as Captum ``LayerAttribution`` classes. Needs only torch and captum."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.attr.baselines import MeanActivation
    from captum_vae.attr.decoder_attribution import DecoderAttribution
    from captum_vae.attr.during_training import WatchedForward, watch_forward
    from captum_vae.attr.engine.plans import LayerPlan
    from captum_vae.attr.explanations import explanation_func, input_attributions
    from captum_vae.attr.latent_grad_cam import LatentGradCAM, MeanSumGradCAM
    from captum_vae.attr.normal_difference import NormalDifferenceGradCAM
    from captum_vae.attr.options import PRESETS, MapOptions

__all__ = [
    "PRESETS",
    "DecoderAttribution",
    "LatentGradCAM",
    "LayerPlan",
    "MapOptions",
    "MeanActivation",
    "MeanSumGradCAM",
    "NormalDifferenceGradCAM",
    "WatchedForward",
    "explanation_func",
    "input_attributions",
    "watch_forward",
]

load_on_first_use(__name__)
