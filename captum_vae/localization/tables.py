"""Tables of an evaluation as CSV, Markdown and text."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from captum_vae.localization.evaluation import Evaluation, RowResult

METRICS = ("auroc", "aupro", "average_precision", "f1_max", "best_iou")
"""Pixel metrics of the table, in order; F1 and IoU are the oracle's, over all thresholds."""

_WITH_INTERVAL = ("auroc", "aupro")
"""Metrics whose interval fits into the text table; JSON and CSV have all."""

TITLES = {
    "auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "average_precision": "pixel AP",
    "f1_max": "F1 max (oracle)",
    "best_iou": "best IoU (oracle)",
    "image_auroc": "image AUROC",
}


def text_table(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text: name, smoothing, each metric, some with intervals."""
    columns = ["scorer", "sigma", *(TITLES[name] for name in (*METRICS, "image_auroc"))]
    return columns, [_cells(row) for row in evaluation.rows]


def markdown(evaluation: Evaluation) -> str:
    """The table in Markdown."""
    columns, rows = text_table(evaluation)
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def to_csv(evaluation: Evaluation) -> str:
    """The numbers in full, intervals included; an undefined value is an empty cell."""
    ends = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["scorer", "smoothing_sigma", *ends, "image_auroc", "seconds"])
    for row in evaluation.rows:
        values = []
        for name in METRICS:
            interval = row.intervals.get(name)
            values.append(row.pixel.scores[name].value)
            values += [interval.low, interval.high] if interval else [math.nan, math.nan]
        values.append(row.image_auroc.value)
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
        if name in _WITH_INTERVAL and interval is not None and not interval.reason:
            cells[-1] += f" [{interval.low:.3f}, {interval.high:.3f}]"
    return [*cells, _value(row.image_auroc.value)]


def _value(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
