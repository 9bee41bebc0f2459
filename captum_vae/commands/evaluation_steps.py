"""The steps of ``captum-vae evaluate``: lines of the table, facts beside it, files."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_vae.commands.scorer_option import CHOSEN, CONTROL, RANDOM, ScorerConfig
from captum_vae.data.sample import SampleDataset
from captum_vae.files import write_json, write_text
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.choosing import (
    Choice,
    Variants,
    candidate_scorers,
    choose,
    without_thresholds,
)
from captum_vae.localization.evaluation import Evaluation
from captum_vae.localization.feature_scorers import FeatureDifference
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.layer_scorers import LatentAttention
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.measuring import naming_the_images, pixel_areas
from captum_vae.localization.model_pass import KeptWeights
from captum_vae.localization.pixel_scorers import ConstantMap
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.samples import SampleSubset, as_samples, evenly_spaced
from captum_vae.localization.scoring import fit_scorers
from captum_vae.metrics.activity import ActiveDimensionAccumulator, ActiveDimensions
from captum_vae.plugins import Registry, import_object
from captum_vae.posterior import PosteriorAdapter
from captum_vae.progress import progress_bar
from captum_vae.training.building import build_dataset
from captum_vae.training.configuration import DataConfig

Line = tuple[Any, Protocol]
"""A scorer under a protocol."""


def build_samples(config: DataConfig, argument: str) -> SampleDataset:
    """The data set that an option names.

    Args:
        config: Its name and options.
        argument: The option, for messages.

    Raises:
        ValueError: There is no such data set, it does not take the options, or it is empty.
        TypeError: It holds no images.
    """
    samples = as_samples(build_dataset(config, argument), argument)
    if not len(samples):
        raise ValueError(f"{argument} is empty; wanted at least one image")
    return samples


def choose_lines(
    candidates: Candidates,
    model: nn.Module,
    adapter: PosteriorAdapter,
    protocol: Protocol,
    normal: SampleDataset,
    normal_images: int,
    passes: Mapping[str, Any],
) -> tuple[Variants, Choice, dict[str, Line]]:
    """Choose an anomaly map without test labels.

    Args:
        candidates: The variants.
        model: The VAE.
        adapter: Reads its posterior.
        protocol: The table's, whose smoothing the candidates replace.
        normal: Normal training images.
        normal_images: How many images the variants are fitted on at most.
        passes: How images are passed: batch_size, workers, device, progress.

    Returns:
        All variants, the choice, and the lines of the chosen one and of its controls.
    """
    variants = candidate_scorers(candidates, model, posterior=adapter, protocol=protocol)
    choice = choose(variants, normal, candidates, normal_images=normal_images, **passes)
    scorer, chosen_protocol = variants[choice.name]
    lines: dict[str, Line] = {CHOSEN: (scorer, chosen_protocol)}
    for title, control in _controls(scorer).items():
        lines[title] = (control, chosen_protocol)
    return variants, choice, lines


def _controls(chosen: Any) -> dict[str, Any]:
    """What the latent adds: the chosen map without it, and with weights of other channels."""
    controls: dict[str, Any] = {}
    if isinstance(chosen, LatentAttention):
        # Without a baseline there is no difference of features to be the control.
        if chosen.baselines != "none":
            controls[CONTROL] = FeatureDifference(
                chosen.model,
                chosen.layers,
                baselines=chosen.baselines,
                scale=chosen.scale,
                posterior=chosen.adapter,
            )
        controls[RANDOM] = LatentAttention(
            chosen.model,
            chosen.layers,
            method=chosen.method,
            rectifier=chosen.options.rectifier,
            order=chosen.options.order,
            reduction=chosen.options.reduction,
            weighting=chosen.options.weighting,
            aggregate=chosen.options.aggregate,
            baselines=chosen.baselines,
            weights="shuffled",
            scale=chosen.scale,
            posterior=chosen.adapter,
        )
    elif isinstance(chosen, FeatureDifference) and chosen.baselines == "explained":
        controls[CONTROL] = FeatureDifference(
            chosen.model,
            chosen.layers,
            distance=chosen.distance,
            channel_scale="normal",
            scale=chosen.scale,
            posterior=chosen.adapter,
        )
    return controls


def floor_line(model: nn.Module, adapter: PosteriorAdapter, protocol: Protocol) -> Line:
    """The constant map, which never sees the test image, under the table's protocol.

    Args:
        model: The VAE, of which only the device matters.
        adapter: Reads its posterior.
        protocol: The protocol, with the smoothing of the table's first line.
    """
    return ConstantMap(model, posterior=adapter), protocol


def fit_lines(
    scorers: Iterable[Any], normal: SampleDataset, passes: Mapping[str, Any], weights: KeptWeights
) -> None:
    """Fit the scorers of the table and of the candidates, in passes that all of them share.

    Args:
        scorers: The scorers, perhaps with repeats.
        normal: Normal images to fit on.
        passes: How images are passed: batch_size, workers, device, progress.
        weights: Where channel weights are kept for the thresholds.
    """
    batches = _batches(normal, "normal", passes, truth=False)
    with naming_the_images(batches):
        fit_scorers(list(scorers), batches, "fitting", weights)


def oracle_line(
    choice: Choice,
    variants: Variants,
    test: SampleDataset,
    passes: Mapping[str, Any],
    *,
    lines: Mapping[str, Line],
    most: int,
    store: MapStore,
) -> tuple[Choice, Line]:
    """What the test labels would have chosen.

    Args:
        choice: The choice without labels.
        variants: What it was made from, fitted.
        test: The test images.
        passes: How images are passed: batch_size, workers, device, progress.
        lines: The table's lines, fitted.
        most: Test images that are looked at at most, evenly spaced.
        store: Where the maps of variants and lines are kept for the table, if all test images are
            looked at.

    Returns:
        The choice with what an oracle would have chosen, and the line of the oracle.
    """
    places = evenly_spaced(range(len(test)), most)
    looked_at = SampleSubset(test, places)
    batches = _batches(looked_at, "test", passes, shared=True)
    title, without = "scoring candidates", without_thresholds(variants)
    if len(places) == len(test):
        # One pass for the table too: all of the model's calls are shared.
        besides = [scorer for scorer, _ in lines.values()]
        areas = pixel_areas(without, batches, title, besides=besides, store=store)
    else:
        areas = pixel_areas(without, batches, title)
    choice = choice.beside_oracle(areas, len(looked_at))
    return choice, variants[choice.oracle]


def _batches(
    samples: SampleDataset, argument: str, passes: Mapping[str, Any], **options: Any
) -> ImageBatches:
    bar = progress_bar(passes["progress"])
    given = {name: value for name, value in passes.items() if name != "progress"}
    return ImageBatches(samples, argument, bar=bar, **given, **options)


def scorer_lines(
    scorers: Mapping[str, ScorerConfig],
    model: nn.Module,
    adapter: PosteriorAdapter,
    protocol: Protocol,
    smoothing: float,
) -> dict[str, Line]:
    """The lines that a configuration names.

    Args:
        scorers: Names and options by title.
        model: The VAE.
        adapter: Reads its posterior.
        protocol: The table's.
        smoothing: Sigma of the lines that give none of their own.
    """
    lines: dict[str, Line] = {}
    for title, config in scorers.items():
        sigma = smoothing if config.smoothing is None else config.smoothing
        scorer = build_scorer(title, config, model, adapter)
        lines[title] = (scorer, replace(protocol, smoothing=sigma))
    return lines


def build_scorer(title: str, config: ScorerConfig, model: nn.Module, adapter: Any) -> Any:
    """A registered scorer, or one of the user's at ``package.module:Class``, with its options.

    Args:
        title: The table's line, for messages.
        config: Name and options.
        model: The VAE.
        adapter: Reads its posterior.

    Raises:
        ValueError: There is no such scorer, or it does not take the options.
    """
    if ":" in config.name:
        factory = import_object(config.name, f"scorers.{title}.name")
    else:
        factory = Registry("scorers").load(config.name)
    try:
        inspect.signature(factory).bind(model, posterior=adapter, **config.options)
        return factory(model, posterior=adapter, **config.options)
    except TypeError as error:
        raise ValueError(
            f"scorers.{title}: the options of the scorer {config.name!r} do not fit: {error}"
        ) from error


def measure_active(
    normal: SampleDataset, adapter: PosteriorAdapter, passes: Mapping[str, Any]
) -> ActiveDimensions | None:
    """The active dimensions over the normal images; None when the log-variance is unknown.

    Args:
        normal: Normal images.
        adapter: Reads the model's posterior.
        passes: How images are passed: batch_size, workers, device, progress.
    """
    batches = _batches(normal, "normal", passes, truth=False)
    accumulator = ActiveDimensionAccumulator()
    with torch.no_grad():
        for images in batches.images("active dimensions"):
            posterior = adapter.prepare(images)(images)
            mean, log_variance = posterior.unpooled or (posterior.mean, posterior.log_variance)
            if log_variance is None:
                return None
            accumulator.update(mean, log_variance)
    active = accumulator.compute()
    active.warn_if_collapsed()
    return active


def write_tables(
    folder: Path, evaluation: Evaluation, facts: dict[str, Any], report_json: str | None = None
) -> None:
    """Write results.json (facts and numbers), table.csv and table.md.

    Args:
        folder: Folder of the files; it is created.
        evaluation: The table.
        facts: What was run, on what.
        report_json: A second place for results.json.
    """
    results = {**facts, **evaluation.to_dict()}
    write_json(folder / "results.json", results)
    if report_json:
        write_json(report_json, results)
    write_text(folder / "table.csv", evaluation.to_csv())
    write_text(folder / "table.md", evaluation.to_markdown())


def fact_lines(facts: dict[str, Any], active: ActiveDimensions | None) -> list[tuple[str, str]]:
    """What was run, on what, as pairs of words for the page."""
    counted = "unknown: the log-variance cannot be read"
    if active is not None:
        counted = f"{active.count} of {active.kl.numel()} over {active.images} normal images"
    without_reading = {
        name: {key: value for key, value in facts[name].items() if key != "read"}
        for name in ("normal", "test")
    }
    return [
        ("model", json.dumps(facts["model"])),
        ("posterior, as read", facts["model"]["posterior_read_by"]),
        ("active latent dimensions", counted),
        ("normal images", json.dumps(without_reading["normal"])),
        ("test images", json.dumps(without_reading["test"])),
        *(
            (f"{name} data, {what}", words)
            for name in ("normal", "test")
            for what, words in facts[name]["read"].items()
        ),
        ("command", facts["command"]),
        ("commit", str(facts["commit"])),
        ("machine", ", ".join(f"{k} {v}" for k, v in facts["machine"].items())),
        ("seed", str(facts["seed"])),
    ]
