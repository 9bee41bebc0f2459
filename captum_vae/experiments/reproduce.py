"""``captum-vae reproduce``: a published experiment, its figures beside ours, and a verdict."""

import importlib
import os
import time
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

from captum_vae.experiments.pages import write_results
from captum_vae.experiments.results import Experiment, Scale
from captum_vae.experiments.work import Work
from captum_vae.posterior import CollapsedPosteriorWarning
from captum_vae.provenance import run_record
from captum_vae.training.configuration import Accelerator
from captum_vae.training.logs import say
from captum_vae.training.random_state import seed_everything

Name = Literal["mnist", "ucsd", "mvtec", "dsprites"]


def reproduce(
    experiment: Name,
    *,
    scale: Scale = "cpu",
    data: str | None = None,
    out: str | None = None,
    models: str | None = None,
    seed: int = 0,
    device: Accelerator = "auto",
    report_json: str | None = None,
) -> None:
    """Run a published experiment and say which of its claims our numbers confirm or refute.

    Writes ``index.html`` with its figures, ``results.json``, ``results.md``, a CSV file per table
    and an SVG file per chart in ``charts/``. Run the same command again to continue; what has
    finished is not repeated.

    Args:
        experiment: mnist, ucsd, mvtec or dsprites.
        scale: smoke shows in a minute that all runs, cpu measures what a laptop can, paper takes
            the published settings.
        data: folder that holds mnist/, ucsd/, mvtec_ad/; by default that of the environment
            variable CAPTUM_VAE_DATA. Without either, and at scale smoke, rendered and
            scikit-learn's data stand in; dsprites is always rendered.
        out: folder to write to; captum-vae-NAME-SCALE by default.
        models: folder of trained models, which experiments may share; OUT/models by default.
        seed: of weights, batches, sampling noise and synthetic defects.
        device: auto, cpu or cuda.
        report_json: also write the results to this file.

    Raises:
        ValueError: an option out of range.
        FileNotFoundError: the data are not there.
    """
    started = time.perf_counter()
    if seed < 0:
        raise ValueError(f"seed is {seed}; wanted 0 or more")
    value = load_experiment(experiment)
    if data and (scale == "smoke" or experiment == "dsprites"):
        say(f"data is not read by {experiment} at scale {scale}, whose images need no folder")
    folder = Path(out or f"captum-vae-{experiment}-{scale}")
    work = Work(folder, Path(models) if models else folder / "models", device, seed)
    folder.mkdir(parents=True, exist_ok=True)
    seed_everything(seed)
    with warnings.catch_warnings():
        # The page lists the active dimensions of every model; a warning per batch adds nothing.
        warnings.simplefilter("ignore", CollapsedPosteriorWarning)
        findings = value.run(value.settings[scale], data_folder(scale, data), work)
    facts: dict[str, Any] = {
        "trainings": work.trainings,
        **run_record(work.device, seed=seed, code=work.code),
        "seconds": round(time.perf_counter() - started, 1),
    }
    results = value.results(scale, findings, facts)
    page = write_results(results, folder, Path(report_json) if report_json else None)
    for claim in results["claims"]:
        say(f"{claim['verdict']}: {claim['text']}\n    {claim['because']}")
    say(f"done in {time.perf_counter() - started:.0f} s: open {page}")


def load_experiment(name: str) -> Experiment[Any]:
    """The experiment of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in get_args(Name):
        raise ValueError(f"experiment is {name!r}; wanted one of {', '.join(get_args(Name))}")
    module = importlib.import_module(f"captum_vae.experiments.{name}")
    experiment: Experiment[Any] = module.EXPERIMENT
    return experiment


def data_folder(scale: Scale, data: str | None) -> Path | None:
    """The folder of data sets; None where rendered and scikit-learn's data stand in.

    Raises:
        FileNotFoundError: a folder was named that is not there.
    """
    named = data or os.environ.get("CAPTUM_VAE_DATA")
    if scale == "smoke" or not named:
        return None
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; wanted one that holds mnist/, ucsd/ or mvtec_ad/, from --data "
            "or the environment variable CAPTUM_VAE_DATA"
        )
    return folder
