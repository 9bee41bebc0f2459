"""Anomaly localization: scorers, protocol and evaluator."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.localization.choosing import Candidates, Choice, Chosen, choose, load
    from captum_vae.localization.evaluation import (
        Evaluation,
        Row,
        RowResult,
        compare,
        fit_rows,
        fit_thresholds,
        layers_of,
        measure_rows,
    )
    from captum_vae.localization.gradient_scorers import ELBOGradient, GradientProjection
    from captum_vae.localization.layer_scorers import FeatureDifference, LatentAttention
    from captum_vae.localization.model_pass import ModelPass, NormalImages
    from captum_vae.localization.pixel_scorers import MeanImageDifference, ReconstructionError
    from captum_vae.localization.protocol import Protocol
    from captum_vae.localization.scorer import AnomalyScorer, Scorer
    from captum_vae.localization.tables import aligned, markdown, text_table, to_csv

__all__ = [
    "AnomalyScorer",
    "Candidates",
    "Choice",
    "Chosen",
    "ELBOGradient",
    "Evaluation",
    "FeatureDifference",
    "GradientProjection",
    "LatentAttention",
    "MeanImageDifference",
    "ModelPass",
    "NormalImages",
    "Protocol",
    "ReconstructionError",
    "Row",
    "RowResult",
    "Scorer",
    "aligned",
    "choose",
    "compare",
    "fit_rows",
    "fit_thresholds",
    "layers_of",
    "load",
    "markdown",
    "measure_rows",
    "text_table",
    "to_csv",
]

load_on_first_use(__name__)
