"""Running a published experiment: its figures beside ours, and a verdict on each claim."""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from captum_vae.checks import LARGEST_SEED, checked_seed
from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.judging import check_rules
from captum_vae.experiments.pages import write_results
from captum_vae.experiments.specification import Budget
from captum_vae.experiments.work import Work
from captum_vae.files import check_writable, holding
from captum_vae.posterior import CollapsedPosteriorWarning
from captum_vae.progress import stage
from captum_vae.provenance import run_record
from captum_vae.training.configuration import Accelerator
from captum_vae.training.devices import chosen_device
from captum_vae.training.logs import say
from captum_vae.training.random_state import seed_everything

NAMES = ("mnist", "ucsd", "mvtec", "dsprites")


def run_published(
    name: str,
    budget: Budget,
    *,
    data: Path | None,
    out: Path,
    models: Path,
    seed: int,
    device: Accelerator,
    options: Mapping[str, Any] | None = None,
    report_json: Path | None = None,
) -> None:
    """Run an experiment and write its results and pages.

    Args:
        name: The name of the experiment.
        budget: What it may cost.
        data: The folder of data sets; None for that of the environment, or for data that stand in.
        out: The folder to write to, which no other run may be writing to.
        models: The folder of trained models.
        seed: The seed of weights, batches, sampling noise and synthetic defects.
        device: Where to run: auto, cpu or cuda.
        options: What chooses a part of the experiment or its length, by the names of
            :attr:`~captum_vae.experiments.experiment.Experiment.parts`; None leaves a setting of
            the scale as it is.
        report_json: A second file for the results.

    Raises:
        ValueError: An option is out of range, or another run writes to ``out``.
        FileNotFoundError: The data are not there, or scale paper has none.
    """
    started = time.perf_counter()
    # The seeds of paired runs count up from it.
    checked_seed(seed, most=LARGEST_SEED - 100)
    if models.exists() and not models.is_dir():
        raise ValueError(f"models is {models}, a file; wanted a folder of trained models")
    if report_json:
        check_writable(report_json, "report_json")
    experiment = load_experiment(name)
    if budget not in experiment.settings:
        raise ValueError(f"scale is {budget!r}; wanted one of {', '.join(experiment.settings)}")
    if data and (budget == "smoke" or name == "dsprites"):
        stage(f"data is not read by {name} at scale {budget}, whose images need no folder")
    settings = experiment.chosen(budget, options or {})
    chosen_device(device)
    root = data_folder(budget, data, needed=budget == "paper" and experiment.published_data)
    with holding(out), _threads(1 if budget == "smoke" else None), warnings.catch_warnings():
        # The page lists the active dimensions of every model.
        warnings.simplefilter("ignore", CollapsedPosteriorWarning)
        work = Work(out, models, device, seed)
        seed_everything(seed)
        for findings in experiment.run(settings, root, work):
            facts: dict[str, Any] = {
                "trainings": work.trainings,
                **run_record(work.device, seed=seed, code=work.code),
                "seconds": round(time.perf_counter() - started, 1),
            }
            results = experiment.results(budget, settings, findings, facts)
            page = write_results(results, out, report_json)
            if findings.finished and len(set(findings.finished)) > 1:
                say("{} of {} parts are measured: {}".format(*findings.finished, page))
    for claim in results["claims"]:
        say(f"{claim['verdict']}: {claim['text']}\n    {claim['because']}")
    if results["doubts"]:
        say(f"not testable here: {'; '.join(results['doubts'])}")
    say(f"done in {time.perf_counter() - started:.0f} s: open {page}")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """PyTorch on so many threads: waiting for each other costs more than smoke's small tensors."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_experiment(name: str) -> Experiment[Any]:
    """The experiment of that name.

    Raises:
        ValueError: There is none, or one of its claims cannot be judged.
    """
    if name not in NAMES:
        raise ValueError(f"experiment is {name!r}; wanted one of {', '.join(NAMES)}")
    module = importlib.import_module(f"captum_vae.experiments.{name}")
    experiment: Experiment[Any] = module.EXPERIMENT
    check_rules(experiment.specification)
    return experiment


def data_folder(budget: Budget, data: Path | None, *, needed: bool = False) -> Path | None:
    """The folder of data sets; None where rendered and scikit-learn's data stand in.

    Args:
        budget: What the experiment may cost.
        data: The folder that was named; None for that of the environment.
        needed: Whether nothing may stand in.

    Raises:
        FileNotFoundError: A folder was named that is not there, or one is needed and none named.
    """
    named = os.environ.get("CAPTUM_VAE_DATA")
    folder = data or (Path(named).expanduser() if named else None)
    if needed and folder is None:
        raise FileNotFoundError(
            f"data is missing: scale {budget} measures on the published data, in whose place "
            "nothing stands in; wanted a folder that holds mnist/, ucsd/ or mvtec_ad/, from --data "
            "or the environment variable CAPTUM_VAE_DATA. Without data, --scale cpu or smoke run "
            "on images that are drawn"
        )
    if budget == "smoke" or folder is None:
        return None
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is no folder; wanted one that holds mnist/, ucsd/ or mvtec_ad/, from --data "
            "or the environment variable CAPTUM_VAE_DATA"
        )
    return folder
