"""The rules of claims, on numbers that are known by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from captum_vae.experiments.judging import RULES, best, check_rules, compared, judge
from captum_vae.experiments.specification import Claim, Specification
from captum_vae.experiments.verdicts import Verdict
from captum_vae.report.estimate import Estimate

WORDS = {
    "difference": "{part}: {first} minus {second}",
    "level": "{part}: {map}",
    "shortfall": "{part}: {figure:.2f} minus {map}",
    "gains": "{higher} of {count}, {least:+.1f} to {most:+.1f}",
    "no_figure": "no source has a figure",
}
UCSD_FIGURE = {"table": "ucsd_ped1_auroc", "column": "pixel_auroc", "source": "paper"}


@dataclass(frozen=True)
class Numbers:
    """A part whose numbers are given, each with an interval of ``spread`` to both sides."""

    values: Mapping[str, float]
    name: str = "bottle"
    variant: str = ""
    spread: float = 0.01
    published: Sequence[str] = field(default=("conv1, relu", "conv1, abs", "conv2, relu"))

    def level(self, name: str, quantity: str, protocol: str = "") -> Estimate:
        value = self.values.get(f"{name} {protocol}".strip(), 0.5)
        return Estimate(value, value - self.spread, value + self.spread)

    def difference(self, first: str, second: str, quantity: str) -> Estimate:
        value = self.values.get(first, 0.5) - self.values.get(second, 0.5)
        return Estimate(value, value - self.spread, value + self.spread)


def verdict(parts: Sequence[Numbers], rule: str, **options: Any) -> Verdict:
    claim = Claim("claim", "text", "source", rule, **options)
    return judge(Specification("toy", "Toy", "About.", [claim], words=WORDS), parts)["claim"]


def test_above_needs_every_pair_of_every_part() -> None:
    good, bad = Numbers({"a": 0.7}), Numbers({"a": 0.3}, name="cable")
    options = {"pairs": [["a", "b"], ["a", "c"]]}
    assert verdict([good], "above", **options) == Verdict(
        "confirmed",
        "bottle: a minus b +0.200 [+0.190, +0.210]; bottle: a minus c +0.200 [+0.190, +0.210]",
    )
    assert verdict([good, bad], "above", **options).outcome == "refuted"
    assert verdict([Numbers({"a": 0.505})], "above", **options).outcome == "undecided"


def test_the_best_published_map_stands_for_a_claim_that_does_not_say_which() -> None:
    part = Numbers({"conv1, abs": 0.6, "conv2, relu": 0.7, "ours": 0.9})
    assert best(part, "best of all") == "conv2, relu"
    assert best(part, "best of conv1") == "conv1, abs"
    assert best(part, "ours") == "ours"
    found = verdict([part], "above", pairs=[["best of conv1", "best of conv2"]])
    assert found.because == "bottle: conv1, abs minus conv2, relu -0.100 [-0.110, -0.090]"


def test_a_figure_is_reached_only_with_the_whole_interval() -> None:
    options = {"map": "best of all", "figure": 0.6, "than": "chance"}
    for value, outcome in ((0.7, "confirmed"), (0.5, "refuted"), (0.605, "undecided")):
        found = verdict([Numbers({"conv2, relu": value})], "reaches", **options)
        assert found.outcome == outcome
    assert (
        "0.095 below chance (0.600)"
        in verdict([Numbers({"conv2, relu": 0.505})], "reaches", **options).because
    )


def test_a_figure_is_looked_up_for_each_part_and_parts_without_one_do_not_count() -> None:
    figure = {"table": "mvtec_ad", "column": "pixel_auroc", "source": "paper", "category": "{part}"}
    options = {"map": "best of all", "figure": figure, "than": "the paper"}
    bottle, zipper = Numbers({"conv1, abs": 0.9}), Numbers({}, name="zipper")
    assert (
        "0.030 above the paper (0.870)" in verdict([bottle, zipper], "reaches", **options).because
    )
    nothing = verdict([zipper], "reaches", **options)
    assert nothing == Verdict("not testable here", "no source has a figure")
    del options["than"]
    short = verdict([bottle, zipper], "falls short", **options)
    assert short == Verdict("refuted", "bottle: 0.87 minus conv1, abs -0.030 [-0.040, -0.020]")


def test_a_gain_is_measured_against_the_difference_of_two_figures() -> None:
    figures = [{**UCSD_FIGURE, "layer": layer} for layer in ("conv2", "conv1")]
    options = {"pairs": [["a", "b"]], "figure": figures[0], "minus": figures[1], "what": "gain"}
    found = verdict([Numbers({"a": 0.56})], "reaches", than="the paper's", **options)
    # .92 - .89 = .03, and .56 - .5 = .06.
    assert found.because == "gain 0.060 [0.050, 0.070], 0.030 above the paper's (0.030)"


def test_a_claim_on_one_scene_is_not_tested_on_another() -> None:
    options = {"map": "a", "figure": 0.4, "than": "chance", "only_on": "Ped1"}
    elsewhere = "measured on {part}"
    found = verdict([Numbers({}, name="Ped2")], "reaches", elsewhere=elsewhere, **options)
    assert found.outcome == "not testable here"
    assert found.because.startswith("measured on Ped2; by the numbers alone confirmed: Ped2: a")
    assert verdict([Numbers({}, name="Ped1")], "reaches", **options).outcome == "confirmed"


def test_similar_means_a_difference_within_the_margin() -> None:
    options = {"pairs": [["a", "b"]], "margin": 0.05}
    assert verdict([Numbers({"a": 0.52})], "within", **options).outcome == "confirmed"
    assert verdict([Numbers({"a": 0.6})], "within", **options).outcome == "refuted"
    assert verdict([Numbers({"a": 0.54})], "within", **options).outcome == "undecided"


def test_gains_of_all_published_maps_are_summed_up() -> None:
    down = {f"{name} down": 0.6 for name in ("conv1, relu", "conv1, abs", "conv2, relu")}
    options = {"protocols": ["down", "up"]}
    assert verdict([Numbers(down)], "gains", **options) == Verdict(
        "confirmed", "3 of 3, +0.1 to +0.1"
    )
    # Without a paired test the interval reaches twice as far: .1 - 2 * .06 < 0.
    assert verdict([Numbers(down, spread=0.06)], "gains", **options).outcome == "undecided"
    assert verdict([Numbers({})], "gains", **options).outcome == "undecided"


def test_two_ways_of_training_are_compared_where_a_part_has_both() -> None:
    black = Numbers({"conv1, abs": 0.6}, variant="black")
    corner = Numbers({"conv2, relu": 0.7}, variant="corner")
    cable = Numbers({}, name="cable", variant="black")
    options = {
        "map": "best of all",
        "variants": ["corner", "black"],
        "what": "{part}: {first} minus {second}",
        "missing": "no leather",
    }
    found = verdict([cable, black, corner], "trained otherwise", **options)
    assert found == Verdict(
        "confirmed", "bottle: conv2, relu minus conv1, abs +0.100 [+0.080, +0.120]"
    )
    alone = verdict([cable, black], "trained otherwise", **options)
    assert alone == Verdict("not testable here", "no leather")
    # Other rules do not read the second training.
    pairs = [["conv2, relu", "b"]]
    assert "+0.000" in verdict([black, corner], "above", pairs=pairs).because


def test_every_pair_that_a_claim_may_need_is_compared_once() -> None:
    claims = [
        Claim("a", "", "", "above", pairs=[["best of conv1", "error"]]),
        Claim("b", "", "", "above", pairs=[["error", "best of conv1"], ["ours", "error"]]),
    ]
    specification = Specification("toy", "Toy", "About.", claims)
    assert compared(specification, ["conv1, relu", "conv1, abs", "conv2, relu"]) == [
        ("conv1, relu", "error"),
        ("conv1, abs", "error"),
        ("ours", "error"),
    ]


def test_an_unknown_rule_is_refused_with_those_that_there_are() -> None:
    specification = Specification("toy", "Toy", "About.", [Claim("a", "", "", "over")])
    with pytest.raises(ValueError, match=r"'a' of toy.toml has the rule 'over'; wanted one of abo"):
        check_rules(specification)


@pytest.mark.parametrize("name", ["mnist", "ucsd", "mvtec", "dsprites"])
def test_every_published_claim_names_a_rule_and_its_own_name_alone(name: str) -> None:
    claims = Specification.read(name).claims
    assert {claim.rule for claim in claims} <= set(RULES)
    assert len({claim.name for claim in claims}) == len(claims)
