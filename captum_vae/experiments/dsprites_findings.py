"""What the runs on dSprites say: numbers over paired seeds, and tables beside published figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from captum_vae.experiments.published_figures import published_rows
from captum_vae.experiments.results import Cell, ResultTable
from captum_vae.experiments.seed_comparison import BASELINE, by_seed, paired, t_interval
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.specification import Specification
from captum_vae.report.estimate import Estimate

HEADLINE_GAMMA = 40.0
"""The gamma of the paper's best score, at which claims are judged."""

FAITHFUL = "AD-FactorVAE (paper, mean, relu)"
"""The paper's overlap, its mean over pairs, of maps under ReLU."""

BEST = "AD-FactorVAE (normalised, mean, abs)"
"""This package's overlap."""

PLAIN = "FactorVAE"

SIMILAR = 3.0
"""Nats by which a similar reconstruction error may be higher: the width of the paper's range."""

_SOURCES = {"factorvae": "FactorVAE", "ad-factorvae": "AD-FactorVAE"}


@dataclass(frozen=True)
class Run:
    """One trained and scored model.

    Attributes:
        experiment: How it was trained.
        row: Its numbers, as :func:`captum_vae.experiments.seed_runs.run_share` gives them.
    """

    experiment: SeedRun
    row: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The model in words."""
        run = self.experiment
        if run.variant == BASELINE:
            started = run.initialization
            return PLAIN if started == "pytorch" else f"{PLAIN} ({started} initialisation)"
        rectifier = run.rectifier or ("abs" if run.variant == "normalised" else "relu")
        weight = "" if run.weight == 1 else f", lambda {run.weight:g}"
        return f"AD-FactorVAE ({run.variant}, {run.aggregation}, {rectifier}{weight})"

    @property
    def gamma(self) -> float:
        """The weight of the total correlation."""
        return self.experiment.gamma


@dataclass(frozen=True)
class MeasuredRuns:
    """The runs of the grid, as claims are judged by them: models are called by their titles.

    Attributes:
        runs: The runs of the whole grid.
        name: What was measured on; the grid is one part, without a name.
        variant: How the models were trained; the grid has one way, without a name.
        published: The names that ``best of`` chooses from; there are none.
    """

    runs: Sequence[Run]
    name: str = ""
    variant: str = ""
    published: Sequence[str] = ()

    def level(
        self, name: str, quantity: str, protocol: str = "", *, gamma: float = HEADLINE_GAMMA
    ) -> Estimate:
        """Mean over seeds with its 95% interval; undefined without runs.

        A protocol such as ``gamma 100`` names another gamma.
        """
        if protocol:
            gamma = float(protocol.removeprefix("gamma "))
        return _estimate([*by_seed(self.rows(name, gamma), quantity).values()])

    def filtered(self, name: str, gamma: float) -> list[float]:
        """FactorVAE scores as replication b took them, of seeds that reconstruct well enough.

        Those are the seeds whose reconstruction error is at most :data:`SIMILAR` nats above the
        mean of FactorVAE's at the same gamma; none where that was not trained.
        """
        baseline = [row["reconstruction_nats"] for row in self.rows(PLAIN, gamma)]
        if not baseline:
            return []
        most = statistics.fmean(baseline) + SIMILAR
        kept = [row for row in self.rows(name, gamma) if row["reconstruction_nats"] <= most]
        return [*by_seed(kept, "factor_vae").values()]

    def difference(
        self, first: str, second: str, quantity: str, *, gamma: float = HEADLINE_GAMMA
    ) -> Estimate:
        """Mean of first minus second over the seeds for which both have a value."""
        values = (by_seed(self.rows(name, gamma), quantity) for name in (first, second))
        return _estimate(paired(*values))

    def rows(self, name: str, gamma: float) -> list[Mapping[str, Any]]:
        """The numbers of a model, a row per seed."""
        return [run.row for run in self.runs if (run.title, run.gamma) == (name, gamma)]


def result_tables(specification: Specification, measured: MeasuredRuns) -> list[ResultTable]:
    """Scores beside the published ones, against reconstruction, and the whole grid."""
    return [
        _beside_published(specification, measured),
        _against_reconstruction(specification, measured),
        _grid(specification, measured),
    ]


def _beside_published(specification: Specification, measured: MeasuredRuns) -> ResultTable:
    entries = published_rows("dsprites_factorvae")
    keys = ("model", "gamma", "lambda")
    scores: dict[tuple[str, ...], dict[str, str]] = {}
    for entry in entries:
        if entry["gamma"]:
            of_key = scores.setdefault(tuple(entry[key] for key in keys), {})
            of_key[entry["source"]] = entry["factor_vae_score"]

    def ours(title: str, row: tuple[str, ...]) -> Estimate | None:
        # Ours has the weight 1 of the second replication where the paper does not state its own.
        if row[2] not in ("", "1"):
            title = title.replace(")", f", lambda {row[2]})")
        found = measured.level(title, "factor_vae", gamma=float(row[1]))
        return None if found.value is None else found

    cells: dict[str, Callable[[tuple[str, ...]], Cell]] = {
        "model": lambda row: row[0],
        "gamma": lambda row: row[1],
        "lambda": lambda row: row[2] or None,
        "paper": lambda row: scores[row].get("paper"),
        "replication a": lambda row: scores[row].get("replication-a"),
        "replication b": lambda row: None,
        "ours, faithful": lambda row: ours(PLAIN if row[0] == "factorvae" else FAITHFUL, row),
        "ours, best": lambda row: None if row[0] == "factorvae" else ours(BEST, row),
    }
    return specification.table("scores", scores, cells)


def _against_reconstruction(specification: Specification, measured: MeasuredRuns) -> ResultTable:
    rows: list[list[Cell]] = []
    for source in ("paper", "replication a"):
        for model, name in _SOURCES.items():
            for entry in published_rows(
                "dsprites_factorvae", source=source.replace(" ", "-"), model=model
            ):
                # As beside the published figures, ours is comparable with the weight 1 alone.
                if entry["lambda"] in ("", "1"):
                    error = _published_range(entry["reconstruction"])
                    score = float(entry["factor_vae_score"].split("+-")[0])
                    rows.append([f"{source}, {name}", entry["gamma"], error, score])
    for run in sorted(
        _models(measured), key=lambda run: (run.experiment.variant, run.title, run.gamma)
    ):
        found = [
            measured.level(run.title, quantity, gamma=run.gamma)
            for quantity in ("reconstruction_nats", "factor_vae")
        ]
        rows.append([run.title, f"{run.gamma:g}", *found])
    columns = ("model", "gamma", "reconstruction error [nats]", "FactorVAE score")
    cells = {column: itemgetter(place) for place, column in enumerate(columns)}
    return specification.table("reconstruction", rows, cells)


def _grid(specification: Specification, measured: MeasuredRuns) -> ResultTable:
    def level(quantity: str) -> Callable[[Run], Estimate]:
        return lambda run: measured.level(run.title, quantity, gamma=run.gamma)

    def gain(run: Run) -> Estimate | None:
        if run.title == PLAIN:
            return None
        return measured.difference(run.title, PLAIN, "factor_vae", gamma=run.gamma)

    cells: dict[str, Callable[[Run], Cell]] = {
        "model": lambda run: run.title,
        "gamma": lambda run: f"{run.gamma:g}",
        "seeds": lambda run: len(measured.rows(run.title, run.gamma)),
        "FactorVAE score": level("factor_vae"),
        "minus FactorVAE, paired": gain,
        "score where reconstruction is similar": lambda run: _estimate(
            measured.filtered(run.title, run.gamma)
        ),
        "seeds where it is": lambda run: len(measured.filtered(run.title, run.gamma)),
        "MIG": level("mig"),
        "reconstruction [nats]": level("reconstruction_nats"),
        "KL [nats]": level("kl_nats"),
        "active dimensions": lambda run: round(
            statistics.fmean(
                row["active_dimensions"] for row in measured.rows(run.title, run.gamma)
            ),
            1,
        ),
    }
    models = sorted(
        _models(measured),
        key=lambda run: (run.gamma, run.experiment.variant, run.title),
    )
    return specification.table("grid", models, cells)


def _models(measured: MeasuredRuns) -> list[Run]:
    """The first run of every model."""
    return list({(run.title, run.gamma): run for run in reversed(measured.runs)}.values())


def _published_range(words: str) -> Estimate:
    """A number, or the middle of a range with its ends."""
    ends = [float(part) for part in words.split("-")]
    if len(ends) == 1:
        return Estimate(ends[0])
    return Estimate(sum(ends) / 2, *ends)


def _estimate(values: Sequence[float]) -> Estimate:
    found = t_interval(values)
    return Estimate(found["mean"], found["low"], found["high"])
