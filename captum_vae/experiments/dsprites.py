"""The dSprites experiment: FactorVAE with and without attention disentanglement, paired seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captum_vae.attr.options import Rectifier
from captum_vae.experiments.dsprites_findings import MeasuredRuns, Run, result_tables
from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.judging import judge
from captum_vae.experiments.results import Findings
from captum_vae.experiments.seed_run import SeedRun, Variant
from captum_vae.experiments.seed_runs import Execution, run_experiments
from captum_vae.experiments.specification import Specification
from captum_vae.experiments.verdicts import not_testable
from captum_vae.experiments.work import Work, digest
from captum_vae.losses.options import Aggregation
from captum_vae.training.configuration import Precision, VoteProtocolName

ENOUGH = 0.1
"""Share of the published steps below which a run says nothing on the published claims."""

SHARED = ("steps", "batch_size", "weight", "learning_rate", "samples", "protocol", "precision")
"""The settings that every run of the grid has in common."""

SPECIFICATION = Specification.read("dsprites")


@dataclass(frozen=True)
class DSpritesSettings:
    """Settings of the dSprites experiment.

    Attributes:
        steps: Optimizer steps of each training; 300,000 as published.
        seeds: How many seeds each model is trained on.
        gammas: The weights of the total correlation.
        aggregations: How the overlap is aggregated over pairs of dimensions.
        rectifiers: The rectifiers of the maps.
        processes: How many runs go on at the same time.

    The others are those of :class:`~captum_vae.experiments.seed_run.SeedRun`, for every run.
    """

    steps: int
    seeds: int
    gammas: tuple[float, ...]
    aggregations: tuple[Aggregation, ...] = ("mean", "sum")
    rectifiers: tuple[Rectifier, ...] = ("relu", "abs")
    weight: float = 1.0
    batch_size: int = 64
    learning_rate: float = 1e-4
    samples: int = 50_000
    protocol: VoteProtocolName = "publish"
    processes: int = 2
    precision: Precision = "float32"


def run(settings: DSpritesSettings, data: Path | None, work: Work) -> Findings:
    """Train and score the grid; dSprites is drawn by the renderer, whatever the data folder."""
    runs = []
    for folder, experiments in grid(settings, work).items():
        rows = run_experiments(experiments, work.models / folder, Execution(settings.processes))
        for experiment, row in zip(experiments, rows, strict=True):
            runs.append(Run(experiment, row))
            work.trainings.append(_training(runs[-1], settings.steps))
    paper = EXPERIMENT.settings["paper"]
    measured = MeasuredRuns(runs)
    verdicts = judge(SPECIFICATION, [measured])
    if settings.steps < ENOUGH * paper.steps:
        # A score is one of the end of training, unlike a map, which any VAE has that reconstructs.
        why = f"trained for {settings.steps:,} of the published {paper.steps:,} steps"
        verdicts = {name: not_testable(verdict, why) for name, verdict in verdicts.items()}
    return Findings(
        "dSprites, all 737,280 images drawn by this package's renderer",
        verdicts,
        result_tables(SPECIFICATION, measured),
        protocol=SPECIFICATION.protocol_words(s=settings, paper=paper),
        charts=SPECIFICATION.drawn(),
        training_share=settings.steps * settings.batch_size / (paper.steps * paper.batch_size),
    )


def grid(settings: DSpritesSettings, work: Work) -> dict[str, list[SeedRun]]:
    """The runs by folder: runs of one folder differ in variant and seed alone.

    FactorVAE itself and the normalised overlap do not vary with aggregation and rectifier, and
    share a folder with the paper's own choice, the mean over pairs and ReLU.
    """
    folders: dict[str, list[SeedRun]] = {}
    shared = {name: getattr(settings, name) for name in SHARED}
    for gamma in settings.gammas:
        for aggregation in settings.aggregations:
            for rectifier in settings.rectifiers:
                own = (aggregation, rectifier) == ("mean", "relu")
                variants: Sequence[Variant] = ("factorvae", "paper", "normalised")
                experiments = [
                    SeedRun(
                        variant=variant,
                        seed=work.seed + seed,
                        gamma=gamma,
                        aggregation=aggregation,
                        **shared,
                        device="cuda" if work.device.type == "cuda" else "cpu",
                        rectifier=None if own else rectifier,
                    )
                    for variant in (variants if own else variants[1:2])
                    for seed in range(settings.seeds)
                ]
                told_apart = asdict(experiments[0])
                for name in ("variant", "seed", "device"):
                    del told_apart[name]
                folders[f"dsprites-{digest(told_apart)}"] = experiments
    return folders


def _training(run: Run, steps: int) -> dict[str, Any]:
    row = run.row
    return {
        "name": f"{run.title}, gamma {run.gamma:g}, seed {row['seed']}",
        "steps": steps,
        "version": row["version"],
        "commit": row["commit"],
        "active_dimensions": {"active": row["active_dimensions"], "dimensions": 32},
        "final_losses": row["final_losses"],
        "seconds": row["seconds"],
    }


EXPERIMENT = Experiment(SPECIFICATION, SPECIFICATION.settings(DSpritesSettings), run)
