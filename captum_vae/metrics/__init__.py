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
        METRICS,
        VOTE_PROTOCOLS,
        DisentanglementReport,
        DisentanglementScore,
        VoteProtocol,
        beta_vae_score,
        dci_scores,
        encode_samples,
        evaluate_disentanglement,
        factor_vae_score,
        mig_score,
        modularity_score,
        sap_score,
        score_disentanglement,
        used_dimensions,
    )
    from captum_vae.metrics.localization.bootstrap import (
        BOOTSTRAP_METRICS,
        Interval,
        PairedDifference,
        bootstrap_interval,
        bootstrap_intervals,
        paired_difference,
    )
    from captum_vae.metrics.localization.counts import ScoreCounts
    from captum_vae.metrics.localization.curves import (
        LocalizationScore,
        RocCurve,
        ThresholdCounts,
        at_threshold,
        auroc,
        average_precision,
        best_iou,
        f1_max,
        roc_curve,
        thinned,
        threshold_counts,
    )
    from captum_vae.metrics.localization.image_auroc import ImageAUROC
    from captum_vae.metrics.localization.images import image_scores, scores_of_image
    from captum_vae.metrics.localization.metric import (
        AUPRO,
        PixelAUROC,
        PixelAveragePrecision,
        PixelBestIoU,
        PixelF1Max,
        PixelMetrics,
        PixelResult,
        PixelROC,
    )
    from captum_vae.metrics.localization.region_overlap import aupro, pro_curve, region_sizes
    from captum_vae.metrics.localization.units import UnitTable, image_table, unit_id

__all__ = [
    "AUPRO",
    "BOOTSTRAP_METRICS",
    "METRICS",
    "VOTE_PROTOCOLS",
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
    "RocCurve",
    "ScoreCounts",
    "ThresholdCounts",
    "UnitTable",
    "VoteProtocol",
    "active_dimensions",
    "at_threshold",
    "aupro",
    "auroc",
    "average_precision",
    "best_iou",
    "beta_vae_score",
    "bootstrap_interval",
    "bootstrap_intervals",
    "dci_scores",
    "encode_samples",
    "evaluate_disentanglement",
    "f1_max",
    "factor_vae_score",
    "image_scores",
    "image_table",
    "mig_score",
    "modularity_score",
    "paired_difference",
    "pro_curve",
    "region_sizes",
    "roc_curve",
    "sap_score",
    "score_disentanglement",
    "scores_of_image",
    "thinned",
    "threshold_counts",
    "unit_id",
    "used_dimensions",
]

load_on_first_use(__name__)
