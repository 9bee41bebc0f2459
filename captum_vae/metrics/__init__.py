"""Localization, disentanglement and active-dimension metrics."""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.metrics.activity import (
        ActiveDimensionAccumulator,
        ActiveDimensions,
        active_dimensions,
    )
    from captum_vae.metrics.disentanglement import (
        DisentanglementReport,
        DisentanglementScore,
        VoteProtocol,
        beta_vae_score,
        dci_scores,
        evaluate_disentanglement,
        factor_vae_score,
        mig_score,
        modularity_score,
        sap_score,
        score_disentanglement,
    )
    from captum_vae.metrics.localization.bootstrap import (
        Interval,
        PairedDifference,
        bootstrap_interval,
        bootstrap_intervals,
        paired_difference,
    )
    from captum_vae.metrics.localization.curves import (
        LocalizationScore,
        auroc,
        average_precision,
        best_iou,
        f1_max,
        roc_curve,
        threshold_counts,
    )
    from captum_vae.metrics.localization.images import image_scores, scores_of_image
    from captum_vae.metrics.localization.metric import (
        AUPRO,
        ImageAUROC,
        PixelAUROC,
        PixelAveragePrecision,
        PixelBestIoU,
        PixelF1Max,
        PixelMetrics,
        PixelROC,
    )
    from captum_vae.metrics.localization.pixel_counts import PixelResult
    from captum_vae.metrics.localization.region_overlap import aupro, pro_curve

__all__ = [
    "AUPRO",
    "ActiveDimensionAccumulator",
    "ActiveDimensions",
    "DisentanglementReport",
    "DisentanglementScore",
    "ImageAUROC",
    "Interval",
    "LocalizationScore",
    "PairedDifference",
    "PixelAUROC",
    "PixelAveragePrecision",
    "PixelBestIoU",
    "PixelF1Max",
    "PixelMetrics",
    "PixelROC",
    "PixelResult",
    "VoteProtocol",
    "active_dimensions",
    "aupro",
    "auroc",
    "average_precision",
    "best_iou",
    "beta_vae_score",
    "bootstrap_interval",
    "bootstrap_intervals",
    "dci_scores",
    "evaluate_disentanglement",
    "f1_max",
    "factor_vae_score",
    "image_scores",
    "mig_score",
    "modularity_score",
    "paired_difference",
    "pro_curve",
    "roc_curve",
    "sap_score",
    "score_disentanglement",
    "scores_of_image",
    "threshold_counts",
]

load_on_first_use(__name__)
