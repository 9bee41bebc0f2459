"""Tables of an evaluation as CSV, Markdown and text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from captum_vae.localization.evaluation import Evaluation, RowResult

METRICS = ("auroc", "aupro", "average_precision", "f1_max", "best_iou")
"""Pixel metrics of the table, in order; F1 and IoU are the oracle's, over all thresholds."""

TITLES = {
    "auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "average_precision": "pixel AP",
    "f1_max": "F1 max (oracle)",
    "best_iou": "best IoU (oracle)",
    "image_auroc": "image AUROC",
}


def text_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text: name, smoothing, each metric, AUROC with its interval."""
    columns = ["scorer", "sigma", *(TITLES[name] for name in (*METRICS, "image_auroc"))]
    return columns, [_cells(row) for row in evaluation.rows]


def markdown(evaluation: Evaluation) -> str:
    """The table in Markdown."""
    columns, rows = text_table(evaluation)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(evaluation: Evaluation) -> str:
    """The numbers in full, intervals included; an undefined value is an empty cell."""
    names = [*METRICS, "image_auroc"]
    header = ["scorer", "smoothing_sigma", *names, "auroc_low", "auroc_high", "seconds"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in evaluation.rows:
        scores = {**row.pixel.scores, "image_auroc": row.image_auroc}
        ends = [math.nan, math.nan]
        if "auroc" in row.intervals:
            ends = [row.intervals["auroc"].low, row.intervals["auroc"].high]
        values = [*(scores[name].value for name in names), *ends]
        writer.writerow(
            [row.name, row.protocol.smoothing, *map(_number, values), f"{row.seconds:.2f}"]
        )
    return buffer.getvalue()


def aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table for a terminal."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [columns, *rows]
    )


def _cells(row: RowResult) -> list[str]:
    cells = [row.name, f"{row.protocol.smoothing:g}"]
    for name in METRICS:
        cells.append(_value(row.pixel.scores[name].value))
        interval = row.intervals.get(name)
        if interval is not None and not interval.reason:
            cells[-1] += f" [{interval.low:.3f}, {interval.high:.3f}]"
    return [*cells, _value(row.image_auroc.value)]


def _value(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
