"""The rules that decide claims, each implemented once, over whatever was measured."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence

from captum_vae.experiments.published_figures import published_number
from captum_vae.experiments.specification import Claim, PublishedFigure, Specification
from captum_vae.experiments.verdicts import (
    Verdict,
    all_of,
    apart,
    best_of,
    exceeds,
    is_positive,
    not_testable,
    stays_within,
)
from captum_vae.report.estimate import Estimate

_BEST = "best of "
_ALL = "all"


class Measured(typing.Protocol):
    """The numbers of one part of an experiment: a scene, a category, a digit, a grid of runs."""

    @property
    def name(self) -> str:
        """What the part is called in verdicts."""

    @property
    def variant(self) -> str:
        """How its VAE was trained, where a part has several trainings; else empty."""

    @property
    def published(self) -> Sequence[str]:
        """The names of the maps as published."""

    def level(self, name: str, quantity: str, protocol: str = "") -> Estimate:
        """A number of a map, under the protocol of the verdicts unless told."""

    def difference(self, first: str, second: str, quantity: str) -> Estimate:
        """A paired difference of two maps."""


Words = Mapping[str, str]
Rule = Callable[[Claim, Sequence[Measured], Words], Verdict]


def check_rules(specification: Specification) -> None:
    """Check before anything is measured that every claim can be judged.

    Raises:
        ValueError: A claim names a rule that there is not.
    """
    for claim in specification.claims:
        if claim.rule not in RULES:
            raise ValueError(
                f"the claim {claim.name!r} of {specification.name}.toml has the rule "
                f"{claim.rule!r}; wanted one of {', '.join(RULES)}"
            )


def judge(specification: Specification, parts: Sequence[Measured]) -> dict[str, Verdict]:
    """A verdict per claim; a claim has to hold for every part.

    Args:
        specification: The claims, and the words of their verdicts.
        parts: What was measured. Parts of another variant than the first are read by the rule
            ``trained otherwise`` alone.
    """
    return {
        claim.name: _judged(claim, parts, specification.words) for claim in specification.claims
    }


def compared(specification: Specification, published: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of maps whose paired difference a claim may need.

    Args:
        specification: The claims.
        published: The names of the maps as published.
    """
    pairs: dict[tuple[str, str], None] = {}
    for claim in specification.claims:
        for first, second in claim.pairs:
            for pair in itertools.product(_meant(first, published), _meant(second, published)):
                if pair[::-1] not in pairs:
                    pairs[pair] = None
    return list(pairs)


def best(part: Measured, name: str, quantity: str = "auroc", protocol: str = "") -> str:
    """The map that a claim means: itself, or of ``best of ...`` the one with the highest number."""
    meant = _meant(name, part.published)
    if len(meant) == 1:
        return meant[0]
    return best_of({found: part.level(found, quantity, protocol) for found in meant})


def _meant(name: str, published: Sequence[str]) -> list[str]:
    if not name.startswith(_BEST):
        return [name]
    beginning = name.removeprefix(_BEST)
    return [found for found in published if beginning == _ALL or found.startswith(beginning)]


def _judged(claim: Claim, parts: Sequence[Measured], words: Words) -> Verdict:
    verdict = RULES[claim.rule](claim, parts, words)
    if claim.only_on and claim.only_on != parts[0].name:
        return not_testable(verdict, claim.elsewhere.format(part=parts[0].name))
    return verdict


def _above(claim: Claim, parts: Sequence[Measured], words: Words) -> Verdict:
    """Every first map of the pairs has a higher number than the second."""
    differences = _differences(claim, parts, words)
    return all_of([is_positive(found, what=what) for found, what in differences])


def _within(claim: Claim, parts: Sequence[Measured], words: Words) -> Verdict:
    """The numbers of the pairs differ by less than the margin."""
    differences = _differences(claim, parts, words)
    return all_of([stays_within(found, claim.margin, what=what) for found, what in differences])


def _reaches(claim: Claim, parts: Sequence[Measured], words: Words) -> Verdict:
    """A map's number, or the difference of a pair, is above the figure."""
    verdicts = []
    for part in _first_variant(parts):
        figure = _figure(claim.figure, part)
        if figure is None:
            continue
        if claim.minus is not None:
            figure -= _figure(claim.minus, part) or 0.0
        if claim.pairs:
            ((found, what),) = _differences(claim, [part], words)
        else:
            found, what = _level(claim, part, claim.what or words["level"])
        verdicts.append(exceeds(found, figure, what=what, than=claim.than))
    return _all_or_no_figure(verdicts, words)


def _falls_short(claim: Claim, parts: Sequence[Measured], words: Words) -> Verdict:
    """A map's number is below the figure."""
    verdicts = []
    for part in _first_variant(parts):
        figure = _figure(claim.figure, part)
        if figure is not None:
            found, what = _level(claim, part, words["shortfall"], figure=figure)
            gap = apart(Estimate(figure, figure, figure), found)
            verdicts.append(is_positive(gap, what=what))
    return _all_or_no_figure(verdicts, words)


def _gains(claim: Claim, parts: Sequence[Measured], words: Words) -> Verdict:
    """Every published map has a higher number under the first protocol than under the second.

    What would be a sentence per map is summed up.
    """
    verdicts = []
    for part in _first_variant(parts):
        gains = [
            apart(*(part.level(name, claim.quantity, label) for label in claim.protocols))
            for name in part.published
        ]
        outcome = all_of([is_positive(gain, what="gain") for gain in gains]).outcome
        values = [gain.value for gain in gains if gain.value is not None]
        if not values:
            verdicts.append(Verdict(outcome, "pixel AUROC is undefined"))
            continue
        because = words["gains"].format(
            part=part.name,
            higher=sum(value > 0 for value in values),
            count=len(values),
            least=min(values),
            most=max(values),
        )
        verdicts.append(Verdict(outcome, because))
    return all_of(verdicts)


def _trained_otherwise(claim: Claim, parts: Sequence[Measured], words: Words) -> Verdict:
    """The map of a VAE that was trained one way has a higher number than that of the other way."""
    by_variant = {variant: _of_variant(parts, variant) for variant in claim.variants}
    first_of, second_of = by_variant.values()
    verdicts = []
    for name in (name for name in first_of if name in second_of):
        pair = [of[name] for of in (first_of, second_of)]
        names = [best(part, claim.map, claim.quantity) for part in pair]
        levels = [part.level(n, claim.quantity) for part, n in zip(pair, names, strict=True)]
        what = claim.what.format(part=name, first=names[0], second=names[1])
        verdicts.append(is_positive(apart(*levels), what=what))
    return all_of(verdicts) if verdicts else Verdict("not testable here", claim.missing)


RULES: dict[str, Rule] = {
    "above": _above,
    "within": _within,
    "reaches": _reaches,
    "falls short": _falls_short,
    "gains": _gains,
    "trained otherwise": _trained_otherwise,
}
"""The rules by the names that claims give them."""


def _differences(
    claim: Claim, parts: Sequence[Measured], words: Words
) -> Iterator[tuple[Estimate, str]]:
    """The differences of a claim's pairs, each with what it is in words."""
    for part in _first_variant(parts):
        for pair in claim.pairs:
            first, second = (best(part, name, claim.quantity) for name in pair)
            template = claim.what or words["difference"]
            what = template.format(part=part.name, first=first, second=second)
            yield part.difference(first, second, claim.quantity), what


def _level(claim: Claim, part: Measured, template: str, **values: float) -> tuple[Estimate, str]:
    name = best(part, claim.map, claim.quantity, claim.protocol)
    what = template.format(part=part.name, map=name, **values)
    return part.level(name, claim.quantity, claim.protocol), what


def _all_or_no_figure(verdicts: Sequence[Verdict], words: Words) -> Verdict:
    return all_of(verdicts) if verdicts else Verdict("not testable here", words["no_figure"])


def _figure(figure: PublishedFigure | None, part: Measured) -> float | None:
    if not isinstance(figure, Mapping):
        return figure
    wanted = {name: value.format(part=part.name) for name, value in figure.items()}
    return published_number(wanted.pop("table"), wanted.pop("column"), **wanted)


def _first_variant(parts: Sequence[Measured]) -> list[Measured]:
    return [part for part in parts if part.variant == parts[0].variant]


def _of_variant(parts: Sequence[Measured], variant: str) -> dict[str, Measured]:
    return {part.name: part for part in parts if part.variant == variant}
