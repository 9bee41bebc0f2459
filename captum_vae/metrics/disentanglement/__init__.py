"""Disentanglement metrics: pure functions of codes (N, D) and factor classes (N, F).

The codes are posterior means. They are computed once; every metric draws the rows it needs from
them, so drawing from the codes of a whole data set is drawing from the data set.
"""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.metrics.disentanglement.evaluation import (
        METRICS,
        DisentanglementReport,
        encode_samples,
        evaluate_disentanglement,
        score_disentanglement,
    )
    from captum_vae.metrics.disentanglement.information import mig_score, modularity_score
    from captum_vae.metrics.disentanglement.prediction import dci_scores, sap_score
    from captum_vae.metrics.disentanglement.score import DisentanglementScore
    from captum_vae.metrics.disentanglement.votes import (
        VOTE_PROTOCOLS,
        VoteProtocol,
        beta_vae_score,
        factor_vae_score,
        used_dimensions,
    )

__all__ = [
    "METRICS",
    "VOTE_PROTOCOLS",
    "DisentanglementReport",
    "DisentanglementScore",
    "VoteProtocol",
    "beta_vae_score",
    "dci_scores",
    "encode_samples",
    "evaluate_disentanglement",
    "factor_vae_score",
    "mig_score",
    "modularity_score",
    "sap_score",
    "score_disentanglement",
    "used_dimensions",
]

load_on_first_use(__name__)
