"""What a benchmark of anomaly scorers comes to, and how it prints."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer_result import ScorerResult
from captum_vae.localization.undefined import undefined_lines
from captum_vae.metrics.localization.bootstrap import PairedDifference
from captum_vae.report.tables import Table

METRICS = ("auroc", "aupro", "average_precision", "f1_max", "best_iou")
"""Pixel metrics of the table, in order; F1 and IoU are the oracle's, over all thresholds."""

IMAGE_METRICS = ("image_auroc", "image_auroc_top")
"""Metrics of whole images of the table, by the highest score of each and by its highest 1%."""

TITLES = {
    "auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "average_precision": "pixel AP",
    "f1_max": "F1 max (oracle)",
    "best_iou": "best IoU (oracle)",
    "image_auroc": "image AUROC",
    "image_auroc_top": "image AUROC (top 1%)",
}

AT_THRESHOLD = ("f1", "iou", "recall", "false_positive_rate")
"""Metrics of what is called anomalous at the threshold from normal images."""

_WITH_INTERVAL = ("auroc", "aupro")
"""Metrics whose interval fits into the printed table; JSON and CSV have all."""


@dataclass(frozen=True)
class Evaluation:
    """The table of a benchmark. It prints, and a notebook shows it as HTML.

    Attributes:
        rows: One result per scorer, in the order in which they were given.
        differences: Paired tests of pixel AUROC, by ``first - second``.
        aupro_differences: Paired tests of AUPRO, by the same names.
        floor: Name of the row that every other one has to beat to say anything; empty for none.
        floor_tests: Paired tests of pixel AUROC, row minus floor, by the row's name.
        candidates: What was chosen for a row, in words, by the row's name.
        choice: How that was chosen, in sentences.
    """

    rows: list[ScorerResult]
    differences: dict[str, PairedDifference] = field(default_factory=dict)
    aupro_differences: dict[str, PairedDifference] = field(default_factory=dict)
    floor: str = ""
    floor_tests: dict[str, PairedDifference] = field(default_factory=dict)
    candidates: dict[str, str] = field(default_factory=dict)
    choice: list[str] = field(default_factory=list)

    def row(self, name: str) -> ScorerResult:
        """The result of the scorer of that name.

        Raises:
            KeyError: There is none; the message lists the names.
        """
        rows = {row.name: row for row in self.rows}
        if name not in rows:
            raise KeyError(f"no scorer is named {name!r}; there are {', '.join(rows)}")
        return rows[name]

    @property
    def table(self) -> Table:
        """Name, smoothing and each metric per scorer, as text; two metrics with intervals."""
        columns = ["scorer", "sigma", *(TITLES[name] for name in (*METRICS, *IMAGE_METRICS))]
        return Table(columns, [_cells(row) for row in self.rows])

    @property
    def difference_table(self) -> Table | None:
        """The paired tests as text; None without any that is defined."""
        rows = [
            [pair, *_tested(d), *_tested(self.aupro_differences.get(pair))]
            for pair, d in self.differences.items()
            if not d.reason
        ]
        interval = ["95% interval", "p"]
        columns = ["first - second", "pixel AUROC", *interval, "AUPRO", *interval]
        return Table(columns, rows) if rows else None

    @property
    def threshold_table(self) -> Table | None:
        """What each scorer calls anomalous at its threshold; None where none was fitted."""
        rows = [
            [
                row.name,
                f"{row.threshold:.4g}",
                row.pixel.scores["f1"].threshold_source,
                *(_value(row.pixel.scores[name].value) for name in AT_THRESHOLD),
            ]
            for row in self.rows
            if row.threshold is not None
        ]
        columns = ["scorer", "threshold", "source", "F1", "IoU", "recall", "false positive rate"]
        return Table(columns, rows) if rows else None

    @property
    def protocol_lines(self) -> list[str]:
        """The protocols, each once, with the scorers that it holds for where there are several.

        Protocols that differ in smoothing alone, which the table gives, are one.
        """
        alike: dict[Protocol, list[ScorerResult]] = {}
        for row in self.rows:
            alike.setdefault(replace(row.protocol, smoothing=0.0), []).append(row)
        lines = []
        for protocol, rows in alike.items():
            smoothings = {row.protocol.smoothing for row in rows}
            words = str(rows[0].protocol)
            if len(smoothings) > 1:
                by_row = "Gaussian smoothing sigma as in the table"
                words = str(protocol).replace("no smoothing", by_row)
            names = f" of {', '.join(row.name for row in rows)}" if len(alike) > 1 else ""
            lines.append(f"protocol{names}: {words}")
        return lines

    @property
    def undefined(self) -> list[str]:
        """What is undefined, why, and what to do about it, a sentence or two each."""
        return undefined_lines(self.rows, self.differences)

    @property
    def floor_lines(self) -> list[str]:
        """Which rows do not beat the floor, in a sentence; empty where all do, or none stands."""
        if not self.floor:
            return []
        floor = self.row(self.floor).pixel.scores["auroc"].value
        weak = [words for row in self.rows if (words := self._below_floor(row, floor))]
        if not weak:
            return []
        return [
            f"Not shown to be better than {self.floor} (pixel AUROC {floor:.3f}), which never sees "
            f"the test image: {', '.join(weak)}. Such a result says where defects tend to be, and "
            "nothing about the image."
        ]

    def _below_floor(self, row: ScorerResult, floor: float) -> str:
        """The row with its distance to the floor; empty where it beats it, or nobody knows."""
        value = row.pixel.scores["auroc"].value
        test = self.floor_tests.get(row.name)
        if row.name == self.floor or math.isnan(value) or math.isnan(floor):
            return ""
        if test is None or test.reason:
            return "" if value > floor else f"{row.name} ({value - floor:+.3f})"
        if test.low > 0:
            return ""
        return f"{row.name} ({test.difference:+.3f} [{test.low:+.3f}, {test.high:+.3f}])"

    @property
    def notes(self) -> list[str]:
        """Everything beside the numbers: protocols, what is undefined, the floor, the choice."""
        return [*self.protocol_lines, *self.undefined, *self.floor_lines, *self.choice]

    def __str__(self) -> str:
        """Table, paired tests, protocols and what is undefined, for a terminal."""
        parts = [self.table.text()]
        if self.difference_table is not None:
            parts.append(self.difference_table.text())
        parts.append("\n".join(self.notes))
        return "\n\n".join(parts)

    def to_markdown(self) -> str:
        """Table, calls at the threshold, paired tests and notes, in Markdown."""
        parts = [self.table.markdown()]
        if self.difference_table is not None:
            parts.append(self.difference_table.markdown())
        if self.threshold_table is not None:
            parts.insert(1, self.threshold_table.markdown())
        return "\n\n".join([*parts, *self.notes]) + "\n"

    def to_csv(self) -> str:
        """The numbers in full, intervals included.

        An undefined value is an empty cell; the last column gives the reasons.
        """
        return self._number_table().csv()

    def records(self) -> list[dict[str, object]]:
        """The numbers of :meth:`to_csv`, a dict per scorer, which ``pandas.DataFrame`` takes."""
        return self._number_table().records()

    def _number_table(self) -> Table:
        ends = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
        columns = ["scorer", "candidate", "smoothing_sigma", *ends, *IMAGE_METRICS]
        columns += ["threshold", *(f"{name}_at_threshold" for name in AT_THRESHOLD)]
        rows = [_numbers(row, self.candidates.get(row.name, "")) for row in self.rows]
        return Table([*columns, "seconds", "undefined"], rows)

    def to_dict(self) -> dict[str, Any]:
        """Every number for JSON; undefined values are None and carry their reason."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "differences": {name: d.to_dict() for name, d in self.differences.items()},
            "aupro_differences": {name: d.to_dict() for name, d in self.aupro_differences.items()},
            "floor": {
                "name": self.floor,
                "differences": {name: d.to_dict() for name, d in self.floor_tests.items()},
                "words": self.floor_lines,
            },
        }

    def _repr_html_(self) -> str:
        tables = [self.table]
        if self.difference_table is not None:
            tables.append(self.difference_table)
        lines = self.notes
        return "".join(
            [*map(_html_table, tables), *(f"<p>{html.escape(line)}</p>" for line in lines)]
        )


def _cells(row: ScorerResult) -> list[str]:
    cells = [row.name, f"{row.protocol.smoothing:g}"]
    for name in METRICS:
        cells.append(_value(row.pixel.scores[name].value))
        interval = row.intervals.get(name)
        if name in _WITH_INTERVAL and interval is not None and not interval.reason:
            cells[-1] += f" [{interval.low:.3f}, {interval.high:.3f}]"
    return [*cells, *(_value(row.scores[name].value) for name in IMAGE_METRICS)]


def _tested(test: PairedDifference | None) -> list[str]:
    """Difference, interval and p of a paired test; empty cells where there is none."""
    if test is None or test.reason:
        return ["", "", ""]
    interval = f"[{test.low:+.3f}, {test.high:+.3f}]"
    return [f"{test.difference:+.3f}", interval, f"{test.p_value:.3g}"]


def _numbers(row: ScorerResult, candidate: str) -> list[object]:
    values: list[object] = []
    for name in METRICS:
        interval = row.intervals.get(name)
        values.append(row.pixel.scores[name].value)
        values += [interval.low, interval.high] if interval else [math.nan, math.nan]
    reasons = dict.fromkeys(score.reason for score in row.scores.values() if score.reason)
    return [
        row.name,
        candidate,
        row.protocol.smoothing,
        *values,
        *(row.scores[name].value for name in IMAGE_METRICS),
        math.nan if row.threshold is None else row.threshold,
        *(row.scores[name].value if name in row.scores else math.nan for name in AT_THRESHOLD),
        f"{row.seconds:.2f}",
        "; ".join(reasons),
    ]


def _value(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _html_table(table: Table) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head = line(table.columns, "th")
    body = "".join(line(cells, "td") for cells in table.cells)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
