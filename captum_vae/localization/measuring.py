"""The one way to measure anomaly scorers: fit them, score a test set in one pass, compare."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch
import torch.distributed as dist
from torch import Tensor

from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.data.loading import is_of_a_dead_loader, naming_dead_loaders
from captum_vae.data.resize import resize_mask
from captum_vae.data.sample import SampleBatch
from captum_vae.localization.entries import (
    Entry,
    Scorers,
    check_mode,
    common_device,
    entries_of,
    known_names,
    pairs_of,
)
from captum_vae.localization.evaluation import Evaluation
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer_result import ImageResult, ScorerResult
from captum_vae.localization.scoring import fit_scorers, score_batch
from captum_vae.metrics.localization.bootstrap import (
    Interval,
    PairedDifference,
    bootstrap_intervals,
    paired_difference,
)
from captum_vae.metrics.localization.counts import ScoreCounts
from captum_vae.metrics.localization.images import ImageAUROC, scores_of_image
from captum_vae.metrics.localization.metric import PixelMetrics, Units
from captum_vae.metrics.localization.units import UnitTable
from captum_vae.progress import Progress, progress_bar


def benchmark(
    scorers: Scorers,
    normal: Any,
    test: Any,
    *,
    protocol: Protocol | None = None,
    against: str | Sequence[str | tuple[str, str]] = (),
    units: Units = "images",
    resamples: int = 1000,
    seed: int = 0,
    per_image: Sequence[str] = (),
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    progress: Progress = "auto",
) -> Evaluation:
    """Fit anomaly scorers on normal images and measure how well they localize on test images.

    All scorers are measured in one pass over the test images, in bounded memory, and those that
    read the same model share its calls. Thresholds come from the normal images. Under
    torch.distributed give every process the same arguments: each scores its share of the test
    images, and all get the numbers that one process would have found.

    Example::

        scorers = {"error": ReconstructionError(vae), "attention": LatentAttention(vae, "conv2")}
        print(benchmark(scorers, normal, test, against="attention"))

    Args:
        scorers: Scorers by their names in the table. A tuple (scorer, protocol) gives one a
            protocol of its own; several may share a scorer, which then scores each image once.
        normal: Normal images that scorers and thresholds are fitted on: a data set of
            :class:`~captum_vae.data.Sample` or of tensors, a DataLoader or list of batches, or a
            tensor (N, C, H, W). Images are as the model takes them.
        test: Test images with masks: a data set of Samples or of (image, mask) pairs, a DataLoader
            or list of batches of them, or tensors (images, masks). A mask is (H, W), of any size,
            True on anomalous pixels, and None where the truth is unknown.
        protocol: How maps are compared with masks; None takes ``Protocol()``.
        against: What is tested by paired bootstrap: the name of a scorer compares it with every
            other one, and a pair of names those two. Differences are first minus second.
        units: What intervals resample: "images", "groups" (the clips or kinds that Samples name),
            or "none" for no intervals.
        resamples: How many resamples intervals are made of.
        seed: Seed of the resamples.
        per_image: Names of scorers whose results list every image.
        batch_size: Images per pass; a DataLoader or list has batches of its own.
        workers: Processes that load the images of a data set.
        device: Where images go; None takes the device of the scorers' models.
        progress: Whether bars are shown; "auto" shows them on a terminal only.

    Returns:
        The table, which prints. What is undefined is NaN with its reason.

    Raises:
        TypeError: An argument is of the wrong type, such as an iterator instead of a data set.
        ValueError: An option is out of its range, ``normal`` or ``test`` is empty, a name in
            ``against`` is no scorer's, a model is in training mode, or a scorer gives maps that
            cannot be measured.
        ChildProcessError: A process that loads images died.
    """
    entries = entries_of(scorers, protocol)
    names = [entry.name for entry in entries]
    check_choice("units", units, get_args(Units))
    pairs = pairs_of(against, entries, units)
    per_image = known_names("per_image", per_image, names)
    whole_number("resamples", resamples, least=1)
    checked_seed(seed)
    whole_number("batch_size", batch_size, least=1)
    whole_number("workers", workers, least=0)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "workers": workers,
        "device": common_device(device, entries),
        "bar": progress_bar(progress),
    }
    for entry in entries:
        check_mode(entry)
    normal_batches = ImageBatches(normal, "normal", truth=False, **options)
    test_batches = ImageBatches(test, "test", shared=True, **options)

    with naming_dead_loaders():
        with _naming_the_images(normal_batches):
            fit_scorers([entry.scorer for entry in entries], normal_batches, "fitting")
            thresholds = _fit_thresholds(entries, normal_batches)
        counters = [
            _Counter(entry, units, thresholds.get(entry.name), entry.name in per_image)
            for entry in entries
        ]
        with _naming_the_images(test_batches):
            _count(counters, test_batches, units)
    rows = [counter.result(resamples, seed) for counter in counters]
    return Evaluation(rows, _differences(rows, pairs, resamples, seed))


def _count(counters: Sequence[_Counter], test: ImageBatches, units: Units) -> None:
    """Score the test images and count the pixels of their maps."""
    scorers = [counter.entry.scorer for counter in counters]
    names_seen: dict[str, int] = {}
    for places, batch in test.numbered("scoring"):
        unit_names = _unit_names(batch, units, names_seen)
        for scorer, maps, seconds in score_batch(scorers, batch.image):
            for counter in counters:
                if counter.entry.scorer is scorer:
                    counter.add(maps, batch, places, unit_names, seconds)


@contextmanager
def _naming_the_images(batches: ImageBatches) -> Iterator[None]:
    """Say what images a model or a scorer failed on, where PyTorch tells of shapes alone."""
    try:
        yield
    except RuntimeError as error:
        # Not its subclasses: more memory than there is has nothing to do with the images.
        if type(error) is not RuntimeError or is_of_a_dead_loader(error):
            raise
        raise ValueError(
            f"the scorers fail on the images of {batches.argument}, of shape {batches.shape}: "
            f"{' '.join(str(error).split())}"
        ) from error


def _fit_thresholds(entries: Sequence[Entry], normal: ImageBatches) -> dict[str, float]:
    """The thresholds that protocols take from the maps of normal images, by name."""
    counts = {e.name: ScoreCounts() for e in entries if e.protocol.threshold != "oracle"}
    waiting = [entry for entry in entries if entry.name in counts]
    for _, batch in normal.numbered("thresholds") if waiting else ():
        own = (batch.image.shape[2], batch.image.shape[3])
        for scorer, maps, _ in score_batch([entry.scorer for entry in waiting], batch.image):
            for entry in waiting:
                if entry.scorer is not scorer:
                    continue
                for image_map, mask in zip(maps, batch.mask, strict=True):
                    size = own if mask is None else (mask.shape[0], mask.shape[1])
                    counts[entry.name].add(entry.protocol.transform(image_map[None], size))
    return {e.name: counts[e.name].quantile(e.protocol.quantile) for e in waiting}


class _Counter:
    """The metrics of one scorer under one protocol, fed batch by batch."""

    def __init__(self, entry: Entry, units: Units, threshold: float | None, detailed: bool) -> None:
        self.entry = entry
        self.units = units
        self.detailed = detailed
        self.seconds = 0.0
        self.images: list[ImageResult] = []
        self.pixel = PixelMetrics(units=units, threshold=threshold)
        self.image = ImageAUROC()

    def add(
        self,
        maps: Tensor,
        batch: SampleBatch,
        places: Sequence[int],
        unit_names: Sequence[str],
        seconds: float,
    ) -> None:
        """Count a batch.

        Args:
            maps: The scorer's maps (B, h, w).
            batch: The images and their truth.
            places: Places of the images in the test set.
            unit_names: What the bootstrap resamples, by name.
            seconds: What the maps took.
        """
        start = time.perf_counter()
        scores, masks = self.entry.protocol.prepare(maps, batch.mask, batch.label)
        for metric in (self.pixel, self.image):
            metric.to(maps.device)
        ignored = _ignored_pixels(batch, masks)
        self.pixel.update(scores, masks, unit_names, ignored=ignored)
        self.image.update(self._image_scores(maps, scores, masks, ignored), batch.label)
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
        self.seconds += seconds + time.perf_counter() - start

    def _image_scores(
        self,
        maps: Tensor,
        scores: Sequence[Tensor],
        masks: Sequence[Tensor | None],
        ignored: Sequence[Tensor | None],
    ) -> Tensor:
        """(B,) maxima over the pixels that count.

        An image left out of the pixels still has one, smoothed like the others.
        """
        own = (maps.shape[1], maps.shape[2])
        whole = [
            self.entry.protocol.transform(maps[place : place + 1], own) if mask is None else score
            for place, (score, mask) in enumerate(zip(scores, masks, strict=True))
        ]
        return torch.stack(
            [
                image_map.amax() if left is None or left.all() else image_map[~left].amax()
                for image_map, left in zip(whole, ignored, strict=True)
            ]
        )

    def result(self, resamples: int, seed: int) -> ScorerResult:
        """Everything about the images of all processes."""
        pixel = self.pixel.compute()
        intervals: dict[str, Interval] = {}
        if pixel.units is not None:
            values = {name: score.value for name, score in pixel.scores.items()}
            intervals = bootstrap_intervals(
                pixel.units, values=values, resamples=resamples, seed=seed
            )
        shares = _gathered((self.images, self.seconds))
        images = sorted((image for share, _ in shares for image in share), key=lambda i: i.index)
        seconds = sum(seconds for _, seconds in shares)
        entry = self.entry
        return ScorerResult(
            entry.name, entry.protocol, pixel, self.image.compute(), intervals, images, seconds
        )


def _ignored_pixels(batch: SampleBatch, masks: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The pixels whose truth does not count, at the sizes of the prepared masks."""
    return [
        None
        if pixels is None or mask is None
        else resize_mask(pixels, (mask.shape[0], mask.shape[1])).to(mask.device) & ~mask
        for pixels, mask in zip(batch.ignored or [None] * len(masks), masks, strict=True)
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


def _differences(
    rows: Sequence[ScorerResult], pairs: Iterable[tuple[str, str]], resamples: int, seed: int
) -> dict[str, PairedDifference]:
    """Paired bootstrap tests of pixel AUROC, by ``first - second``."""
    tables = {row.name: row.pixel.units for row in rows}
    return {
        f"{first} - {second}": _difference(tables[first], tables[second], resamples, seed)
        for first, second in pairs
    }


def _difference(
    first: UnitTable | None, second: UnitTable | None, resamples: int, seed: int
) -> PairedDifference:
    """A paired test; where two scorers did not count the same pixels, NaN with the reason."""
    reason = "no image counts"
    if first is not None and second is not None:
        try:
            return paired_difference(first, second, resamples=resamples, seed=seed)
        except ValueError as error:
            reason = str(error)
    nan = float("nan")
    return PairedDifference("auroc", nan, nan, nan, nan, 0.95, 0, 0, reason)


def _gathered(value: Any) -> list[Any]:
    """One value per process, on every process."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
