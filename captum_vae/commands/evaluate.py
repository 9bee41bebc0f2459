"""``captum-vae evaluate``: a table of scorers on a test set, from one configuration."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from captum_vae.checks import checked_seed, whole_number
from captum_vae.commands.model_option import ModelSource
from captum_vae.commands.scorer_option import (
    CHOSEN,
    CONTROL,
    FLOOR,
    ORACLE,
    RANDOM,
    ScorerConfig,
)
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.protocol import Protocol, check_smoothing
from captum_vae.training.configuration import Accelerator, DataConfig


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
        choose_among: Anomaly maps of every kind, of which one is chosen on synthetic defects
            painted on normal images, without test labels; it is added to the table with its
            controls.
        oracle_images: Test images at most, evenly spaced, on which all variants are measured, to
            add the one that the test labels would have chosen; 0 skips it.
        normal_images: Normal images at most, evenly spaced, that scorers are fitted on.
        batch_size: Images per pass.
        workers: Processes that load images.
        units: What intervals resample; images, or groups (clips of a video).
        resamples: How many resamples intervals are made of.
        seed: Seed of the synthetic defects and of the resamples.
        accelerator: Where to compute; auto takes a CUDA device where there is one.
        report: With html, a page is written as well as the tables; with none, the tables alone.
        shown: Worst and best images on the page, each.
        report_json: A second file for the results.

    Raises:
        ValueError: A name is unknown, an option out of range, or a model cannot be read.
        FileNotFoundError: The checkpoint or the data are not there.
    """
    from captum_vae.commands.evaluation_steps import (
        build_samples,
        choose_lines,
        fact_lines,
        fit_lines,
        floor_line,
        measure_active,
        oracle_line,
        scorer_lines,
        write_tables,
    )
    from captum_vae.commands.model_source import source_model
    from captum_vae.data.loading import naming_dead_loaders
    from captum_vae.files import check_writable, holding
    from captum_vae.localization.evaluation_page import write_evaluation_page
    from captum_vae.localization.map_store import MapStore
    from captum_vae.localization.measuring import benchmark
    from captum_vae.localization.model_pass import KeptWeights
    from captum_vae.localization.samples import SampleSubset, evenly_spaced
    from captum_vae.posterior import as_adapter
    from captum_vae.processes import process_count, rank
    from captum_vae.progress import Progress, stage
    from captum_vae.provenance import run_record
    from captum_vae.training.devices import join_processes

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
    checked_seed(seed)
    if report_json is not None:
        check_writable(report_json, "report_json")
    protocol = protocol or Protocol()
    on = join_processes(accelerator)
    first = rank() == 0
    shown_progress: Progress = "auto" if first else "off"
    with (
        naming_dead_loaders(),
        holding(out) if first else nullcontext(),
        MapStore() as store,
    ):
        vae = source_model(model).to(on).eval()
        adapter = as_adapter(vae, model.posterior)
        training, testing = build_samples(normal, "normal"), build_samples(test, "test")
        fitted_on = SampleSubset(training, evenly_spaced(range(len(training)), normal_images))
        passes: dict[str, Any] = {
            "batch_size": batch_size,
            "workers": workers,
            "device": on,
            "progress": shown_progress,
        }
        lines: dict[str, tuple[Any, Protocol]] = {}
        weights: KeptWeights = {}
        choice, smoothing = None, protocol.smoothing
        if choose_among is not None:
            choose_among = replace(choose_among, seed=seed)
            variants, choice, lines = choose_lines(
                choose_among, vae, adapter, protocol, training, normal_images, passes
            )
            smoothing = lines[CHOSEN][1].smoothing
            stage(f"chosen: {choice.name}")
        lines |= scorer_lines(scorers, vae, adapter, protocol, smoothing)
        of_first = next(iter(lines.values()))[1].smoothing
        lines[FLOOR] = floor_line(vae, adapter, replace(protocol, smoothing=of_first))
        candidates = {} if choice is None or not oracle_images else variants
        every = [*lines.values(), *candidates.values()]
        fit_lines([scorer for scorer, _ in every], fitted_on, passes, weights)
        if choice is not None and oracle_images:
            choice, lines[ORACLE] = oracle_line(
                choice, candidates, testing, passes, lines=lines, most=oracle_images, store=store
            )
        main = next(iter(lines))
        evaluation = benchmark(
            lines,
            fitted_on,
            testing,
            against=[(main, name) for name in lines if name not in (main, ORACLE)],
            floor=FLOOR,
            units=units,
            resamples=resamples,
            seed=seed,
            per_image=[main],
            fitted=True,
            store=store,
            weights=weights,
            **passes,
        )
        if not first:
            return
        active = measure_active(fitted_on, adapter, passes)
        facts = {
            **run_record(on, seed=seed),
            "processes": process_count(),
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
        chosen_how = [] if choice is None else choice.lines()
        if choice is not None:
            variants_of = {CHOSEN: choice.name} | (
                {ORACLE: choice.oracle} if choice.on_test else {}
            )
            evaluation = replace(evaluation, candidates=variants_of, choice=chosen_how)
        write_tables(Path(out), evaluation, facts, report_json)
        said = [*evaluation.undefined, *evaluation.floor_lines, *chosen_how]
        print("\n".join([evaluation.table.text(), *said]))
        if report == "html":
            page = write_evaluation_page(
                out,
                evaluation,
                lines[main][0],
                testing,
                device=on,
                count=shown,
                others={title: scorer for title, (scorer, _) in lines.items()},
                batch_size=batch_size,
                progress=shown_progress,
                choice=chosen_how,
                facts=fact_lines(facts, active),
                store=store,
            )
            print(f"report: {page}")
        print(f"results: {Path(out) / 'results.json'}")


def _check(scorers: dict[str, ScorerConfig], choose_among: Candidates | None) -> None:
    """Refuse what can be refused before anything is read."""
    if not scorers and choose_among is None:
        raise ValueError("scorers is empty and nothing is to be chosen; name at least one scorer")
    for title, config in scorers.items():
        if config.smoothing is not None:
            check_smoothing(f"scorers.{title}.smoothing", config.smoothing)
        if title == FLOOR or (
            choose_among is not None and title in (CHOSEN, CONTROL, RANDOM, ORACLE)
        ):
            raise ValueError(
                f"scorers holds {title!r}, the title of a line that evaluate adds; choose another "
                "title"
            )
