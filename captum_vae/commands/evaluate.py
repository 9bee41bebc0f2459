"""``captum-vae evaluate``: a table of scorers on a test set, from one configuration."""

from __future__ import annotations

import inspect
import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from captum_vae.checks import whole_number
from captum_vae.commands.model_source import ModelSource
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.protocol import Protocol, check_smoothing
from captum_vae.progress import Progress
from captum_vae.training.configuration import LARGEST_SEED, Accelerator, DataConfig

if TYPE_CHECKING:
    from torch import nn

    from captum_vae.localization.choosing import Choice
    from captum_vae.localization.evaluation import Evaluation
    from captum_vae.localization.image_batches import ImageBatches
    from captum_vae.localization.layer_scorers import LatentAttention
    from captum_vae.metrics.activity import ActiveDimensions
    from captum_vae.posterior import PosteriorAdapter

CHOSEN = "latent attention (chosen without labels)"
CONTROL = "control: the chosen, without latent weights"
ORACLE = "latent attention (oracle choice on test labels)"


@dataclass
class ScorerConfig:
    """One line of the table.

    Attributes:
        name: A registered scorer (captum-vae plugins lists them).
        options: Arguments of the scorer.
        smoothing: Standard deviation of a Gaussian over its maps, in pixels of the mask; left out,
            it is that of the chosen variant, or of the protocol when none is chosen.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    smoothing: float | None = None


def evaluate(
    model: ModelSource,
    normal: DataConfig,
    test: DataConfig,
    scorers: dict[str, ScorerConfig],
    *,
    out: str,
    protocol: Protocol | None = None,
    choose_among: Candidates | None = None,
    oracle_images: int = 200,
    normal_images: int = 500,
    batch_size: int = 16,
    workers: int = 0,
    units: Literal["images", "groups"] = "images",
    resamples: int = 1000,
    seed: int = 0,
    accelerator: Accelerator = "auto",
    report: Literal["html", "none"] = "html",
    shown: int = 6,
    progress: Progress = "auto",
    report_json: str | None = None,
) -> None:
    """Score a test set with several anomaly scorers and write table, report and JSON.

    Under torchrun every process scores its share; the counts are those of a single process.

    Args:
        model: A checkpoint, or your own model by import path.
        normal: Normal training images, which scorers are fitted on.
        test: Test images with masks.
        scorers: The table's lines by title.
        out: Folder for results.json, table.csv, table.md and index.html.
        protocol: How maps are compared with masks.
        choose_among: Variants of latent attention, of which one is chosen on synthetic defects
            painted on normal images, without test labels; it is added to the table with its
            control.
        oracle_images: Test images at most, evenly spaced, on which all variants are measured, to
            add the one that the test labels would have chosen; 0 skips it.
        normal_images: Normal images at most, evenly spaced, that scorers are fitted on.
        batch_size: Images per pass.
        workers: Processes that load images.
        units: What intervals resample; images, or groups (clips of a video).
        resamples: How many resamples intervals are made of.
        seed: Seed of the synthetic defects and of the resamples.
        accelerator: Where to compute; auto takes a CUDA device where there is one.
        report: html writes a page as well as the tables; none writes the tables alone.
        shown: Worst and best images on the page, each.
        progress: Whether bars are shown; auto shows them on a terminal only.
        report_json: A second file for the results.

    Raises:
        ValueError: A name is unknown, an option out of range, or a model cannot be read.
        FileNotFoundError: The checkpoint or the data are not there.
    """
    from captum_vae.commands.model_source import source_model
    from captum_vae.data.loading import naming_dead_loaders
    from captum_vae.files import holding
    from captum_vae.localization.choosing import candidate_scorers, choose
    from captum_vae.localization.evaluation_page import write_evaluation_page
    from captum_vae.localization.image_batches import ImageBatches
    from captum_vae.localization.measuring import benchmark
    from captum_vae.localization.samples import SampleSubset, evenly_spaced
    from captum_vae.posterior import as_adapter
    from captum_vae.progress import progress_bar
    from captum_vae.provenance import run_record
    from captum_vae.training.devices import start_fabric

    _check(scorers, choose_among)
    for name, value, least in (
        ("oracle_images", oracle_images, 0),
        ("normal_images", normal_images, 1),
        ("batch_size", batch_size, 1),
        ("workers", workers, 0),
        ("resamples", resamples, 1),
        ("shown", shown, 0),
    ):
        whole_number(name, value, least=least)
    whole_number("seed", seed, least=0, most=LARGEST_SEED)
    protocol = protocol or Protocol()
    fabric = start_fabric(accelerator, "float32")
    first = fabric.global_rank == 0
    with naming_dead_loaders(), holding(out) if first else nullcontext():
        vae = source_model(model).to(fabric.device).eval()
        adapter = as_adapter(vae, model.posterior)
        training, testing = _samples(normal, "normal"), _samples(test, "test")
        fitted_on = SampleSubset(training, evenly_spaced(range(len(training)), normal_images))
        passes: dict[str, Any] = {
            "batch_size": batch_size,
            "device": fabric.device,
            "progress": progress if first else "off",
        }
        lines: dict[str, tuple[Any, Protocol]] = {}
        choice, sigma = None, protocol.smoothing
        if choose_among is not None:
            choose_among = replace(choose_among, seed=seed)
            variants = candidate_scorers(choose_among, vae, posterior=adapter, protocol=protocol)
            choice = choose(variants, training, choose_among, normal_images=normal_images, **passes)
            lines[CHOSEN] = variants[choice.name]
            scorer, chosen_protocol = variants[choice.name]
            sigma = chosen_protocol.smoothing
            if scorer.baselines != "none":
                lines[CONTROL] = (_control(scorer), chosen_protocol)
        for title, config in scorers.items():
            own = sigma if config.smoothing is None else config.smoothing
            built = build_scorer(title, config, vae, adapter)
            lines[title] = (built, replace(protocol, smoothing=own))
        passes["workers"] = workers
        if choice is not None and oracle_images:
            looked_at = SampleSubset(testing, evenly_spaced(range(len(testing)), oracle_images))
            on_test = {
                name: (scorer, replace(own_protocol, threshold="oracle"))
                for name, (scorer, own_protocol) in variants.items()
            }
            measured = benchmark(on_test, fitted_on, looked_at, units="none", **passes)
            choice = choice.beside_oracle(measured, len(looked_at))
            lines[ORACLE] = variants[choice.oracle]
        main = next(iter(lines))
        evaluation = benchmark(
            lines,
            fitted_on,
            testing,
            against=[(main, name) for name in lines if name not in (main, ORACLE)],
            units=units,
            resamples=resamples,
            seed=seed,
            per_image=[main],
            **passes,
        )
        if not first:
            return
        active = measure_active(
            ImageBatches(
                fitted_on,
                "normal",
                batch_size=batch_size,
                workers=workers,
                device=fabric.device,
                bar=progress_bar(progress),
            ),
            adapter,
        )
        facts = {
            **run_record(fabric.device, seed=seed),
            "processes": fabric.world_size,
            "model": asdict(model)
            | {"class": type(vae).__name__, "posterior_read_by": repr(adapter)},
            "normal": asdict(normal)
            | {"images": len(fitted_on), "of": len(training), "read": training.describe()},
            "test": asdict(test) | {"images": len(testing), "read": testing.describe()},
            "active_dimensions": None if active is None else active.to_dict(),
            "scorers": {title: asdict(config) for title, config in scorers.items()},
            "choice": None if choice is None else choice.to_dict(),
            "candidates": None if choose_among is None else asdict(choose_among),
        }
        write_tables(Path(out), evaluation, facts, report_json)
        print("\n".join([evaluation.table.text(), *evaluation.undefined, *_words(choice)]))
        if report == "html":
            page = write_evaluation_page(
                out,
                evaluation,
                lines[main][0],
                testing,
                device=fabric.device,
                count=shown,
                choice=_words(choice),
                facts=_fact_lines(facts, active),
            )
            print(f"report: {page}")
        print(f"results: {Path(out) / 'results.json'}")


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
    from captum_vae.files import write_json, write_text

    results = {**facts, **evaluation.to_dict()}
    write_json(folder / "results.json", results)
    if report_json:
        write_json(report_json, results)
    write_text(folder / "table.csv", evaluation.to_csv())
    write_text(folder / "table.md", evaluation.to_markdown())


def build_scorer(title: str, config: ScorerConfig, model: nn.Module, adapter: Any) -> Any:
    """A registered scorer with its options.

    Args:
        title: The table's line, for messages.
        config: Name and options.
        model: The VAE.
        adapter: Reads its posterior.

    Raises:
        ValueError: There is no such scorer, or it does not take the options.
    """
    from captum_vae.plugins import Registry

    factory = Registry("scorers").load(config.name)
    try:
        inspect.signature(factory).bind(model, posterior=adapter, **config.options)
        return factory(model, posterior=adapter, **config.options)
    except TypeError as error:
        raise ValueError(
            f"scorers.{title}: the options of the scorer {config.name!r} do not fit: {error}"
        ) from error


def measure_active(normal: ImageBatches, adapter: PosteriorAdapter) -> ActiveDimensions | None:
    """The active dimensions over the normal images; None when the log-variance is unknown."""
    import torch

    from captum_vae.metrics.activity import ActiveDimensionAccumulator

    accumulator = ActiveDimensionAccumulator()
    with torch.no_grad():
        for images in normal.images("active dimensions"):
            posterior = adapter.prepare(images)(images)
            mean, log_variance = posterior.unpooled or (posterior.mean, posterior.log_variance)
            if log_variance is None:
                return None
            accumulator.update(mean, log_variance)
    active = accumulator.compute()
    active.warn_if_collapsed()
    return active


def _check(scorers: dict[str, ScorerConfig], choose_among: Candidates | None) -> None:
    """Refuse what can be refused before anything is read."""
    if not scorers and choose_among is None:
        raise ValueError("scorers is empty and nothing is to be chosen; name at least one scorer")
    for title, config in scorers.items():
        if config.smoothing is not None:
            check_smoothing(f"scorers.{title}.smoothing", config.smoothing)
        if choose_among is not None and title in (CHOSEN, CONTROL, ORACLE):
            raise ValueError(
                f"scorers holds {title!r}, the title of a line that choose_among adds; choose "
                "another title"
            )


def _samples(config: DataConfig, argument: str) -> Any:
    from captum_vae.localization.samples import as_samples
    from captum_vae.training.building import build_dataset

    samples = as_samples(build_dataset(config, argument), argument)
    if not len(samples):
        raise ValueError(f"{argument} is empty; wanted at least one image")
    return samples


def _control(chosen: LatentAttention) -> Any:
    """The chosen variant without latent weights."""
    from captum_vae.localization.layer_scorers import FeatureDifference

    return FeatureDifference(
        chosen.model,
        chosen.layers,
        baselines=chosen.baselines,
        scale=chosen.scale,
        posterior=chosen.adapter,
    )


def _words(choice: Choice | None) -> list[str]:
    return [] if choice is None else choice.lines()


def _fact_lines(facts: dict[str, Any], active: ActiveDimensions | None) -> list[tuple[str, str]]:
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
