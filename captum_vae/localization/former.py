"""Temporary: the former names of measuring, until the experiments call ``benchmark``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from captum_vae.data.sample import Sample, SampleBatch, SampleDataset, collate_samples
from captum_vae.localization.evaluation import Evaluation
from captum_vae.localization.measuring import _Counter, _differences, _Entry
from captum_vae.localization.model_pass import NormalImages
from captum_vae.localization.scorer import Scorer, fit_together
from captum_vae.localization.scorer_result import ScorerResult
from captum_vae.localization.scoring import distinct_scorers, score_batch
from captum_vae.localization.scoring import layers_of as layers_of_scorers
from captum_vae.metrics.localization.metric import Units

Row = _Entry
RowResult = ScorerResult
score_all = score_batch


def load(dataset: SampleDataset, batch_size: int, *, workers: int = 0) -> DataLoader[Sample]:
    """Batches in order."""
    return DataLoader(
        dataset, batch_size=batch_size, collate_fn=collate_samples, num_workers=workers
    )


def fit_rows(rows: Sequence[Row], normal: NormalImages) -> None:
    """Fit each scorer once."""
    scorers = distinct_scorers(row.scorer for row in rows)
    fit_together([s for s in scorers if isinstance(s, Scorer)], normal)
    for scorer in scorers:
        if not isinstance(scorer, Scorer):
            scorer.fit(normal)


def layers_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The layers that the rows' scorers read."""
    return layers_of_scorers([row.scorer for row in rows])


def measure_rows(
    rows: Sequence[Row],
    batches: Iterable[SampleBatch],
    *,
    device: torch.device | None = None,
    indices: Sequence[int] | None = None,
    progress: Any = lambda batches, title: batches,
    thresholds: Mapping[str, float] | None = None,
    detailed: Collection[str] = (),
    units: Units = "images",
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Score and measure a test set in one pass."""
    given = thresholds or {}
    counters = [_Counter(row, units, given.get(row.name), row.name in detailed) for row in rows]
    position = 0
    for batch in progress(batches, "scoring"):
        images = batch.image if device is None else batch.image.to(device)
        numbers = range(position, position + len(images))
        position += len(images)
        where = list(numbers) if indices is None else [indices[number] for number in numbers]
        names = batch.group if units == "groups" else batch.name
        for scorer, maps, seconds in score_batch([row.scorer for row in rows], images):
            for counter in counters:
                if counter.entry.scorer is scorer:
                    counter.add(maps, batch, where, names, seconds)
    return Evaluation([counter.result(resamples, seed) for counter in counters])


def compare(
    evaluation: Evaluation,
    pairs: Iterable[tuple[str, str]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """The evaluation with paired bootstrap tests of rows added."""
    return replace(evaluation, differences=_differences(evaluation.rows, pairs, resamples, seed))
