"""What counts one scorer's maps: for a row of the table, for a threshold, for an area alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor

from captum_vae.data.resize import resize_mask
from captum_vae.data.sample import SampleBatch
from captum_vae.localization.counting import ScoredBatch
from captum_vae.localization.entries import Entry
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer_result import ImageResult, ScorerResult
from captum_vae.metrics.localization.bootstrap import Interval, bootstrap_intervals
from captum_vae.metrics.localization.counts import ScoreCounts
from captum_vae.metrics.localization.curves import LocalizationScore, auroc
from captum_vae.metrics.localization.images import (
    ImageCounts,
    image_scores,
    scores_of_image,
)
from captum_vae.metrics.localization.pixel_counts import PixelCounts, Units
from captum_vae.processes import gather


class ThresholdCounter:
    """The scores of one scorer on normal images, under one protocol."""

    def __init__(self, entry: Entry) -> None:
        """Start empty."""
        self.entry = entry
        self.scorer = entry.scorer
        self.counts = ScoreCounts()

    def add(self, maps: Tensor, scored: ScoredBatch) -> None:
        """Count maps (B, h, w) of a batch, resized and smoothed as those of the test set."""
        for image_map, mask in zip(maps, scored.batch.mask, strict=True):
            size = scored.size if mask is None else (mask.shape[0], mask.shape[1])
            self.counts.add(self.entry.protocol.transform(image_map[None], size))

    def threshold(self) -> float:
        """The protocol's quantile; the counts are freed."""
        found = self.counts.quantile(self.entry.protocol.quantile)
        self.counts = ScoreCounts()
        return found


class RowCounter:
    """The metrics of one scorer under one protocol, fed batch by batch."""

    def __init__(self, entry: Entry, units: Units, threshold: float | None, detailed: bool) -> None:
        """Start empty.

        Args:
            entry: The scorer and its protocol.
            units: What the bootstrap resamples.
            threshold: From it on a pixel is called anomalous; None calls none.
            detailed: Whether the result lists every image.
        """
        self.entry = entry
        self.scorer = entry.scorer
        self.units = units
        self.unit_names: dict[str, int] = {}
        self.detailed = detailed
        self.seconds = 0.0
        self.images: list[ImageResult] = []
        self.threshold = threshold
        self.pixel = _pixel_counts(regions=True, units=units)
        self.image, self.image_top = _image_counts(), _image_counts()

    def add(self, maps: Tensor, scored: ScoredBatch) -> None:
        """Count maps (B, h, w) of a batch."""
        start = time.perf_counter()
        batch, places = scored.batch, scored.places
        unit_names = _unit_names(batch, self.units, self.unit_names)
        scores, masks = self.entry.protocol.prepare(maps, batch.mask, batch.label)
        for metric in (self.pixel, self.image, self.image_top):
            metric.to(maps.device)
        ignored = ignored_pixels(batch, masks)
        self.pixel.update(scores, masks, unit_names, ignored=ignored)
        counting = self._counting_pixels(maps, scores, masks, ignored)
        self.image.update(image_scores(counting), batch.label)
        self.image_top.update(image_scores(counting, pooling="top_percent"), batch.label)
        if self.detailed:
            for place, (image_map, mask) in enumerate(zip(scores, masks, strict=True)):
                left = ignored[place]
                if mask is not None:
                    if left is not None:
                        image_map, mask = image_map[~left][None], mask[~left][None]
                    self.images.append(
                        ImageResult(
                            places[place],
                            batch.name[place],
                            batch.group[place],
                            scores_of_image(image_map, mask)["auroc"].value,
                            float(image_map.flatten().quantile(0.99)),
                        )
                    )
        self.seconds += scored.seconds[id(self.scorer)] + time.perf_counter() - start

    def _counting_pixels(
        self,
        maps: Tensor,
        scores: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        ignored: Sequence[Tensor | None],
    ) -> list[Tensor]:
        """The pixels of each image that count, (H, W) or (1, n); also of one left out."""
        whole = with_those_left_out(self.entry.protocol, maps, scores, masks)
        return [
            image_map if left is None or left.all() else image_map[~left][None]
            for image_map, left in zip(whole, ignored, strict=True)
        ]

    def result(self, resamples: int, seed: int) -> ScorerResult:
        """Everything about the images of all processes; the counts are freed."""
        with self.pixel.gathered():
            pixel = self.pixel.result(threshold=self.threshold)
        self.pixel.reset()
        with self.image.gathered(), self.image_top.gathered():
            image, image_top = self.image.area(), self.image_top.area()
        intervals: dict[str, Interval] = {}
        if pixel.units is not None:
            values = {name: score.value for name, score in pixel.scores.items()}
            intervals = bootstrap_intervals(
                pixel.units, values=values, resamples=resamples, seed=seed
            )
        shares = gather((self.images, self.seconds))
        images = sorted((image for share, _ in shares for image in share), key=lambda i: i.index)
        seconds = sum(seconds for _, seconds in shares)
        entry = self.entry
        return ScorerResult(
            entry.name,
            entry.protocol,
            pixel,
            image,
            image_top,
            intervals,
            images,
            seconds,
        )


class AreaCounter:
    """The exact pixel AUROC of one scorer under one protocol, and nothing else."""

    def __init__(self, entry: Entry) -> None:
        """Start empty."""
        self.entry = entry
        self.scorer = entry.scorer
        self.pixel = _pixel_counts()

    def add(self, maps: Tensor, scored: ScoredBatch) -> None:
        """Count maps (B, h, w) of a batch."""
        batch = scored.batch
        scores, masks = self.entry.protocol.prepare(maps, batch.mask, batch.label)
        self.pixel.to(maps.device)
        self.pixel.update(scores, masks, ignored=ignored_pixels(batch, masks))

    def area(self) -> LocalizationScore:
        """The AUROC over the images of all processes; the counts are freed."""
        with self.pixel.gathered():
            found = auroc(self.pixel.threshold_counts())
        self.pixel.reset()
        return found


def _pixel_counts(*, regions: bool = False, units: Units = "none") -> Any:
    """Counts of pixels: those of a ``Metric`` where there are processes to gather.

    The import of torchmetrics takes seconds and hundreds of megabytes.
    """
    if dist.is_initialized():
        from captum_vae.metrics.localization.metric import PixelAUROC

        return PixelAUROC(regions=regions, units=units)
    return PixelCounts(regions=regions, units=units)


def _image_counts() -> Any:
    """Scores and labels of images: those of a ``Metric`` where there are processes to gather."""
    if dist.is_initialized():
        from captum_vae.metrics.localization.metric import ImageAUROC

        return ImageAUROC()
    return ImageCounts()


def ignored_pixels(batch: SampleBatch, masks: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The pixels whose truth does not count, at the sizes of the prepared masks."""
    return [
        None
        if pixels is None or mask is None
        else resize_mask(pixels, (mask.shape[0], mask.shape[1])).to(mask.device) & ~mask
        for pixels, mask in zip(batch.ignored or [None] * len(masks), masks, strict=True)
    ]


def with_those_left_out(
    protocol: Protocol, maps: Tensor, scores: Sequence[Tensor], masks: Sequence[Tensor | None]
) -> list[Tensor]:
    """The prepared maps, those of images that were left out smoothed like the others.

    Args:
        protocol: What prepared them.
        maps: (B, h, w) as the scorer gave them.
        scores: B prepared maps (H, W); that of an image left out is as it was.
        masks: B prepared masks, None where the image was left out.
    """
    own = (maps.shape[1], maps.shape[2])
    return [
        protocol.transform(maps[place : place + 1], own)[0] if mask is None else score
        for place, (score, mask) in enumerate(zip(scores, masks, strict=True))
    ]


def _unit_names(batch: SampleBatch, units: Units, seen: dict[str, int]) -> list[str]:
    """What the bootstrap resamples, by name; images of the same name are told apart."""
    if units == "groups":
        if not all(batch.group):
            raise ValueError(
                "units='groups' resamples clips, which test does not name; give Samples with a "
                "group, or choose units='images'"
            )
        return batch.group
    names = []
    for name in batch.name:
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
