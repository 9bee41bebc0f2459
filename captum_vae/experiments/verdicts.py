"""Verdicts on published claims, computed from numbers and their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from captum_vae.report.estimate import Estimate, known

Outcome = Literal["confirmed", "refuted", "undecided", "not testable here"]

_ORDER: tuple[Outcome, ...] = ("refuted", "not testable here", "undecided", "confirmed")
"""The first that any part of a claim has is the claim's."""


ENOUGH = 0.1
"""Share of the published training below which no claim is tested: the VAE is another one."""


@dataclass(frozen=True)
class Verdict:
    """What the numbers say about a claim.

    Attributes:
        outcome: Confirmed, refuted, undecided, or not testable here.
        because: The numbers behind it, in words.
    """

    outcome: Outcome
    because: str


def exceeds(ours: Estimate, threshold: float, *, what: str, than: str) -> Verdict:
    """Is a quantity above a number? Its whole interval must lie on one side.

    Confirmed with the interval above the threshold, refuted with it at or below, undecided where
    the interval holds the threshold or is not known.

    Args:
        ours: The quantity.
        threshold: A number such as chance, or a published figure.
        what: What the quantity is called.
        than: What the threshold is called.

    Example::

        >>> exceeds(Estimate(0.61, 0.58, 0.64), 0.86, what="AUROC", than="the paper").because
        'AUROC 0.610 [0.580, 0.640], 0.250 below the paper (0.860)'
    """
    value, low, high = known(ours.value), known(ours.low), known(ours.high)
    if value is None:
        return Verdict("not testable here", f"{what} has no value here")
    side = "above" if value > threshold else "below"
    because = f"{what} {ours}, {abs(value - threshold):.3f} {side} {than} ({threshold:.3f})"
    if low is None or high is None:
        return Verdict("undecided", f"{because}, without an interval")
    if low > threshold:
        return Verdict("confirmed", because)
    if high <= threshold:
        return Verdict("refuted", because)
    return Verdict("undecided", f"{because}, which the interval holds")


def is_positive(ours: Estimate, *, what: str) -> Verdict:
    """Is a difference above zero? Its whole interval must lie on one side, as in :func:`exceeds`.

    Args:
        ours: The difference.
        what: What the difference is called.
    """
    verdict = exceeds(ours, 0.0, what=what, than="zero")
    if known(ours.value) is None:
        return verdict
    return Verdict(verdict.outcome, f"{what} {ours:+}")


def stays_within(ours: Estimate, margin: float, *, what: str) -> Verdict:
    """Is a difference small? Its whole interval must lie inside, or outside, the margin.

    Args:
        ours: The difference.
        margin: The largest difference that counts as small, positive.
        what: What the difference is called.

    Raises:
        ValueError: The margin is not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}; wanted a positive difference that counts as small")
    value, low, high = known(ours.value), known(ours.low), known(ours.high)
    if value is None:
        return Verdict("not testable here", f"{what} has no value here")
    because = f"{what} {ours:+}, against a margin of {margin:g}"
    if low is None or high is None:
        return Verdict("undecided", f"{because}, without an interval")
    if -margin < low and high < margin:
        return Verdict("confirmed", because)
    if low >= margin or high <= -margin:
        return Verdict("refuted", because)
    return Verdict("undecided", because)


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim that holds only if all its parts do.

    One refuted part refutes it; else one that cannot be tested, or is undecided, leaves it so.

    Raises:
        ValueError: There are no parts.
    """
    if not verdicts:
        raise ValueError("verdicts is empty; wanted at least one part of the claim")
    outcomes = {verdict.outcome for verdict in verdicts}
    outcome = next(outcome for outcome in _ORDER if outcome in outcomes)
    return Verdict(outcome, "; ".join(verdict.because for verdict in verdicts))


def not_testable(verdict: Verdict, why: str = "") -> Verdict:
    """What was measured does not bear on the claim: say why, and what it would have said.

    Args:
        verdict: The verdict on the numbers at hand.
        why: The reason, such as "measured on rendered scenes, not on UCSD Ped1"; empty where it is
            said once for all claims.
    """
    alone = f"by the numbers alone {verdict.outcome}: {verdict.because}"
    if verdict.outcome == "not testable here":
        alone = verdict.because
    return Verdict("not testable here", f"{why}; {alone}" if why else alone)


def apart(first: Estimate, second: Estimate) -> Estimate:
    """First minus second where no paired test exists.

    The ends of its interval are those that both intervals allow, so it is wider than a paired one.
    """
    if first.value is None or second.value is None:
        return Estimate(None)
    value = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value)
    return Estimate(value, first.low - second.high, first.high - second.low)


def negated(difference: Estimate) -> Estimate:
    """The same difference, second minus first."""
    value, low, high = (
        None if x is None else -x for x in (difference.value, difference.high, difference.low)
    )
    return Estimate(value, low, high)


def doubted(verdicts: Mapping[str, Verdict], doubts: Sequence[str]) -> dict[str, Verdict]:
    """The verdicts, or that nothing can be tested where there are doubts about what was measured.

    Args:
        verdicts: The verdicts by claim.
        doubts: Reasons such as "measured on rendered scenes, not on UCSD", which the page states
            once; without any, the verdicts stay.
    """
    return {
        name: not_testable(verdict)
        if doubts and verdict.outcome != "not testable here"
        else verdict
        for name, verdict in verdicts.items()
    }


def best_of(found: Mapping[str, Estimate]) -> str:
    """The name with the highest value; of equals, and where none is defined, the first."""
    lowest = -math.inf
    values = {name: lowest if e.value is None else e.value for name, e in found.items()}
    return max(values, key=values.__getitem__)
