"""Anomaly localization: scorers, protocol and evaluator."""

from captum_vae.localization.gradient_scorers import ELBOGradient, GradientProjection
from captum_vae.localization.layer_scorers import FeatureDifference, LatentAttention
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.pixel_scorers import MeanImageDifference, ReconstructionError
from captum_vae.localization.scorer import AnomalyScorer, Scorer

__all__ = [
    "AnomalyScorer",
    "ELBOGradient",
    "FeatureDifference",
    "GradientProjection",
    "LatentAttention",
    "MeanImageDifference",
    "ModelPass",
    "NormalImages",
    "ReconstructionError",
    "Scorer",
]
