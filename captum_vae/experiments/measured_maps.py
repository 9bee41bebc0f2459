"""Anomaly maps measured for an experiment: plain numbers with intervals, ready to be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from captum_vae.data.sample import SampleDataset
from captum_vae.experiments.anomaly_maps import row_name
from captum_vae.experiments.verdicts import negated
from captum_vae.localization.entries import Scorers
from captum_vae.localization.measuring import benchmark
from captum_vae.localization.scorer_result import ScorerResult
from captum_vae.report.estimate import Estimate

METRICS = {
    "auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "average_precision": "average precision",
    "best_iou": "best IoU (oracle)",
}
"""The pixel metrics that are kept, with their titles; the best IoU is an oracle's."""


@dataclass(frozen=True)
class MeasuredMaps:
    """The maps of one VAE on one test set, as claims are judged by them.

    Attributes:
        name: What was measured on, as verdicts call it.
        cell: What :func:`measured` gave, as JSON data.
        published: The names of the maps as published.
        primary: The label of the protocol of the verdicts; empty where there is one protocol alone.
        variant: How the VAE was trained, where there are several ways; else empty.
    """

    name: str
    cell: Mapping[str, Any]
    published: Sequence[str] = ()
    primary: str = ""
    variant: str = ""

    def level(self, name: str, quantity: str = "auroc", protocol: str = "") -> Estimate:
        """A map's metric, under the protocol of the verdicts unless told."""
        row = row_name(name, protocol or self.primary)
        return Estimate.from_dict(self.cell["rows"][row][quantity])

    def difference(self, first: str, second: str, quantity: str = "auroc") -> Estimate:
        """A paired difference in pixel AUROC, first minus second.

        Raises:
            ValueError: The quantity is another.
            KeyError: Neither order of the pair was measured.
        """
        if quantity != "auroc":
            raise ValueError(f"quantity is {quantity!r}; pairs are compared by 'auroc' alone")
        names = [row_name(name, self.primary) for name in (first, second)]
        differences = self.cell["differences"]
        if " - ".join(names) in differences:
            return Estimate.from_dict(differences[" - ".join(names)])
        return negated(Estimate.from_dict(differences[" - ".join(reversed(names))]))


def measured(
    scorers: Scorers, normal: SampleDataset, test: SampleDataset, **options: Any
) -> dict[str, Any]:
    """Fit scorers, measure them on a test set in one pass, and test pairs of them.

    Args:
        scorers: The scorers by their names in the tables, some with a protocol of their own.
        normal: The images that scorers are fitted on.
        test: The images with masks.
        options: The options of :func:`~captum_vae.localization.benchmark`.

    Returns:
        JSON data. ``rows``: by name, an estimate (value, low, high) of each of :data:`METRICS` and
        ``seconds``; ``differences``: by ``first - second``, an estimate of the difference in pixel
        AUROC; ``images``, how many were measured.
    """
    evaluation = benchmark(scorers, normal, test, progress="auto", **options)
    return {
        "rows": {row.name: _numbers(row) for row in evaluation.rows},
        "differences": {
            name: Estimate(d.difference, d.low, d.high).to_dict()
            for name, d in evaluation.differences.items()
        },
        "images": evaluation.rows[0].pixel.images,
    }


def _numbers(row: ScorerResult) -> dict[str, Any]:
    numbers: dict[str, Any] = {"seconds": round(row.seconds, 2)}
    for metric in METRICS:
        found = Estimate(row.pixel.scores[metric].value)
        if metric in row.intervals:
            found = replace(found, low=row.intervals[metric].low, high=row.intervals[metric].high)
        numbers[metric] = found.to_dict()
    return numbers
