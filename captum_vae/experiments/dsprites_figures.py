"""The figure of the dSprites experiment: score against reconstruction, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from captum_vae.experiments.dsprites_findings import Run
from captum_vae.experiments.published_figures import published_rows
from captum_vae.report import Picture, save_picture

_COLORS = ("#555555", "#b5123e", "#2a5db0", "#208a5c", "#b97a00", "#6d4aa8")
_MARKERS = "osD^v<>P"
_PUBLISHED_RECONSTRUCTION = (37.0, 40.0)


def draw_scores(runs: Sequence[Run], path: Path) -> Picture:
    """Every run, the means over seeds, and the paper's points at gamma 10 to 100.

    Args:
        runs: of the grid.
        path: of the PNG file.
    """
    figure = Figure(figsize=(7.6, 4.9), facecolor="white", layout="constrained")
    axes = figure.subplots()
    titles = list(dict.fromkeys(run.title for run in runs))
    gammas = sorted({run.gamma for run in runs})
    for key in dict.fromkeys(run.key for run in runs):
        of_key = [run for run in runs if run.key == key and run.row["factor_vae"] is not None]
        if not of_key:
            continue
        title, gamma = of_key[0].title, of_key[0].gamma
        scores = [run.row["factor_vae"] for run in of_key]
        errors = [run.row["reconstruction_nats"] for run in of_key]
        style: dict[str, Any] = {
            "color": _COLORS[titles.index(title) % len(_COLORS)],
            "marker": _MARKERS[gammas.index(gamma) % len(_MARKERS)],
        }
        axes.scatter(errors, scores, s=14, alpha=0.45, **style)
        label = f"{title}, gamma {gamma:g}"
        axes.scatter(fmean(errors), fmean(scores), s=80, label=label, **style)
    middle = sum(_PUBLISHED_RECONSTRUCTION) / 2
    for model, color in (("factorvae", "#999999"), ("ad-factorvae", "#111111")):
        scores = [
            float(row["factor_vae_score"])
            for row in published_rows("dsprites_factorvae", source="paper", model=model)
        ]
        axes.errorbar(
            [middle] * len(scores),
            scores,
            xerr=middle - _PUBLISHED_RECONSTRUCTION[0],
            fmt="_",
            color=color,
            linewidth=0.8,
            label=f"paper, {model}",
        )
    axes.set_xlabel("reconstruction error [nats per image]", fontsize=9.5)
    axes.set_ylabel("FactorVAE score", fontsize=9.5)
    axes.set_ylim(0, 1.02)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.tick_params(labelsize=8.5)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return Picture(
        save_picture(figure, path),
        alt="Scatter plot of FactorVAE score against reconstruction error for every model of the "
        "grid and for the paper's figure.",
        caption="Small: single seeds. Large: their means. Bars: the paper's scores, read off its "
        "figure, over its range of reconstruction errors.",
    )
