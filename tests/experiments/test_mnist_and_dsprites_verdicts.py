"""The verdicts of the MNIST and dSprites experiments on numbers made up so that they are known."""

from typing import Any

import pytest
from scipy import stats

from captum_vae.experiments.disentanglement_seeds import SeedRun
from captum_vae.experiments.dsprites_findings import (
    Run,
    baseline,
    best,
    charts,
    faithful,
    level,
    paired,
    tables,
)
from captum_vae.experiments.dsprites_findings import judge as judge_dsprites
from captum_vae.experiments.mnist import CLAIMS, FAITHFUL, compared_pairs
from captum_vae.experiments.mnist import judge as judge_mnist
from captum_vae.experiments.mnist_rows import BRIGHTNESS
from captum_vae.experiments.results import Scatter
from captum_vae.experiments.verdicts import Estimate


def mnist_cell(auroc: float, gap: float, **gaps: float) -> dict[str, Any]:
    """A cell in which every pair differs by ``gap``, give or take 0.01."""
    differences = {}
    for first, second in compared_pairs():
        value = gaps.get(second.split(",")[0], gap)
        differences[f"{first} - {second}"] = {
            "value": value,
            "low": value - 0.01,
            "high": value + 0.01,
        }
    low_high = {"value": auroc, "low": auroc - 0.02, "high": auroc + 0.02}
    return {"rows": {FAITHFUL: {"auroc": low_high}}, "differences": differences}


def test_mnist_claims_hold_only_if_they_do_for_both_digits() -> None:
    good, bad = mnist_cell(0.8, 0.1), mnist_cell(0.8, -0.1)
    outcomes = {name: v.outcome for name, v in judge_mnist({1: good, 3: good}).items()}
    assert sorted(outcomes) == sorted(claim.name for claim in CLAIMS)
    # ReLU beats the absolute value by 0.1, which is not similar.
    assert outcomes.pop("absolute") == "refuted"
    assert set(outcomes.values()) == {"confirmed"}
    assert judge_mnist({1: good, 3: bad})["method_1"].outcome == "refuted"


def test_chance_and_the_ink_alone_are_two_claims() -> None:
    found = judge_mnist({1: mnist_cell(0.8, 0.1, **{BRIGHTNESS: -0.05})})
    assert found["characteristic"].outcome == "confirmed"
    assert "0.300 above chance" in found["characteristic"].because
    assert found["ink"].outcome == "refuted"


def run(variant: str, seed: int, score: float | None, error: float = 38.0) -> Run:
    overlap = {"paper": ("mean", "relu"), "normalised": ("mean", "abs"), "factorvae": ("", "")}
    row = {
        "seed": seed,
        "factor_vae": score,
        "mig": 0.1,
        "reconstruction_nats": error,
        "kl_nats": 20.0,
        "active_dimensions": 7 + seed,
    }
    return Run(variant, 40.0, *overlap[variant], row)


SCORES = {"factorvae": (0.7, 0.8, 0.75), "paper": (0.71, 0.82, 0.78), "normalised": (0.6, 0.6, 0.6)}
RUNS = [run(variant, seed, s) for variant, of in SCORES.items() for seed, s in enumerate(of)]


def test_seeds_are_paired_before_the_interval_is_taken() -> None:
    found = paired(RUNS, faithful(40.0), baseline(40.0), "factor_vae")
    # Differences .01, .02, .03: mean .02, standard deviation .01.
    half = stats.t.ppf(0.975, 2) * 0.01 / 3**0.5
    assert found.value == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx((0.02 - half, 0.02 + half))


def test_the_gain_is_measured_against_the_published_one() -> None:
    verdicts = judge_dsprites(RUNS)
    assert verdicts["score"].outcome == "undecided"
    # The paper's gain is .91 - .825 = .085, above .02 + 4.303 * .01 / sqrt 3 = .045.
    assert verdicts["gain"].outcome == "refuted"
    assert "0.065 below the paper's (0.085)" in verdicts["gain"].because
    assert verdicts["reconstruction"].outcome == "confirmed"
    assert verdicts["normalised"].outcome == "refuted"


def test_a_part_of_the_grid_that_was_not_run_tests_nothing() -> None:
    verdicts = judge_dsprites(RUNS)
    assert verdicts["sum"].outcome == verdicts["relu"].outcome == "not testable here"


def test_a_seed_without_a_score_counts_for_nothing() -> None:
    runs = [*RUNS, run("paper", 3, None), run("factorvae", 3, 0.5)]
    assert level(runs, faithful(40.0), "factor_vae").value == pytest.approx(
        (0.71 + 0.82 + 0.78) / 3
    )
    assert paired(runs, faithful(40.0), baseline(40.0), "factor_vae").value == pytest.approx(0.02)


def test_ours_stand_in_the_rows_of_their_gamma_and_lambda() -> None:
    beside, _, grid = tables(RUNS)
    rows = {tuple(row[:3]): row for row in beside.rows}
    assert rows["factorvae", "40", None][3:5] == ["0.825", "0.805+-0.059"]
    assert str(rows["factorvae", "40", None][6]).startswith("0.750")
    assert str(rows["ad-factorvae", "40", "1"][6]).startswith("0.770")
    assert str(rows["ad-factorvae", "40", "1"][7]).startswith("0.600")
    assert rows["ad-factorvae", "40", "20"][6] is None
    assert rows["factorvae", "10", None][6] is None
    assert [row[0] for row in grid.rows] == [
        "FactorVAE",
        "AD-FactorVAE (normalised, mean, abs)",
        "AD-FactorVAE (paper, mean, relu)",
    ]
    assert [row[2] for row in grid.rows] == [3, 3, 3]
    assert grid.rows[0][-1] == 8.0


def test_scores_stand_against_reconstruction_beside_the_published_ones() -> None:
    (table,) = (t for t in tables(RUNS) if t.name == "reconstruction")
    rows = {tuple(row[:2]): row[2:] for row in table.rows}
    assert rows["paper, AD-FactorVAE", "40"] == [Estimate(38.5, 37.0, 40.0), 0.91]
    # Of replication a's weights the first is that of ours.
    assert rows["replication a, AD-FactorVAE", "40"] == [Estimate(31.5), 0.82]
    error, score = rows["AD-FactorVAE (paper, mean, relu)", "40"]
    assert error == Estimate(38.0, 38.0, 38.0)
    assert str(score).startswith("0.770 [")


def test_the_chart_of_dsprites_draws_its_table_and_knows_the_published_models() -> None:
    (chart,) = charts()
    found = tables(RUNS)
    chart.check(found)
    assert isinstance(chart, Scatter)
    (table,) = (t for t in found if t.name == chart.table)
    models = {row[0] for row in table.rows}
    assert set(chart.published) == {m for m in models if m.startswith(("paper,", "replication"))}


def test_a_run_knows_its_place_in_the_grid() -> None:
    def experiment(variant: Any, rectifier: Any) -> SeedRun:
        return SeedRun(
            variant=variant, seed=0, steps=1, batch_size=8, gamma=40.0, weight=1.0,
            layer="encoder.conv4", aggregation="mean", gate="none", latent_dims=32,
            learning_rate=1e-4, metrics=(), protocol="paper", samples=1, precision="float32",
            device="cpu", rectifier=rectifier,
        )  # fmt: skip

    assert Run.of(experiment("paper", None), {}).key == faithful(40.0)
    assert Run.of(experiment("normalised", None), {}).key == best(40.0)
    assert Run.of(experiment("factorvae", "abs"), {}).key == baseline(40.0)
    assert Run.of(experiment("paper", "abs"), {}).key == ("paper", 40.0, "mean", "abs")
