"""``captum-vae evaluate``: a table of scorers on a test set, from one configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from captum_vae.commands.model_source import ModelSource, source_model
from captum_vae.data.sample import SampleDataset
from captum_vae.localization.choosing import (
    Candidates,
    Chosen,
    choose,
    load,
    ranking,
    spaced,
)
from captum_vae.localization.evaluation import (
    Evaluation,
    Row,
    compare,
    fit_rows,
    fit_thresholds,
    layers_of,
    measure_rows,
)
from captum_vae.localization.layer_scorers import FeatureDifference, LatentAttention
from captum_vae.localization.model_pass import NormalImages
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.tables import aligned, markdown, text_table, to_csv
from captum_vae.metrics.activity import ActiveDimensionAccumulator, ActiveDimensions
from captum_vae.plugins import Registry
from captum_vae.posterior import PosteriorAdapter, as_adapter
from captum_vae.provenance import run_record
from captum_vae.training.building import build_dataset
from captum_vae.training.configuration import Accelerator, DataConfig
from captum_vae.training.devices import start_fabric

CHOSEN = "latent attention (chosen without labels)"
CONTROL = "control: the chosen, without latent weights"
ORACLE = "latent attention (oracle choice on test labels)"


@dataclass
class ScorerConfig:
    """One line of the table.

    Attributes:
        name: of a registered scorer (captum-vae plugins lists them).
        options: its arguments.
        smoothing: sigma in pixels of the mask; left out, that of the chosen variant, or of the
            protocol when none is chosen.
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
    progress: Literal["auto", "on", "off"] = "auto",
    report_json: str | None = None,
) -> None:
    """Score a test set with several anomaly scorers and write table, report and JSON.

    Under torchrun every process scores its share; the counts are those of a single process.

    Args:
        model: a checkpoint, or your own model by import path.
        normal: normal training images, which scorers are fitted on.
        test: test images with masks.
        scorers: the table's lines by title.
        out: folder for results.json, table.csv, table.md and index.html.
        protocol: how maps are compared with masks.
        choose_among: variants of latent attention, of which one is chosen on synthetic defects
            painted on normal images, without test labels; it is added to the table with its
            control.
        oracle_images: of the test set at most, evenly spaced, on which all variants are measured,
            to add the one that the test labels would have chosen; 0 skips it.
        normal_images: how many normal images scorers are fitted on at most, evenly spaced.
        batch_size: images per pass.
        workers: processes that load images.
        units: what intervals resample: images, or groups (clips of a video).
        resamples: of the bootstrap.
        seed: of the synthetic defects and the bootstrap.
        accelerator: auto, cpu or cuda.
        report: html needs the report extra; none writes the tables alone.
        shown: worst and best images in the report.
        progress: auto shows bars on a terminal only.
        report_json: also write the results to this file.

    Raises:
        ValueError: an unknown name, an option out of range, a model that cannot be read.
        FileNotFoundError: checkpoint or data are not there.
    """
    if not scorers and choose_among is None:
        raise ValueError("scorers is empty and nothing is to be chosen; name at least one scorer")
    protocol = protocol or Protocol()
    fabric = start_fabric(accelerator, "float32")
    vae = source_model(model).to(fabric.device).eval()
    adapter = as_adapter(vae, model.posterior)
    bars = _bars(progress if fabric.global_rank == 0 else "off")
    work = _Work(vae, adapter, fabric.device, batch_size, workers, bars)
    training, testing = _samples(normal, "normal"), _samples(test, "test")
    fitted_on = Chosen(training, spaced(range(len(training)), normal_images))

    def share(dataset: SampleDataset) -> list[int]:
        return list(range(fabric.global_rank, len(dataset), fabric.world_size))

    rows: list[Row] = []
    choice, sigma = None, protocol.smoothing
    if choose_among is not None:
        choose_among = replace(choose_among, seed=seed)
        candidates = choose_among.rows(vae, adapter, protocol)
        choice = choose(
            candidates,
            training,
            choose_among,
            model=vae,
            adapter=adapter,
            batch_size=batch_size,
            device=fabric.device,
            normal_images=normal_images,
            progress=bars,
        )
        chosen = _named(candidates, choice.name)
        sigma = chosen.protocol.smoothing
        rows += [replace(chosen, name=CHOSEN), *_control(chosen)]
    for title, config in scorers.items():
        own_sigma = sigma if config.smoothing is None else config.smoothing
        own_protocol = replace(protocol, smoothing=own_sigma)
        rows.append(Row(title, build_scorer(config, vae, adapter), own_protocol))
    if choice is not None and oracle_images:
        looked_at = Chosen(testing, spaced(range(len(testing)), oracle_images))
        fit_rows(candidates, work.normal(fitted_on, layers_of(candidates)))
        loaded = work.load(Chosen(looked_at, share(looked_at)))
        measured = measure_rows(
            candidates, loaded, device=fabric.device, units="none", progress=bars
        )
        choice = choice.beside_oracle(ranking(measured), len(looked_at))
        rows.append(replace(_named(candidates, choice.oracle), name=ORACLE))

    fit_rows(rows, work.normal(fitted_on, layers_of(rows)))
    own = share(testing)
    evaluation = measure_rows(
        rows,
        work.load(Chosen(testing, own)),
        device=fabric.device,
        indices=own,
        thresholds=fit_thresholds(rows, work.load(fitted_on), device=fabric.device, progress=bars),
        detailed=[rows[0].name],
        units=units,
        resamples=resamples,
        seed=seed,
        progress=bars,
    )
    pairs = [(rows[0].name, row.name) for row in rows[1:] if row.name != ORACLE]
    evaluation = compare(evaluation, pairs, resamples=resamples, seed=seed)
    if fabric.global_rank:
        return
    active = measure_active(work.normal(fitted_on, ()), adapter)
    facts = {
        **run_record(fabric.device, seed=seed),
        "processes": fabric.world_size,
        "model": asdict(model) | {"class": type(vae).__name__, "posterior_read_by": repr(adapter)},
        "normal": asdict(normal) | {"images": len(fitted_on), "of": len(training)},
        "test": asdict(test) | {"images": len(testing)},
        "active_dimensions": None if active is None else active.to_dict(),
        "scorers": {title: asdict(config) for title, config in scorers.items()},
        "choice": None if choice is None else choice.to_dict(),
        "candidates": None if choose_among is None else asdict(choose_among),
    }
    chosen_how = [] if choice is None else choice.lines()
    write_tables(Path(out), evaluation, facts, report_json)
    print("\n".join([aligned(*text_table(evaluation)), *chosen_how]))
    if report == "html":
        from captum_vae.localization.shown import write_report

        page = write_report(
            Path(out),
            evaluation,
            rows[0],
            testing,
            device=fabric.device,
            count=shown,
            choice=chosen_how,
            facts=_fact_lines(facts, active),
        )
        print(f"report: {page}")
    print(f"results: {Path(out) / 'results.json'}")


@dataclass(frozen=True)
class _Work:
    """What every pass needs."""

    vae: nn.Module
    adapter: PosteriorAdapter
    device: torch.device
    batch_size: int
    workers: int
    bars: Any

    def load(self, dataset: SampleDataset) -> DataLoader[Any]:
        return load(dataset, self.batch_size, workers=self.workers)

    def normal(self, dataset: SampleDataset, layers: Sequence[str]) -> NormalImages:
        return NormalImages(
            self.load(dataset),
            self.vae,
            self.adapter,
            layers,
            device=self.device,
            progress=lambda batches: iter(self.bars(batches, "fitting")),
        )


def write_tables(
    folder: Path, evaluation: Evaluation, facts: dict[str, Any], report_json: str | None = None
) -> None:
    """Write results.json (facts and numbers), table.csv and table.md.

    Args:
        folder: created if need be.
        evaluation: the table.
        facts: what was run, on what.
        report_json: a second place for results.json.
    """
    text = json.dumps({**facts, **evaluation.to_dict()}, indent=2) + "\n"
    files = {
        folder / "results.json": text,
        folder / "table.csv": to_csv(evaluation),
        folder / "table.md": markdown(evaluation),
        **({Path(report_json): text} if report_json else {}),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def build_scorer(config: ScorerConfig, model: nn.Module, adapter: PosteriorAdapter) -> Any:
    """A registered scorer with its options.

    Raises:
        ValueError: no such scorer, or options it does not take.
    """
    factory = Registry("scorers").load(config.name)
    options = dict(config.options)
    try:
        return factory(model, posterior=adapter, **options)
    except TypeError as error:
        raise ValueError(
            f"the options of the scorer {config.name!r} do not fit: {error}"
        ) from error


def measure_active(normal: NormalImages, adapter: PosteriorAdapter) -> ActiveDimensions | None:
    """The active dimensions over the normal images; None when the log-variance is unknown."""
    accumulator = ActiveDimensionAccumulator()
    with torch.no_grad():
        for images in normal:
            posterior = adapter.prepare(images)(images)
            mean, log_variance = posterior.unpooled or (posterior.mean, posterior.log_variance)
            if log_variance is None:
                return None
            accumulator.update(mean, log_variance)
    active = accumulator.compute()
    active.warn_if_collapsed()
    return active


def _samples(config: DataConfig, argument: str) -> SampleDataset:
    return cast(SampleDataset, build_dataset(config, argument))


def _control(chosen: Row) -> list[Row]:
    """The chosen variant without latent weights, if there is one: it needs a baseline."""
    scorer = chosen.scorer
    assert isinstance(scorer, LatentAttention)
    if scorer.baselines == "none":
        return []
    control = FeatureDifference(
        scorer.model,
        scorer.layers,
        baselines=scorer.baselines,
        scale=scorer.scale,
        posterior=scorer.adapter,
    )
    return [Row(CONTROL, control, chosen.protocol)]


def _named(rows: Sequence[Row], name: str) -> Row:
    return next(row for row in rows if row.name == name)


def _fact_lines(facts: dict[str, Any], active: ActiveDimensions | None) -> list[tuple[str, str]]:
    counted = "unknown: the log-variance cannot be read"
    if active is not None:
        counted = f"{active.count} of {active.kl.numel()} over {active.images} normal images"
    return [
        ("model", json.dumps(facts["model"])),
        ("posterior, as read", facts["model"]["posterior_read_by"]),
        ("active latent dimensions", counted),
        ("normal images", json.dumps(facts["normal"])),
        ("test images", json.dumps(facts["test"])),
        ("command", facts["command"]),
        ("commit", str(facts["commit"])),
        ("machine", ", ".join(f"{k} {v}" for k, v in facts["machine"].items())),
        ("seed", str(facts["seed"])),
    ]


def _bars(progress: str) -> Any:
    hidden: bool | None = None if progress == "auto" else progress == "off"

    def wrap(batches: Iterable[Any], title: str) -> Iterable[Any]:
        return tqdm(batches, desc=title, unit="batch", disable=hidden, leave=False)

    return wrap
