"""Anomaly localization: scorers, the protocol, the benchmark, and a choice without labels."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.localization.candidate_maps import candidate_scorers
    from captum_vae.localization.candidates import Candidates
    from captum_vae.localization.choice import Choice
    from captum_vae.localization.choosing import choose
    from captum_vae.localization.detector.detector import AnomalyDetector
    from captum_vae.localization.detector.options import Promise
    from captum_vae.localization.detector.prediction import Prediction, Predictions
    from captum_vae.localization.evaluation import Evaluation
    from captum_vae.localization.feature_scorers import FeatureDifference, Mahalanobis
    from captum_vae.localization.gradient_scorers import ELBOGradient, GradientProjection
    from captum_vae.localization.layer_scorers import LatentAttention
    from captum_vae.localization.measuring import benchmark
    from captum_vae.localization.pixel_scorers import (
        ConstantMap,
        MeanImageDifference,
        ReconstructionError,
    )
    from captum_vae.localization.protocol import Protocol
    from captum_vae.localization.scorer import AnomalyScorer, Scorer
    from captum_vae.localization.scorer_result import ScorerResult

__all__ = [
    "AnomalyDetector",
    "AnomalyScorer",
    "Candidates",
    "Choice",
    "ConstantMap",
    "ELBOGradient",
    "Evaluation",
    "FeatureDifference",
    "GradientProjection",
    "LatentAttention",
    "Mahalanobis",
    "MeanImageDifference",
    "Prediction",
    "Predictions",
    "Promise",
    "Protocol",
    "ReconstructionError",
    "Scorer",
    "ScorerResult",
    "benchmark",
    "candidate_scorers",
    "choose",
]

load_on_first_use(__name__)
