"""The charts of UCSD and MVTec AD: ours beside the published figures."""

from __future__ import annotations

from captum_vae.experiments.results import CHANCE, Chart
from captum_vae.experiments.ucsd_findings import PRIMARY

_MARKS = "Hollow: published, without intervals. Filled: ours, with 95% bootstrap intervals over"


def ucsd_charts(scene: str) -> list[Chart]:
    """Published layers beside ours, and every map under the protocol of the verdicts.

    Args:
        scene: measured on.
    """
    return [
        Chart(
            name="published_layers",
            title="Pixel AUROC beside the published figures",
            table="beside",
            labels=["map"],
            published=["paper, Ped1", "replication b, Ped1"],
            ours=[f"ours as published, {scene}", f"ours with a baseline, {scene}"],
            axis="pixel AUROC",
            caption=f"{_MARKS} clips.",
            alt="Pixel AUROC of the reconstruction error and of the maps of each layer: the "
            "paper's, replication b's and ours, each with its interval.",
            reference=CHANCE,
        ),
        Chart(
            name="every_map",
            title=f"Pixel AUROC of every map: {PRIMARY}",
            table="protocols",
            labels=["map"],
            published=["replication b, Ped1"],
            ours=[PRIMARY],
            axis="pixel AUROC",
            caption=f"{_MARKS} clips of {scene}.",
            alt="Pixel AUROC of every map, with its interval, beside replication b's where it "
            "measured the same map.",
            reference=CHANCE,
        ),
    ]


def mvtec_charts() -> list[Chart]:
    """Pixel AUROC and best IoU by category."""
    return [
        Chart(
            name=f"{metric}_by_category",
            title=f"{axis} by category",
            table=metric,
            labels=["category"],
            published=["paper", "replication b, relu", "replication b, abs"],
            ours=[
                "ours, reconstruction error",
                "ours as published",
                "ours, chosen without labels",
            ],
            axis=axis,
            caption=f"{_MARKS} images.",
            alt=f"{axis} in every category: the paper's, replication b's with both rectifiers, and "
            "ours from the reconstruction error, from the published maps and from the chosen one.",
            reference=CHANCE if metric == "auroc" else None,
        )
        for metric, axis in (("auroc", "Pixel AUROC"), ("best_iou", "Best IoU"))
    ]
