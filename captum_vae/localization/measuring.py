"""The one way to measure anomaly scorers: fit them, score a test set in one pass, compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import torch

from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.data.loading import is_of_a_dead_loader, naming_dead_loaders
from captum_vae.localization.counters import AreaCounter, RowCounter, ThresholdCounter
from captum_vae.localization.counting import count_in_turn, score_batches
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
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.model_pass import KeptWeights
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.localization.scorer_result import ScorerResult
from captum_vae.localization.scoring import fit_scorers
from captum_vae.metrics.localization.bootstrap import (
    PairedDifference,
    paired_difference,
)
from captum_vae.metrics.localization.curves import LocalizationScore
from captum_vae.metrics.localization.pixel_counts import Units
from captum_vae.metrics.localization.units import UnitTable
from captum_vae.progress import Progress, progress_bar


def benchmark(
    scorers: Scorers,
    normal: Any,
    test: Any,
    *,
    protocol: Protocol | None = None,
    against: str | Sequence[str | tuple[str, str]] = (),
    floor: str | None = None,
    units: Units = "images",
    resamples: int = 1000,
    seed: int = 0,
    per_image: Sequence[str] = (),
    batch_size: int = 32,
    workers: int = 0,
    device: torch.device | str | None = None,
    fitted: bool = False,
    progress: Progress = "auto",
    store: MapStore | None = None,
    weights: KeptWeights | None = None,
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
        floor: Name of the row that the others have to beat to say anything, such as that of a
            :class:`ConstantMap`; the result says in words which do not.
        units: What intervals resample: "images", "groups" (the clips or kinds that Samples name),
            or "none" for no intervals.
        resamples: How many resamples intervals are made of.
        seed: Seed of the resamples.
        per_image: Names of scorers whose results list every image.
        batch_size: Images per pass; a DataLoader or list has batches of its own.
        workers: Processes that load the images of a data set.
        device: Where images go; None takes the device of the scorers' models.
        fitted: Whether the scorers are fitted already, and are to be measured as they are.
            ``normal`` then serves the thresholds alone.
        progress: Whether bars are shown; "auto" shows them on a terminal only.
        store: Maps of these test images from an earlier pass with the same fitted scorers, which
            are not made again; those made now are added. None makes all maps.
        weights: Channel weights of these normal images from fitting in the same batches, to which
            those found now are added; None for none.

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
    floors = [] if floor is None else known_names("floor", floor, names)
    per_image = known_names("per_image", per_image, names)
    whole_number("resamples", resamples, least=1)
    checked_seed(seed)
    options = pass_options(
        entries, batch_size=batch_size, workers=workers, device=device, progress=progress
    )
    normal_batches = ImageBatches(normal, "normal", truth=False, **options)
    test_batches = ImageBatches(test, "test", shared=True, **options)

    with naming_dead_loaders():
        with naming_the_images(normal_batches):
            if not fitted:
                every = [entry.scorer for entry in entries]
                fit_scorers(every, normal_batches, "fitting", weights)
            thresholds = _fit_thresholds(entries, normal_batches, weights)
        counters = [
            RowCounter(entry, units, thresholds.get(entry.name), entry.name in per_image)
            for entry in entries
        ]
        with naming_the_images(test_batches):
            every = [entry.scorer for entry in entries]
            scored = score_batches(every, test_batches, "scoring", store)
            rows = [counter.result(resamples, seed) for counter in count_in_turn(counters, scored)]
    tests = {m: _differences(rows, pairs, m, resamples, seed) for m in ("auroc", "aupro")}
    below = {}
    for name in floors:
        against_floor = [(row.name, name) for row in rows if row.name != name]
        found = _differences(rows, against_floor, "auroc", resamples, seed).values()
        below = dict(zip((first for first, _ in against_floor), found, strict=True))
    return Evaluation(rows, tests["auroc"], tests["aupro"], floor or "", below)


def pass_options(
    entries: Sequence[Entry],
    *,
    batch_size: int,
    workers: int,
    device: torch.device | str | None,
    progress: Progress,
) -> dict[str, Any]:
    """What :class:`ImageBatches` takes, checked for these scorers, whose models are checked too.

    Args:
        entries: The scorers that will see the images.
        batch_size: Images per pass.
        workers: Processes that load the images of a data set.
        device: Where images go; None takes the device of the scorers' models.
        progress: Whether bars are shown.

    Raises:
        ValueError: A number is out of its range, there is no such device, or a model is in
            training mode.
        TypeError: A number is none.
    """
    whole_number("batch_size", batch_size, least=1)
    whole_number("workers", workers, least=0)
    options = {
        "batch_size": batch_size,
        "workers": workers,
        "device": common_device(device, entries),
        "bar": progress_bar(progress),
    }
    for entry in entries:
        check_mode(entry)
    return options


def pixel_areas(
    scorers: Scorers,
    test: ImageBatches,
    title: str = "scoring",
    *,
    besides: Sequence[AnomalyScorer] = (),
    store: MapStore | None = None,
) -> dict[str, LocalizationScore]:
    """The exact pixel AUROC of many fitted scorers, by name, from one pass over test images.

    Args:
        scorers: Fitted scorers with their protocols, as :func:`benchmark` takes them.
        test: Test images with masks.
        title: Title of the progress bar.
        besides: Fitted scorers whose maps are made in the same pass for the store alone, since
            scorers of one model share its calls.
        store: Where the maps are kept for later passes over these images; None keeps none.
    """
    counters = [AreaCounter(entry) for entry in entries_of(scorers, None)]
    with naming_the_images(test):
        every = [*(counter.scorer for counter in counters), *besides]
        scored = score_batches(every, test, title, store)
        return {c.entry.name: c.area() for c in count_in_turn(counters, scored)}


@contextmanager
def naming_the_images(batches: ImageBatches) -> Iterator[None]:
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


def _fit_thresholds(
    entries: Sequence[Entry], normal: ImageBatches, weights: KeptWeights | None
) -> dict[str, float]:
    """The thresholds that protocols take from the maps of normal images, by name."""
    waiting = [ThresholdCounter(e) for e in entries if e.protocol.threshold != "oracle"]
    if not waiting:
        return {}
    every = [counter.scorer for counter in waiting]
    scored = score_batches(every, normal, "thresholds", weights=weights)
    return {c.entry.name: c.threshold() for c in count_in_turn(waiting, scored)}


def _differences(
    rows: Sequence[ScorerResult],
    pairs: Iterable[tuple[str, str]],
    metric: str,
    resamples: int,
    seed: int,
) -> dict[str, PairedDifference]:
    """Paired bootstrap tests of a pixel metric, by ``first - second``."""
    tables = {row.name: row.pixel.units for row in rows}
    return {
        f"{first} - {second}": _difference(tables[first], tables[second], metric, resamples, seed)
        for first, second in pairs
    }


def _difference(
    first: UnitTable | None, second: UnitTable | None, metric: str, resamples: int, seed: int
) -> PairedDifference:
    """A paired test; where two scorers did not count the same pixels, NaN with the reason."""
    reason = "no image counts"
    if first is not None and second is not None:
        try:
            return paired_difference(first, second, metric, resamples=resamples, seed=seed)
        except ValueError as error:
            reason = str(error)
    nan = float("nan")
    return PairedDifference(metric, nan, nan, nan, nan, 0.95, 0, 0, reason)
