"""Anomaly scorers measured for an experiment: plain numbers with intervals, ready to be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from captum_vae.data.sample import SampleDataset
from captum_vae.experiments.verdicts import Estimate
from captum_vae.localization.choosing import load
from captum_vae.localization.evaluation import (
    Row,
    RowResult,
    compare,
    fit_rows,
    layers_of,
    measure_rows,
)
from captum_vae.localization.model_pass import NormalImages
from captum_vae.metrics.localization.metric import Units
from captum_vae.posterior import as_adapter

METRICS = ("auroc", "aupro", "average_precision", "best_iou")
"""Pixel metrics that are kept; the best IoU is an oracle's."""


def measured(
    vae: nn.Module,
    rows: Sequence[Row],
    normal: SampleDataset,
    test: SampleDataset,
    *,
    device: torch.device,
    pairs: Sequence[tuple[str, str]] = (),
    units: Units = "images",
    batch_size: int = 16,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit the rows' scorers, measure them on a test set in one pass, and test pairs of rows.

    Args:
        vae: that the scorers read, in eval mode on ``device``.
        rows: scorers under protocols.
        normal: images that scorers are fitted on.
        test: images with masks.
        device: where images go.
        pairs: names of rows whose pixel AUROC is compared, first minus second.
        units: what intervals resample: ``images``, ``groups`` (clips), or ``none``.
        batch_size: images per pass.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        JSON data. ``rows``: by name, an estimate (value, low, high) of each of :data:`METRICS` and
        ``seconds``; ``differences``: by ``first - second``, an estimate of the difference in pixel
        AUROC; ``images``, how many were measured.
    """
    adapter = as_adapter(vae, None)
    batches = load(normal, batch_size)
    fit_rows(rows, NormalImages(batches, vae, adapter, layers_of(rows), device=device))
    evaluation = measure_rows(
        rows,
        load(test, batch_size),
        device=device,
        units=units,
        resamples=resamples,
        seed=seed,
    )
    if units != "none":
        evaluation = compare(evaluation, pairs, resamples=resamples, seed=seed)
    return {
        "rows": {row.name: _numbers(row) for row in evaluation.rows},
        "differences": {
            name: Estimate(d.difference, d.low, d.high).to_dict()
            for name, d in evaluation.differences.items()
        },
        "images": evaluation.rows[0].pixel.images,
    }


def estimate(cell: Mapping[str, Any], row: str, metric: str = "auroc") -> Estimate:
    """A row's metric out of what :func:`measured` gives."""
    return Estimate.from_dict(cell["rows"][row][metric])


def difference(cell: Mapping[str, Any], first: str, second: str) -> Estimate:
    """A paired difference in pixel AUROC out of what :func:`measured` gives."""
    return Estimate.from_dict(cell["differences"][f"{first} - {second}"])


def _numbers(row: RowResult) -> dict[str, Any]:
    numbers: dict[str, Any] = {"seconds": round(row.seconds, 2)}
    for metric in METRICS:
        value = row.pixel.scores[metric].value
        interval = row.intervals.get(metric)
        found = (
            Estimate(value) if interval is None else Estimate(value, interval.low, interval.high)
        )
        numbers[metric] = found.to_dict()
    return numbers
