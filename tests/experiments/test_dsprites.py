"""The numbers of the dSprites experiment, made up so that they are known."""

from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from captum_vae.experiments.dsprites import EXPERIMENT, SPECIFICATION, grid
from captum_vae.experiments.dsprites_findings import (
    BEST,
    FAITHFUL,
    PLAIN,
    MeasuredRuns,
    Run,
    result_tables,
)
from captum_vae.experiments.judging import judge
from captum_vae.experiments.seed_run import SeedRun, Variant
from captum_vae.experiments.work import Work
from captum_vae.report.estimate import Estimate


def run(variant: Variant, seed: int, score: float | None) -> Run:
    row = {
        "seed": seed,
        "factor_vae": score,
        "mig": 0.1,
        "reconstruction_nats": 38.0,
        "kl_nats": 20.0,
        "active_dimensions": 7 + seed,
    }
    return Run(SeedRun(variant, seed, steps=1, batch_size=8, gamma=40.0), row)


SCORES: dict[Variant, tuple[float, ...]] = {
    "factorvae": (0.7, 0.8, 0.75),
    "paper": (0.71, 0.82, 0.78),
    "normalised": (0.6, 0.6, 0.6),
}
RUNS = [run(variant, seed, s) for variant, of in SCORES.items() for seed, s in enumerate(of)]


@pytest.fixture(scope="module")
def tables() -> dict[str, dict[tuple[Any, ...], Any]]:
    """Rows by their first three cells, by table."""
    found = result_tables(SPECIFICATION, MeasuredRuns(RUNS))
    return {table.name: {tuple(row[:3]): row for row in table.rows} for table in found}


def test_seeds_are_paired_before_the_interval_is_taken() -> None:
    found = MeasuredRuns(RUNS).difference(FAITHFUL, PLAIN, "factor_vae")
    # Differences .01, .02, .03: mean .02, standard deviation .01.
    half = stats.t.ppf(0.975, 2) * 0.01 / 3**0.5
    assert found.value == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))


def test_the_gain_is_judged_by_the_published_one() -> None:
    verdicts = judge(SPECIFICATION, [MeasuredRuns(RUNS)])
    assert verdicts["score"].outcome == "undecided"
    # The paper's gain is .91 - .825 = .085, above .02 + 4.303 * .01 / sqrt 3 = .045.
    assert verdicts["gain"].outcome == "refuted"
    assert "0.065 below the paper's (0.085)" in verdicts["gain"].because
    assert verdicts["reconstruction"].outcome == "confirmed"
    assert verdicts["normalised"].outcome == "refuted"
    # These parts of the grid were not run.
    assert verdicts["sum"].outcome == verdicts["relu"].outcome == "not testable here"


def test_a_seed_without_a_score_counts_for_nothing() -> None:
    measured = MeasuredRuns([*RUNS, run("paper", 3, None), run("factorvae", 3, 0.5)])
    assert measured.level(FAITHFUL, "factor_vae").value == pytest.approx((0.71 + 0.82 + 0.78) / 3)
    assert measured.difference(FAITHFUL, PLAIN, "factor_vae").value == pytest.approx(0.02)


def test_ours_stand_in_the_rows_of_their_gamma_and_lambda(tables: Any) -> None:
    rows = tables["scores"]
    assert rows["factorvae", "40", None][3:5] == ["0.825", "0.805+-0.059"]
    assert rows["factorvae", "40", None][6].value == pytest.approx(0.75)
    assert rows["ad-factorvae", "40", "1"][6].value == pytest.approx(0.77)
    assert rows["ad-factorvae", "40", "1"][7].value == pytest.approx(0.6)
    assert rows["ad-factorvae", "40", "20"][6] is None
    assert rows["factorvae", "10", None][6] is None


def test_the_grid_has_a_row_per_model_with_its_seeds(tables: Any) -> None:
    assert list(tables["grid"]) == [(title, "40", 3) for title in (PLAIN, BEST, FAITHFUL)]
    assert tables["grid"][PLAIN, "40", 3][-1] == 8.0
    assert tables["grid"][PLAIN, "40", 3][6] == 3


def test_scores_stand_against_reconstruction_beside_the_published_ones(tables: Any) -> None:
    rows = {key[:2]: row[2:] for key, row in tables["reconstruction"].items()}
    assert rows["paper, AD-FactorVAE", "40"] == [Estimate(38.5, 37.0, 40.0), 0.91]
    # Of replication a's weights the first is that of ours.
    assert rows["replication a, AD-FactorVAE", "40"] == [Estimate(31.5), 0.82]
    assert rows[FAITHFUL, "40"][0] == Estimate(38.0, 38.0, 38.0)


def test_scores_are_filtered_by_the_reconstruction_as_in_replication_b() -> None:
    bad = run("paper", 3, 0.9)
    off = Run(bad.experiment, {**bad.row, "reconstruction_nats": 41.5})
    near = Run(bad.experiment, {**bad.row, "seed": 4, "reconstruction_nats": 40.5})
    # FactorVAE's mean is 38 nats: 41.5 is more than 3 above it, 40.5 is not.
    measured = MeasuredRuns([*RUNS, off, near])
    assert measured.filtered(FAITHFUL, 40.0) == [0.71, 0.82, 0.78, 0.9]
    assert MeasuredRuns([off]).filtered(FAITHFUL, 40.0) == []


def test_gamma_100_diverging_is_a_claim() -> None:
    diverged = [
        Run(
            SeedRun("factorvae", seed, steps=1, batch_size=8, gamma=100.0),
            {"seed": seed, "reconstruction_nats": 150.0 + seed},
        )
        for seed in range(3)
    ]
    verdicts = judge(SPECIFICATION, [MeasuredRuns([*RUNS, *diverged])])
    assert verdicts["gamma_100"].outcome == "confirmed"
    assert judge(SPECIFICATION, [MeasuredRuns(RUNS)])["gamma_100"].outcome == "not testable here"


@pytest.mark.parametrize(
    ("variant", "rectifier", "title"),
    [
        ("paper", None, FAITHFUL),
        ("normalised", None, BEST),
        ("factorvae", "abs", PLAIN),
        ("paper", "abs", "AD-FactorVAE (paper, mean, abs)"),
    ],
)
def test_a_run_knows_its_model(variant: Any, rectifier: Any, title: str) -> None:
    experiment = SeedRun(variant, 0, steps=1, batch_size=8, gamma=40.0, rectifier=rectifier)
    assert Run(experiment, {}).title == title


def test_what_does_not_vary_is_trained_only_once_per_gamma(tmp_path: Path) -> None:
    folders = grid(EXPERIMENT.settings["paper"], Work(tmp_path, tmp_path, "cpu"))
    runs = [run for experiments in folders.values() for run in experiments]
    # Per gamma and seed: FactorVAE, the normalised overlap, and 2 x 2 of the paper's; at gamma 40
    # three other lambdas and two other initialisations besides.
    assert len(runs) == 5 * 8 * (1 + 1 + 4) + 8 * (3 + 2)
    assert sum(run.variant == "factorvae" for run in runs) == 5 * 8 + 8 * 2
    for experiments in folders.values():
        assert len({(run.variant, run.seed) for run in experiments}) == len(experiments)
