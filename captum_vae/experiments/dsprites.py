"""The dSprites experiment: FactorVAE with and without attention disentanglement, paired seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captum_vae.attr.options import Rectifier
from captum_vae.checks import real_number, whole_number
from captum_vae.data.dsprites_factors import IMAGE_COUNT
from captum_vae.experiments.dsprites_figures import TrainedFigures
from captum_vae.experiments.dsprites_findings import (
    HEADLINE_GAMMA,
    MeasuredRuns,
    Run,
    result_tables,
)
from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.judging import judge
from captum_vae.experiments.results import Findings
from captum_vae.experiments.seed_run import FactorInitialization, SeedRun, Variant
from captum_vae.experiments.seed_runs import Execution, run_grid
from captum_vae.experiments.specification import Specification
from captum_vae.experiments.verdicts import doubted
from captum_vae.experiments.work import Work, check_epochs, digest, steps_of
from captum_vae.losses.options import Aggregation
from captum_vae.metrics.disentanglement.votes import VOTE_PROTOCOLS
from captum_vae.training.configuration import Precision, VoteProtocolName

SHARED = ("batch_size", "learning_rate", "samples", "protocol", "precision")
"""The settings that every run of the grid has in common."""

SPECIFICATION = Specification.read("dsprites")


@dataclass(frozen=True)
class DSpritesSettings:
    """Settings of the dSprites experiment.

    Attributes:
        steps: Optimizer steps of each training, 300,000 as published; 0 trains for ``epochs``.
        epochs: Passes over the 737,280 images.
        seeds: How many seeds each model is trained on.
        gammas: The weights of the total correlation.
        weights: Lambda, the weights of the overlap. Those other than 1 are for the mean over pairs
            under ReLU alone, and for gamma 40 alone where the gammas hold it, as in replication a.
        aggregations: How the overlap is aggregated over pairs of dimensions.
        rectifiers: The rectifiers of the maps.
        initializations: How weights start; those other than PyTorch's are for FactorVAE alone, and
            for gamma 40 alone where the gammas hold it.
        processes: How many runs go on at the same time.

    The others are those of :class:`~captum_vae.experiments.seed_run.SeedRun`, for every run.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.
    """

    steps: int
    seeds: int
    gammas: tuple[float, ...]
    epochs: float = 0
    weights: tuple[float, ...] = (1.0,)
    aggregations: tuple[Aggregation, ...] = ("mean", "sum")
    rectifiers: tuple[Rectifier, ...] = ("relu", "abs")
    initializations: tuple[FactorInitialization, ...] = ("pytorch",)
    batch_size: int = 64
    learning_rate: float = 1e-4
    samples: int = 50_000
    protocol: VoteProtocolName = "publish"
    processes: int = 2
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check what a command line may replace."""
        whole_number("seeds", self.seeds, least=1, most=100)
        whole_number("workers", self.processes, least=1)
        check_epochs(self.epochs, self.steps)
        for name, values in (("gamma", self.gammas), ("lambda_", self.weights)):
            if not values:
                raise ValueError(f"{name} is empty; wanted at least one number")
            for value in values:
                real_number(name, value, least=0)
        for name, words in (
            ("aggregation", self.aggregations),
            ("rectifier", self.rectifiers),
            ("initialization", self.initializations),
        ):
            if not words:
                raise ValueError(f"{name} is empty; wanted at least one")

    @property
    def length(self) -> int:
        """Optimizer steps of each training."""
        return steps_of(self.steps, self.epochs, self.batch_size, IMAGE_COUNT)


def run(settings: DSpritesSettings, data: Path | None, work: Work) -> Iterator[Findings]:
    """Train and score the grid; dSprites is drawn by the renderer, whatever the data folder."""
    folders = {work.models / name: runs for name, runs in grid(settings, work).items()}
    planned = sum(map(len, folders.values()))
    figures = TrainedFigures(work, folders)
    paper = EXPERIMENT.settings["paper"]
    share = settings.length * settings.batch_size / (paper.length * paper.batch_size)
    for finished in run_grid(folders, Execution(settings.processes)):
        runs = [Run(experiment, row) for experiment, row in finished]
        work.trainings[:] = [_training(run, settings.length) for run in runs]
        measured = MeasuredRuns(runs)
        doubts = work.doubts(share=share)
        yield Findings(
            "dSprites, all 737,280 images drawn by this package's renderer",
            doubted(judge(SPECIFICATION, [measured]), doubts),
            result_tables(SPECIFICATION, measured),
            protocol=SPECIFICATION.protocol_words(
                s=settings, paper=paper, votes=VOTE_PROTOCOLS[settings.protocol]
            ),
            charts=SPECIFICATION.drawn(),
            figures=figures.of(runs),
            training_share=share,
            doubts=doubts,
            finished=(len(runs), planned),
        )


def grid(settings: DSpritesSettings, work: Work) -> dict[str, list[SeedRun]]:
    """The runs by folder: runs of one folder differ in variant and seed alone.

    FactorVAE itself and the normalised overlap do not vary with aggregation and rectifier, and
    share a folder with the paper's own choice, the mean over pairs and ReLU.
    """
    folders: dict[str, list[SeedRun]] = {}

    def add(variants: Sequence[Variant], gamma: float, **options: Any) -> None:
        experiments = [
            SeedRun(
                variant=variant,
                seed=work.seed + seed,
                steps=settings.length,
                gamma=gamma,
                device=work.accelerator,
                **{name: getattr(settings, name) for name in SHARED},
                **options,
            )
            for variant in variants
            for seed in range(settings.seeds)
        ]
        told_apart = asdict(experiments[0])
        for name in ("variant", "seed", "device"):
            del told_apart[name]
        if told_apart["initialization"] == "pytorch":
            # As before there was a choice, so that what was trained then is found.
            del told_apart["initialization"]
        folders[f"dsprites-{digest(told_apart)}"] = experiments

    for gamma in settings.gammas:
        published = "mean" in settings.aggregations and "relu" in settings.rectifiers
        faithful = published and 1.0 in settings.weights
        own: list[Variant] = ["factorvae", "paper", "normalised"]
        if not faithful:
            own.remove("paper")
        if "pytorch" in settings.initializations:
            add(own, gamma)
        for aggregation in settings.aggregations:
            for rectifier in settings.rectifiers:
                if (aggregation, rectifier) != ("mean", "relu") and 1.0 in settings.weights:
                    add(["paper"], gamma, aggregation=aggregation, rectifier=rectifier)
        if gamma != HEADLINE_GAMMA and HEADLINE_GAMMA in settings.gammas:
            continue
        for weight in settings.weights:
            if published and weight != 1.0:
                add(["paper"], gamma, weight=weight)
        for initialization in settings.initializations:
            if initialization != "pytorch":
                add(["factorvae"], gamma, initialization=initialization)
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


EXPERIMENT = Experiment(
    SPECIFICATION,
    SPECIFICATION.settings(DSpritesSettings),
    run,
    {
        "gamma": "gammas",
        "seeds": "seeds",
        "lambda_": "weights",
        "aggregation": "aggregations",
        "rectifier": "rectifiers",
        "initialization": "initializations",
        "epochs": "epochs",
        "workers": "processes",
    },
    published_data=False,
)
