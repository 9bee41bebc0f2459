"""The report of a localization evaluation: table, curves, images under one scale, protocol."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from captum_vae.localization.evaluation import Evaluation, ImageResult, RowResult
from captum_vae.localization.tables import text_table
from captum_vae.metrics.localization.curves import roc_curve, thinned
from captum_vae.metrics.localization.region_overlap import pro_curve
from captum_vae.report.color_scale import ColorScale
from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid
from captum_vae.report.page import Picture, Section, write_page
from captum_vae.report.pictures import save_picture
from captum_vae.report.tables import Table

FPR_LIMIT = 0.3
"""Up to where PRO is drawn, as AUPRO is computed."""

_COLORS = ("#b5123e", "#2a5db0", "#208a5c", "#b97a00", "#6d4aa8", "#555555", "#0f8f9c", "#a0522d")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class ShownImage:
    """A test image to be shown.

    Attributes:
        name: of the image.
        auroc: of its own pixels; NaN without a defect.
        image: (C, H, W) in [0, 1].
        mask: (H, W) bool ground truth.
        anomaly_map: (H, W), prepared by the protocol; all three of one size.
    """

    name: str
    auroc: float
    image: Tensor
    mask: Tensor
    anomaly_map: Tensor


def write_evaluation_report(
    folder: str | Path,
    evaluation: Evaluation,
    *,
    title: str,
    main: str,
    worst: Sequence[ShownImage],
    best: Sequence[ShownImage],
    normal: Sequence[ShownImage] = (),
    curves: Sequence[str] = (),
    choice: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write ``index.html`` and its pictures.

    Args:
        folder: created if need be.
        evaluation: the table.
        title: headline.
        main: name of the row whose maps are shown.
        worst: images with a defect where that row does worst, worst first.
        best: where it does best, best first.
        normal: normal images.
        curves: names of the rows whose curves are drawn; all by default.
        choice: paragraphs on how the main row was chosen.
        facts: model, data and protocol as pairs of words.

    Returns:
        The page's path.

    Raises:
        KeyError: a row does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    row = evaluation.row(main)
    drawn = [evaluation.row(name) for name in curves] if curves else evaluation.rows
    columns, cells = text_table(evaluation)
    scale, threshold = shared_scale(row.images), row.threshold
    pictures = [
        Picture(
            save_picture(draw_images(shown, scale, threshold), folder / f"{kind}.png"),
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
    sections = [
        Section(
            "Table",
            [
                "Brackets are 95% bootstrap intervals over whole images or clips. F1 and IoU are "
                "those of the best threshold on the test labels, an oracle's.",
            ],
            tables=[Table(columns, cells)],
        ),
        *_differences(evaluation),
        Section(
            "Images",
            [
                f"Maps of {main}. One colour scale for the whole test set, from {scale.low:.3g} to "
                f"{scale.high:.3g}: half of the images with a defect have more than 1% of their "
                "pixels above it, drawn in its last colour.",
                *_threshold_lines(row),
            ],
            pictures=pictures,
        ),
        Section(
            "Curves",
            pictures=[
                Picture(
                    save_picture(draw_curves(drawn), folder / "curves.png"),
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
    protocol = Table(["", ""], [["protocol", str(row.protocol)], *map(list, facts)])
    sections.append(Section("Protocol, model and data", tables=[protocol]))
    lead = (
        f"{main}: pixel AUROC {row.pixel.scores['auroc'].value:.3f} over {row.pixel.images} images."
    )
    return write_page(folder / "index.html", title=title, lead=lead, sections=sections)


def shared_scale(images: Sequence[ImageResult]) -> ColorScale:
    """The scale of all maps of a test set: up to the median of the defective images' highest.

    An image's highest value is the 99th percentile of its map. The largest of all would leave
    most images dark for the sake of one.

    Args:
        images: of a row; those without a defect count only when there are no others.
    """
    defective = [image.highest for image in images if not math.isnan(image.auroc)]
    highest = statistics.median(defective or [image.highest for image in images] or [1.0])
    return ColorScale(0.0, highest) if highest > 0 else ColorScale(highest, 0.0)


def draw_images(
    shown: Sequence[ShownImage], scale: ColorScale, threshold: float | None = None
) -> Figure:
    """Image, ground truth and anomaly map side by side, one row per image, one colour scale.

    Args:
        shown: at least one.
        scale: of all maps.
        threshold: adds a column of the pixels at or above it.
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


def draw_curves(rows: Sequence[RowResult]) -> Figure:
    """ROC and PRO curves, told apart by colour and by dashes.

    Args:
        rows: the first is drawn thickest.
    """
    figure = Figure(figsize=(9.6, 4.9), facecolor="white", layout="constrained")
    roc, pro = figure.subplots(1, 2)
    for place, row in enumerate(rows):
        style: dict[str, Any] = {
            "color": _COLORS[place % len(_COLORS)],
            "linestyle": _DASHES[place % len(_DASHES)],
            "linewidth": 2.4 if place == 0 else 1.4,
        }
        curve = roc_curve(row.pixel.counts)
        if len(curve.thresholds):
            x, y = thinned(curve.false_positive_rate.cpu(), curve.true_positive_rate.cpu())
            roc.plot(x, y, label=row.name, **style)
            x, y = pro_curve(row.pixel.counts)
            x, y = thinned(x.cpu(), y.cpu())
            pro.plot(x, y, label=row.name, **style)
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
    handles, labels = roc.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=2, fontsize=8.5, frameon=False
        )
    return figure


def _threshold_lines(row: RowResult) -> list[str]:
    if row.threshold is None:
        return []
    source = row.pixel.scores["f1"].threshold_source
    return [f"Called anomalous: scores of {row.threshold:.3g} or more ({source})."]


def _differences(evaluation: Evaluation) -> list[Section]:
    rows = [
        [pair, f"{d.difference:+.3f}", f"[{d.low:+.3f}, {d.high:+.3f}]", f"{d.p_value:.3g}"]
        for pair, d in evaluation.differences.items()
        if not d.reason
    ]
    if not rows:
        return []
    columns = ["first - second", "pixel AUROC", "95% interval", "p"]
    return [
        Section(
            "Differences",
            ["Paired: each bootstrap resample draws the same images or clips for both rows."],
            tables=[Table(columns, rows)],
        )
    ]


def _short(name: str) -> str:
    return "/".join(name.split("/")[-2:])


def _score(auroc: float) -> str:
    return "no defect" if auroc != auroc else f"AUROC {auroc:.3f}"
