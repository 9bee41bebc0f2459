"""``captum-vae reproduce``: a published experiment, its figures beside ours, and a verdict."""

from __future__ import annotations

from typing import Literal

from captum_vae.experiments.specification import Budget
from captum_vae.training.configuration import Accelerator

ExperimentName = Literal["mnist", "ucsd", "mvtec", "dsprites"]


def reproduce(
    experiment: ExperimentName,
    *,
    scale: Budget = "cpu",
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
        experiment: One of mnist, ucsd, mvtec and dsprites.
        scale: Budget: smoke shows in a minute that all runs, cpu measures what a laptop can, paper
            takes the published settings.
        data: Folder that holds mnist/, ucsd/, mvtec_ad/; by default that of the environment
            variable CAPTUM_VAE_DATA. Without either, and at scale smoke, rendered and
            scikit-learn's data stand in; dsprites is always rendered.
        out: Folder to write to; captum-vae-NAME-SCALE by default.
        models: Folder of trained models, which experiments may share; OUT/models by default.
        seed: Seed of weights, batches, sampling noise and synthetic defects.
        device: Where to run: auto, cpu or cuda.
        report_json: A second file for the results.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range, or another run writes to the folder.
        FileNotFoundError: The data are not there.
    """
    from captum_vae.data.listing import as_path
    from captum_vae.experiments.reproduce import run_published

    folder = as_path("out", out or f"captum-vae-{experiment}-{scale}")
    run_published(
        experiment,
        scale,
        data=as_path("data", data) if data else None,
        out=folder,
        models=as_path("models", models) if models else folder / "models",
        seed=seed,
        device=device,
        report_json=as_path("report_json", report_json) if report_json else None,
    )
