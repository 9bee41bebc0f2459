"""``captum-vae reproduce``: a published experiment, its figures beside ours, and a verdict."""

from __future__ import annotations

from typing import Any, Literal

from captum_vae.attr.options import Rectifier
from captum_vae.experiments.seed_run import FactorInitialization
from captum_vae.experiments.specification import Budget
from captum_vae.experiments.training_variant import TrainingVariant
from captum_vae.losses.options import Aggregation
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
    epochs: float | None = None,
    workers: int | None = None,
    training: TrainingVariant | None = None,
    category: list[str] | None = None,
    weights: dict[int, str] | None = None,
    gamma: list[float] | None = None,
    lambda_: list[float] | None = None,
    seeds: int | None = None,
    aggregation: list[Aggregation] | None = None,
    rectifier: list[Rectifier] | None = None,
    initialization: list[FactorInitialization] | None = None,
    report_json: str | None = None,
) -> None:
    """Run a published experiment and say which of its claims our numbers confirm or refute.

    Says at first what the trainings will take. Writes ``index.html`` with its figures,
    ``results.json``, ``results.md``, a CSV file per table and an SVG file per chart in ``charts/``,
    anew whenever a part has been measured. Run the same command again to continue; what has
    finished is not repeated.

    Args:
        experiment: One of mnist, ucsd, mvtec and dsprites.
        scale: Budget: smoke shows in a minute that all runs, cpu measures what a laptop can, paper
            takes the published settings.
        data: Folder that holds mnist/, ucsd/, mvtec_ad/; by default that of the environment
            variable CAPTUM_VAE_DATA. Without either, and at scale smoke, rendered and
            scikit-learn's data stand in, but never at scale paper; dsprites is always rendered.
        out: Folder to write to; captum-vae-NAME-SCALE by default.
        models: Folder of trained models, which experiments may share; OUT/models by default.
        seed: Seed of weights, batches, sampling noise and synthetic defects.
        device: Where to run: auto, cpu or cuda.
        epochs: Passes over the training images, such as 0.5, in place of the scale's length.
        workers: Processes that load training images; of dsprites, trainings at the same time.
        training: Loss and initialisation of ucsd and mvtec: published (binary cross-entropy,
            PyTorch's initialisation; default at scale paper) or ours (variance of the Gaussian
            learned in closed form, warm-up of the KL, initialisation on data).
        category: Categories of mvtec to train on; all in the folder by default.
        weights: Checkpoints of the authors' code in place of a training of mnist, by digit, such as
            '{1: ones.pth, 3: threes.pth}'.
        gamma: Weights of the total correlation, for dsprites.
        lambda_: Weights of the overlap, for dsprites, also written --lambda; those other than 1 are
            for mean and relu alone, and for gamma 40 alone where the gammas hold it.
        seeds: How many seeds each model of dsprites is trained on, from seed on.
        aggregation: How the overlap of dsprites is aggregated over pairs: mean, sum.
        rectifier: Rectifiers of the maps of dsprites: relu, abs.
        initialization: How weights of dsprites start: pytorch; normal and kaiming are for FactorVAE
            alone, and for gamma 40 alone where the gammas hold it.
        report_json: A second file for the results.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range, the experiment does not have it, or another run
            writes to the folder.
        FileNotFoundError: The data are not there, or scale paper has none.
    """
    from captum_vae.data.listing import as_path
    from captum_vae.experiments.reproduce import run_published

    folder = as_path("out", out or f"captum-vae-{experiment}-{scale}")
    parts: dict[str, Any] = {
        "epochs": epochs,
        "workers": workers,
        "training": training,
        "category": category,
        "weights": weights,
        "gamma": gamma,
        "lambda_": lambda_,
        "seeds": seeds,
        "aggregation": aggregation,
        "rectifier": rectifier,
        "initialization": initialization,
    }
    run_published(
        experiment,
        scale,
        data=as_path("data", data) if data else None,
        out=folder,
        models=as_path("models", models) if models else folder / "models",
        seed=seed,
        device=device,
        options=parts,
        report_json=as_path("report_json", report_json) if report_json else None,
    )
