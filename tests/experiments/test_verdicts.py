"""Verdicts against cases decided by hand."""

import math

import pytest

from captum_vae.experiments.verdicts import (
    Verdict,
    all_of,
    apart,
    best_of,
    doubted,
    exceeds,
    is_positive,
    negated,
    not_testable,
    stays_within,
)
from captum_vae.report.estimate import Estimate


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.87, 0.93, "confirmed"),
        (0.80, 0.85, "refuted"),
        (0.80, 0.86, "refuted"),  # at the threshold is not above it
        (0.80, 0.90, "undecided"),
        (0.86, 0.90, "undecided"),
        (None, None, "undecided"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_a_claim_of_more_needs_the_whole_interval(
    low: float | None, high: float | None, outcome: str
) -> None:
    verdict = exceeds(Estimate(0.85, low, high), 0.86, what="AUROC", than="the paper")
    assert verdict.outcome == outcome


def test_the_verdict_says_by_how_much_ours_falls_short() -> None:
    verdict = exceeds(Estimate(0.61, 0.58, 0.64), 0.86, what="AUROC", than="the paper")
    assert verdict.because == "AUROC 0.610 [0.580, 0.640], 0.250 below the paper (0.860)"


def test_a_missing_interval_is_said() -> None:
    verdict = exceeds(Estimate(0.9), 0.86, what="AUROC", than="the paper")
    assert verdict == Verdict(
        "undecided", "AUROC 0.900, 0.040 above the paper (0.860), without an interval"
    )


@pytest.mark.parametrize("value", [None, math.nan])
def test_an_undefined_number_tests_nothing(value: float | None) -> None:
    undefined = Estimate(value)
    assert exceeds(undefined, 0.5, what="IoU", than="chance").outcome == "not testable here"
    assert is_positive(undefined, what="gain").outcome == "not testable here"
    assert stays_within(undefined, 0.5, what="gain").outcome == "not testable here"


def test_a_difference_is_worded_with_its_sign() -> None:
    verdict = is_positive(Estimate(0.17, 0.002, 0.35), what="a minus b")
    assert verdict == Verdict("confirmed", "a minus b +0.170 [+0.002, +0.350]")
    assert is_positive(Estimate(-0.1, -0.2, -0.01), what="a minus b").outcome == "refuted"


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (-0.04, 0.03, "confirmed"),
        (0.05, 0.09, "refuted"),
        (-0.20, -0.06, "refuted"),
        (-0.04, 0.06, "undecided"),
        (-0.30, 0.30, "undecided"),
        (None, None, "undecided"),
    ],
)
def test_similar_means_an_interval_inside_the_margin(
    low: float | None, high: float | None, outcome: str
) -> None:
    assert stays_within(Estimate(0.0, low, high), 0.05, what="gap").outcome == outcome


def test_a_margin_is_positive() -> None:
    with pytest.raises(ValueError, match="margin is 0; wanted a positive difference"):
        stays_within(Estimate(0.0), 0, what="gap")


def test_one_refuted_part_refutes_a_claim_and_one_unknown_part_leaves_it_open() -> None:
    yes, no, open_, unknown = (
        Verdict("confirmed", "a"),
        Verdict("refuted", "b"),
        Verdict("undecided", "c"),
        Verdict("not testable here", "d"),
    )
    assert all_of([yes, yes]) == Verdict("confirmed", "a; a")
    assert all_of([yes, open_, unknown, no]) == Verdict("refuted", "a; c; d; b")
    assert all_of([yes, open_, unknown]).outcome == "not testable here"
    assert all_of([yes, open_]).outcome == "undecided"
    with pytest.raises(ValueError, match="verdicts is empty"):
        all_of([])


def test_stand_in_data_leave_a_claim_untested_but_tell_the_numbers() -> None:
    verdict = not_testable(Verdict("confirmed", "gain +0.1"), "measured on rendered scenes")
    assert verdict == Verdict(
        "not testable here",
        "measured on rendered scenes; by the numbers alone confirmed: gain +0.1",
    )


def test_reasons_for_not_testing_add_up() -> None:
    verdict = not_testable(Verdict("not testable here", "IoU has no value here"), "two steps")
    assert verdict.because == "two steps; IoU has no value here"


def test_an_estimate_survives_json_without_nan() -> None:
    estimate = Estimate(0.5, math.nan, 0.75)
    assert estimate.to_dict() == {"value": 0.5, "low": None, "high": 0.75}
    assert Estimate.from_dict(estimate.to_dict()) == Estimate(0.5, None, 0.75)


def test_doubts_leave_every_claim_untestable_and_keep_the_numbers():
    found = doubted({"a": Verdict("refuted", "x -0.1")}, ["measured on rendered scenes"])
    assert found["a"].outcome == "not testable here"
    # The reasons themselves are said once, for all claims together.
    assert found["a"].because == "by the numbers alone refuted: x -0.1"
    assert doubted({"a": Verdict("refuted", "x")}, [])["a"].outcome == "refuted"


def test_intervals_of_an_unpaired_difference_hold_what_both_allow():
    found = apart(Estimate(0.8, 0.7, 0.9), Estimate(0.6, 0.5, 0.65))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.05, 0.4))
    assert apart(Estimate(None), Estimate(0.6)).value is None
    assert apart(Estimate(0.8), Estimate(0.6)).low is None


def test_a_difference_turned_round_swaps_the_ends_of_its_interval():
    assert negated(Estimate(0.1, -0.2, 0.3)) == Estimate(-0.1, -0.3, 0.2)


def test_an_undefined_value_is_never_the_best():
    assert best_of({"a": Estimate(None), "b": Estimate(0.1)}) == "b"
