"""Variants of a model trained on the same seeds: means, paired differences, intervals."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scipy import stats

BASELINE = "factorvae"
"""What the other variants are compared with."""

PUBLISHED = {
    "source": "Liu et al. 2020, read off their figure; gamma 40, 300000 steps",
    "factorvae": {"factor_vae": 0.825, "reconstruction_nats": "37-40"},
    "ad_factorvae": {"factor_vae": 0.91, "reconstruction_nats": "37-40"},
}


def compare(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of each variant and their paired differences from FactorVAE, with 95% intervals.

    Args:
        runs: Rows as :func:`captum_vae.experiments.seed_runs.run_share` gives them.

    Returns:
        ``variants``: variant -> quantity -> mean, std (ddof 1), Student-t interval, n;
        ``differences``: the same of variant minus FactorVAE over the seeds that both have;
        ``published``: the paper's figures.
    """
    of_variant: dict[str, list[Mapping[str, Any]]] = {}
    for row in runs:
        of_variant.setdefault(row["variant"], []).append(row)
    quantities = [
        name
        for name, value in runs[0].items()
        if name not in ("seed", "seconds") and isinstance(value, int | float)
    ]
    baseline = of_variant.get(BASELINE, [])
    return {
        "variants": {
            variant: {q: t_interval([*by_seed(rows, q).values()]) for q in quantities}
            for variant, rows in of_variant.items()
        },
        "differences": {
            variant: {
                q: t_interval(paired(by_seed(rows, q), by_seed(baseline, q))) for q in quantities
            }
            for variant, rows in of_variant.items()
            if variant != BASELINE and baseline
        },
        "published": PUBLISHED,
    }


def by_seed(rows: Iterable[Mapping[str, Any]], quantity: str) -> dict[int, float]:
    """The values of a quantity by seed, of the rows that have one."""
    return {row["seed"]: row[quantity] for row in rows if row[quantity] is not None}


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """First minus second for every seed that both have."""
    return [value - second[seed] for seed, value in first.items() if seed in second]


def comparison_table(results: Mapping[str, Any]) -> str:
    """Variants as Markdown rows: score, its paired difference, reconstruction, KL, dimensions."""
    lines = [
        "| variant | FactorVAE score | minus factorvae, 95% interval | reconstruction [nats] | "
        "KL [nats] | active |",
        "|---|---|---|---|---|---|",
    ]
    for variant, means in results["variants"].items():
        difference = results["differences"].get(variant, {}).get("factor_vae")
        cells = [
            variant,
            _plus_minus(means.get("factor_vae")),
            "" if difference is None else _range(difference),
            _plus_minus(means["reconstruction_nats"]),
            _plus_minus(means["kl_nats"]),
            f"{means['active_dimensions']['mean']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    published = results["published"]
    for name in ("factorvae", "ad_factorvae"):
        row = published[name]
        lines.append(
            f"| published {name} | {row['factor_vae']} | | {row['reconstruction_nats']} | | |"
        )
    return "\n".join([*lines, "", f"published: {published['source']}"])


def t_interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (ddof 1) and 95% Student-t interval; None below two values.

    Args:
        values: The values of a quantity, one per seed.

    Returns:
        ``mean``, ``n``, ``std``, ``low``, ``high``.
    """
    summary: dict[str, Any] = {"mean": statistics.fmean(values) if values else None}
    summary.update(n=len(values), std=None, low=None, high=None)
    if len(values) > 1:
        std = statistics.stdev(values)
        half = float(stats.t.ppf(0.975, len(values) - 1)) * std / math.sqrt(len(values))
        summary.update(std=std, low=summary["mean"] - half, high=summary["mean"] + half)
    return summary


def _plus_minus(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return ""
    spread = "" if summary["std"] is None else f" ± {summary['std']:.3f}"
    return f"{summary['mean']:.3f}{spread}"


def _range(summary: Mapping[str, Any]) -> str:
    if summary["low"] is None:
        return "" if summary["mean"] is None else f"{summary['mean']:+.3f}"
    return f"{summary['mean']:+.3f} [{summary['low']:+.3f}, {summary['high']:+.3f}]"
