"""The report of a localization evaluation: table, curves, images under one scale, protocol."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from torch import Tensor

from captum_vae.metrics.localization.curves import ThresholdCounts, roc_curve, thinned
from captum_vae.metrics.localization.region_overlap import pro_curve
from captum_vae.report.color_scale import ColorScale
from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid
from captum_vae.report.page import Picture, Section, write_page
from captum_vae.report.pictures import add_legend, literal, save_picture
from captum_vae.report.tables import Table

FPR_LIMIT = 0.3
"""Up to where PRO is drawn, as AUPRO is computed."""

_COLORS = ("#b5123e", "#2a5db0", "#208a5c", "#b97a00", "#6d4aa8", "#555555", "#0f8f9c", "#a0522d")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class ShownImage:
    """A test image to be shown.

    Attributes:
        name: Name of the image.
        auroc: AUROC of its own pixels; NaN without a defect.
        image: (C, H, W) in [0, 1].
        mask: (H, W) bool ground truth.
        anomaly_map: (H, W) as compared with the mask; all three of one size.
    """

    name: str
    auroc: float
    image: Tensor
    mask: Tensor
    anomaly_map: Tensor


@dataclass(frozen=True)
class Threshold:
    """From which score on a pixel is called anomalous, and where that came from."""

    value: float
    source: str


def write_evaluation_report(
    folder: str | Path,
    *,
    title: str,
    lead: str,
    table: Table,
    main: str,
    scale: ColorScale,
    threshold: Threshold | None = None,
    worst: Sequence[ShownImage] = (),
    best: Sequence[ShownImage] = (),
    normal: Sequence[ShownImage] = (),
    curves: Mapping[str, ThresholdCounts],
    undefined: Sequence[str] = (),
    differences: Table | None = None,
    choice: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
    explorer: str = "",
) -> Path:
    """Write ``index.html`` and its pictures.

    Args:
        folder: Folder of the page; it is created.
        title: Headline.
        lead: Paragraph under the headline.
        table: Metrics of every scorer.
        main: Name of the scorer whose maps are shown.
        scale: Colour scale of all its maps.
        threshold: Lowest score of a pixel called anomalous; None shows no calls.
        worst: Images with a defect where it does worst, worst first.
        best: Images with a defect where it does best, best first.
        normal: Normal images.
        curves: Counts of the scorers whose curves are drawn, by name.
        undefined: Paragraphs on what is undefined, why, and what to do about it.
        differences: Paired tests of scorers.
        choice: Paragraphs on how the main scorer was chosen.
        facts: Protocol, model and data as pairs of words.
        explorer: The data folder of an explorer beside the page; empty for none.

    Returns:
        The page's path.
    """
    folder = Path(folder)
    cut = None if threshold is None else threshold.value
    pictures = [
        Picture(
            save_picture(draw_images(shown, scale, cut), folder / f"{kind}.png"),
            f"{kind} images: image, ground truth and anomaly map side by side",
            caption,
        )
        for kind, shown, caption in (
            ("worst", worst, f"Where {main} does worst, worst first."),
            ("best", best, "Where it does best, best first."),
            ("normal", normal, "Normal images, on which nothing should light up."),
        )
        if shown
    ]
    of_maps = [
        f"Maps of {main}. One colour scale for the whole test set, from {scale.low:.3g} to "
        f"{scale.high:.3g}: half of the images with a defect have more than 1% of their "
        "pixels above it, drawn in its last colour."
    ]
    if threshold is not None:
        of_maps.append(
            f"Called anomalous: scores of {threshold.value:.3g} or more ({threshold.source})."
        )
    sections = [
        Section(
            "Table",
            [
                "Brackets are 95% bootstrap intervals over whole images or clips. F1 and IoU are "
                "those of the best threshold on the test labels, an oracle's.",
                *undefined,
            ],
            tables=[table],
        )
    ]
    if differences is not None:
        paired = "Paired: each bootstrap resample draws the same images or clips for both rows."
        sections.append(Section("Differences", [paired], tables=[differences]))
    sections += [
        Section("Images", of_maps, pictures=pictures, still=bool(explorer)),
        Section(
            "Curves",
            pictures=[
                Picture(
                    save_picture(draw_curves(curves), folder / "curves.png"),
                    "ROC and PRO curves of the scorers",
                    "Left: ROC over all pixels. Right: share of each anomalous region found, mean "
                    f"over regions, up to the false positive rate of {FPR_LIMIT:g} to which AUPRO "
                    "counts.",
                )
            ],
        ),
    ]
    if choice:
        sections.append(Section("How the variant was chosen", choice))
    facts_table = Table(["", ""], [list(fact) for fact in facts])
    sections.append(Section("Protocol, model and data", tables=[facts_table]))
    return write_page(
        folder / "index.html", title=title, lead=lead, sections=sections, explorer=explorer
    )


def shared_scale(images: Sequence[tuple[float, float]]) -> ColorScale:
    """The scale of all maps of a test set: up to the median of the defective images' highest.

    The largest of all would leave most images dark for the sake of one.

    Args:
        images: AUROC of each image, NaN without a defect, and its highest value, the 99th
            percentile of its map. Images without a defect count only when there are no others.
    """
    defective = [highest for auroc, highest in images if not math.isnan(auroc)]
    highest = statistics.median(defective or [highest for _, highest in images] or [1.0])
    return ColorScale(0.0, highest) if highest > 0 else ColorScale(highest, 0.0)


def draw_images(
    shown: Sequence[ShownImage], scale: ColorScale, threshold: float | None = None
) -> Figure:
    """Image, ground truth and anomaly map side by side, one row per image, one colour scale.

    Args:
        shown: The images, at least one.
        scale: The colour scale of all maps.
        threshold: Adds a column of the pixels at or above it; None adds none.
    """
    rows = []
    for item in shown:
        kind = item.image.dtype
        planes = [item.image, item.mask.to(kind)]
        if threshold is not None:
            planes.append((item.anomaly_map >= threshold).to(kind))
        strips = [Strip(planes), Strip([item.image], [item.anomaly_map], scale)]
        rows.append(GridRow(f"{_short(item.name)}\n{_score(item.auroc)}", strips))
    found = () if threshold is None else ("called\nanomalous",)
    return draw_map_grid(
        rows,
        column_titles=[("image", "ground truth", *found), ("anomaly map",)],
        bar_label="anomaly score",
    )


def draw_curves(counts: Mapping[str, ThresholdCounts]) -> Figure:
    """ROC and PRO curves, told apart by colour and by dashes.

    Args:
        counts: Counts of scorers by name; the first is drawn thickest, and one whose curves are
            undefined is left out.
    """
    figure = Figure(figsize=(9.6, 4.9), facecolor="white", layout="constrained")
    roc, pro = figure.subplots(1, 2)
    lines: dict[str, Artist] = {}
    for place, (name, of_scorer) in enumerate(counts.items()):
        style: dict[str, Any] = {
            "color": _COLORS[place % len(_COLORS)],
            "linestyle": _DASHES[place % len(_DASHES)],
            "linewidth": 2.4 if place == 0 else 1.4,
        }
        curve = roc_curve(of_scorer)
        if len(curve.thresholds):
            x, y = thinned(curve.false_positive_rate.cpu(), curve.true_positive_rate.cpu())
            lines[name] = roc.plot(x, y, **style)[0]
            x, y = pro_curve(of_scorer)
            x, y = thinned(x.cpu(), y.cpu())
            pro.plot(x, y, **style)
    roc.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=0.8)
    for axes, right, title, label in (
        (roc, 1.0, "ROC", "share of anomalous pixels found"),
        (pro, FPR_LIMIT, "PRO", "mean share of a region found"),
    ):
        axes.set_xlim(0, right)
        axes.set_ylim(0, 1)
        axes.set_title(title, fontsize=11)
        axes.set_xlabel("false positive rate of pixels", fontsize=9.5)
        axes.set_ylabel(label, fontsize=9.5)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.tick_params(labelsize=8.5)
    add_legend(figure, lines, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False)
    return literal(figure)


def _short(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def _score(auroc: float) -> str:
    return "no defect" if auroc != auroc else f"AUROC {auroc:.3f}"
