"""One pass over a test set that scores and measures many anomaly scorers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from captum_vae.data.sample import SampleBatch
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer, Scorer, fit_together
from captum_vae.metrics.localization.bootstrap import (
    Interval,
    PairedDifference,
    bootstrap_intervals,
    paired_difference,
)
from captum_vae.metrics.localization.counts import ScoreCounts
from captum_vae.metrics.localization.curves import LocalizationScore
from captum_vae.metrics.localization.images import ImageAUROC, scores_of_image
from captum_vae.metrics.localization.metric import PixelMetrics, PixelResult, Units

Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Wraps batches under a title, for a progress bar."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a scorer under a protocol.

    Several rows may share a scorer, which then scores each image once.

    Attributes:
        name: unique within a table.
        scorer: see :class:`~captum_vae.localization.scorer.AnomalyScorer`.
        protocol: how its maps are compared with the masks.
    """

    name: str
    scorer: AnomalyScorer
    protocol: Protocol


@dataclass(frozen=True)
class ImageResult:
    """How a row did on one image.

    Attributes:
        index: of the image in the test set.
        name: of the image.
        group: its clip or kind of defect.
        auroc: of the image's own pixels; NaN for one without a defect.
        highest: the 99th percentile of its map, for a colour scale.
    """

    index: int
    name: str
    group: str
    auroc: float
    highest: float


@dataclass(frozen=True)
class RowResult:
    """What one row came to.

    Attributes:
        name: of the row.
        protocol: of the row.
        pixel: every pixel metric, the counts for the curves, the table for the bootstrap.
        image_auroc: from the image scores.
        intervals: bootstrap intervals of ``BOOTSTRAP_METRICS``, by name.
        images: one entry per test image with a known mask, by index; empty unless asked for.
        seconds: spent on scoring and measuring. What scorers share counts for the first of them.
    """

    name: str
    protocol: Protocol
    pixel: PixelResult
    image_auroc: LocalizationScore
    intervals: dict[str, Interval]
    images: list[ImageResult]
    seconds: float

    @property
    def threshold(self) -> float | None:
        """From it on a pixel is called anomalous; None if none was fitted on normal images."""
        score = self.pixel.scores.get("f1")
        return None if score is None else score.threshold

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images and curves, for JSON."""
        entries = self.pixel.to_dict()
        entries["scores"]["image_auroc"] = self.image_auroc.to_dict()
        return {
            "name": self.name,
            "protocol": self.protocol.to_dict(),
            **entries,
            "intervals": {name: interval.to_dict() for name, interval in self.intervals.items()},
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Evaluation:
    """The table.

    Attributes:
        rows: in the order in which they were asked for.
        differences: paired tests, by ``first - second``.
    """

    rows: list[RowResult]
    differences: dict[str, PairedDifference] = field(default_factory=dict)

    def row(self, name: str) -> RowResult:
        """The row of that name.

        Raises:
            KeyError: there is none.
        """
        return {row.name: row for row in self.rows}[name]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "differences": {name: d.to_dict() for name, d in self.differences.items()},
        }


def fit_rows(rows: Sequence[Row], normal: NormalImages) -> None:
    """Fit each scorer once; what the built-in ones take from the normal images is shared.

    Args:
        rows: some may share a scorer.
        normal: normal images whose layers are those of all scorers, see :func:`layers_of`.
    """
    scorers = _distinct(row.scorer for row in rows)
    fit_together([s for s in scorers if isinstance(s, Scorer)], normal)
    for scorer in scorers:
        if not isinstance(scorer, Scorer):
            scorer.fit(normal)


def fit_thresholds(
    rows: Sequence[Row],
    batches: Iterable[SampleBatch],
    *,
    device: torch.device | None = None,
    progress: Progress = lambda batches, title: batches,
) -> dict[str, float]:
    """The thresholds that the rows' protocols take from the maps of normal images, by row.

    Args:
        rows: fitted.
        batches: normal images; their masks, all False, say at which size maps are compared.
        device: where images are brought to; None leaves them.
        progress: wraps the batches.
    """
    counts = {row.name: ScoreCounts() for row in rows if row.protocol.threshold != "oracle"}
    waiting = [row for row in rows if row.name in counts]
    for batch in progress(batches, "thresholds") if waiting else ():
        images = batch.image if device is None else batch.image.to(device)
        own = (images.shape[2], images.shape[3])
        for scorer, maps, _ in score_all([row.scorer for row in waiting], images):
            for row in waiting:
                if row.scorer is not scorer:
                    continue
                for image_map, mask in zip(maps, batch.mask, strict=True):
                    size = own if mask is None else (mask.shape[0], mask.shape[1])
                    counts[row.name].add(row.protocol.transform(image_map[None], size))
    found = {row.name: row.protocol.fit_threshold(counts[row.name]) for row in waiting}
    return {name: threshold for name, threshold in found.items() if threshold is not None}


def layers_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The layers that the rows' scorers read, without repeats."""
    names = [name for row in rows for name in getattr(row.scorer, "layers", ())]
    return tuple(dict.fromkeys(names))


def measure_rows(
    rows: Sequence[Row],
    batches: Iterable[SampleBatch],
    *,
    device: torch.device | None = None,
    indices: Sequence[int] | None = None,
    progress: Progress = lambda batches, title: batches,
    thresholds: Mapping[str, float] | None = None,
    detailed: Collection[str] = (),
    units: Units = "images",
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Score and measure a test set in one pass, in bounded memory.

    Per batch, the model runs once for all scorers that read it through a shared pass; maps are
    counted at once and dropped. Under torch.distributed give every process its own share of the
    images; the counts are those of a single process.

    Args:
        rows: fitted.
        batches: the test set.
        device: where images are brought to; None leaves them.
        indices: of this process's images in the whole test set; None counts from 0.
        progress: wraps the batches.
        thresholds: by row, see :func:`fit_thresholds`.
        detailed: names of rows whose single images are to be listed.
        units: what the intervals resample: "images", "groups" (clips), or "none".
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: no rows, or two of the same name; a map of another shape than its batch.
    """
    _check_names(rows)
    given = thresholds or {}
    counters = [_RowCounter(row, units, given.get(row.name), row.name in detailed) for row in rows]
    position = 0
    for batch in progress(batches, "scoring"):
        images = batch.image if device is None else batch.image.to(device)
        numbers = range(position, position + len(images))
        position += len(images)
        where = list(numbers) if indices is None else [indices[number] for number in numbers]
        for scorer, maps, seconds in score_all([row.scorer for row in rows], images):
            for counter in counters:
                if counter.row.scorer is scorer:
                    counter.add(maps, batch, where, seconds)
    return Evaluation([counter.result(resamples, seed) for counter in counters])


def compare(
    evaluation: Evaluation,
    pairs: Iterable[tuple[str, str]],
    *,
    metric: str = "auroc",
    resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """The evaluation with paired bootstrap tests of rows added.

    Args:
        evaluation: measured with ``units`` other than "none".
        pairs: names of two rows each.
        metric: of the tests.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        KeyError: a row does not exist.
        ValueError: counts per image were not kept, or the rows' protocols left out other images.
    """
    differences = {}
    for first, second in pairs:
        tables = [evaluation.row(name).pixel.units for name in (first, second)]
        if tables[0] is None or tables[1] is None:
            raise ValueError("no counts per image were kept; measure with units='images'")
        differences[f"{first} - {second}"] = paired_difference(
            tables[0], tables[1], metric, resamples=resamples, seed=seed
        )
    return replace(evaluation, differences=differences)


def score_all(
    scorers: Sequence[AnomalyScorer], images: Tensor
) -> Iterable[tuple[AnomalyScorer, Tensor, float]]:
    """Score one batch with several scorers; those of one model share its calls.

    Args:
        scorers: fitted; repeats are scored once.
        images: (B, C, H, W).

    Yields:
        Scorer, maps (B, H, W), and the seconds it took beyond what was shared before.

    Raises:
        ValueError: a scorer's maps have another shape or hold NaN.
    """
    distinct = _distinct(scorers)
    passes: dict[int, ModelPass] = {}
    layers = tuple(dict.fromkeys(x for s in distinct for x in getattr(s, "layers", ())))
    for scorer in distinct:
        start = time.perf_counter()
        if isinstance(scorer, Scorer):
            own = [s for s in distinct if isinstance(s, Scorer) and s.model is scorer.model]
            wanted = tuple(x for x in layers if any(x in s.layers for s in own))
            shared = passes.setdefault(
                id(scorer.model), ModelPass(images, scorer.model, scorer.adapter, wanted)
            )
            maps = scorer.score_pass(shared)
        else:
            maps = scorer.score(images)
        wanted_shape = (len(images), *images.shape[2:])
        if maps.dim() != 3 or len(maps) != len(images):
            raise ValueError(
                f"{type(scorer).__name__}.score gives {tuple(maps.shape)} for images "
                f"{tuple(images.shape)}; wanted maps {wanted_shape}"
            )
        yield scorer, maps, time.perf_counter() - start


class _RowCounter:
    """The metrics of one row, fed batch by batch."""

    def __init__(self, row: Row, units: Units, threshold: float | None, detailed: bool) -> None:
        self.row = row
        self.units = units
        self.detailed = detailed
        self.seconds = 0.0
        self.images: list[ImageResult] = []
        self.pixel = PixelMetrics(units=units, threshold=threshold)
        self.image = ImageAUROC()

    def add(self, maps: Tensor, batch: SampleBatch, indices: Sequence[int], seconds: float) -> None:
        start = time.perf_counter()
        scores, masks = self.row.protocol.prepare(maps, batch.mask, batch.label)
        for metric in (self.pixel, self.image):
            metric.to(maps.device)
        names = batch.group if self.units == "groups" else batch.name
        self.pixel.update(scores, masks, names)
        self.image.update(self._image_scores(maps, scores, masks), batch.label)
        if self.detailed:
            for place, (image_map, mask) in enumerate(zip(scores, masks, strict=True)):
                if mask is not None:
                    self.images.append(
                        ImageResult(
                            indices[place],
                            batch.name[place],
                            batch.group[place],
                            scores_of_image(image_map, mask)["auroc"].value,
                            float(image_map.flatten().quantile(0.99)),
                        )
                    )
        self.seconds += seconds + time.perf_counter() - start

    def _image_scores(
        self, maps: Tensor, scores: Sequence[Tensor], masks: Sequence[Tensor | None]
    ) -> Tensor:
        """(B,) maxima; an image left out of the pixels still has one, smoothed like the others."""
        own = (maps.shape[1], maps.shape[2])
        whole = [
            self.row.protocol.transform(maps[place : place + 1], own) if mask is None else score
            for place, (score, mask) in enumerate(zip(scores, masks, strict=True))
        ]
        return torch.stack([image_map.amax() for image_map in whole])

    def result(self, resamples: int, seed: int) -> RowResult:
        pixel = self.pixel.compute()
        intervals: dict[str, Interval] = {}
        if pixel.units is not None:
            values = {name: score.value for name, score in pixel.scores.items()}
            intervals = bootstrap_intervals(
                pixel.units, values=values, resamples=resamples, seed=seed
            )
        shares = _gather((self.images, self.seconds))
        images = sorted((image for share, _ in shares for image in share), key=lambda i: i.index)
        seconds = sum(seconds for _, seconds in shares)
        row = self.row
        return RowResult(
            row.name, row.protocol, pixel, self.image.compute(), intervals, images, seconds
        )


def _gather(value: Any) -> list[Any]:
    """One value per process, on every process."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _distinct(scorers: Iterable[AnomalyScorer]) -> list[AnomalyScorer]:
    return list({id(scorer): scorer for scorer in scorers}.values())


def _check_names(rows: Sequence[Row]) -> None:
    names = [row.name for row in rows]
    if not names:
        raise ValueError("rows is empty; wanted at least one scorer")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"rows share the names {twice}; each needs its own")
