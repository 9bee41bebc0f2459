"""Charts as SVG, drawn from the results' JSON alone: the same numbers give the same bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from captum_vae.experiments import svg
from captum_vae.experiments.results import Chart, Reference, Scatter, read_cell
from captum_vae.experiments.scatter_chart import scatter_svg
from captum_vae.experiments.svg import Element, Scale, Style
from captum_vae.experiments.verdicts import Estimate

_LABELS = 290
"""Pixels after which a label is broken."""

_LINE, _LANE, _BETWEEN = 16, 11, 9
_RIGHT = 14
_TALL = 420
"""Height from which the numbers of the axis stand above the rows as well."""


@dataclass(frozen=True)
class _Series:
    """A column: its style, and its cells from top to bottom."""

    style: Style
    cells: Sequence[Estimate | None]

    @property
    def spread(self) -> bool:
        """Whether any cell has an interval."""
        return any(cell is not None and cell.low is not None for cell in self.cells)

    @property
    def entry(self) -> Style:
        """Of the legend: it says where there is nothing to see."""
        if any(cell is not None for cell in self.cells):
            return self.style
        return replace(self.style, name=f"{self.style.name} (none)")


@dataclass(frozen=True)
class _Row:
    """A label's lines and its cells, by the lane in which they are drawn."""

    lines: Sequence[str]
    lanes: Mapping[int, Sequence[tuple[Style, Estimate]]]

    @property
    def height(self) -> int:
        """Pixels."""
        return max(len(self.lines) * _LINE, len(self.lanes) * _LANE) + _BETWEEN


def chart_svg(chart: Chart | Scatter, table: Mapping[str, Any], *, background: str = "none") -> str:
    """Draw a table's numbers as marks, and their 95% intervals as lines.

    Published figures are hollow, ours filled. An undefined value is called so where its mark would
    stand; where a source says nothing, nothing is drawn.

    Args:
        chart: what to draw.
        table: as of :meth:`captum_vae.experiments.results.ResultTable.to_dict`.
        background: colour of the paper for a file that stands by itself, with dark text; ``none``
            for a chart inside a page, whose text colour it takes.

    Returns:
        An SVG element of 736 CSS pixels' width, without any identifiers, so that a page can hold
        several.
    """
    if chart.kind == "scatter":
        return scatter_svg(chart, table, background)
    return _rows_svg(chart, table, background)


def _rows_svg(chart: Chart, table: Mapping[str, Any], background: str) -> str:
    series = _series(chart, table)
    rows = _rows(_labels(chart, table), series)
    words = max((svg.text_width(line) for row in rows for line in row.lines), default=0)
    scale = _scale(series, chart.reference, 22 + words)
    root = svg.sheet(chart.title, chart.alt, background)
    tall = sum(row.height for row in rows) > _TALL
    top = svg.legend(root, [one.entry for one in series], 44) + 14
    top += 18 * bool(chart.reference) + 18 * tall
    bottom = top
    for number, row in enumerate(rows):
        if number % 2 == 0:
            root.append(
                svg.element(
                    "rect", y=bottom, width=svg.WIDTH, height=row.height, fill_opacity=0.045
                )
            )
        bottom += row.height
    root.extend(_axis(scale, chart, top, bottom, above=tall))
    y = top
    for row in rows:
        root.extend(_drawn(row, scale, y))
        y += row.height
    return svg.finished(root, bottom + 44)


def _labels(chart: Chart, table: Mapping[str, Any]) -> list[str]:
    places = [table["columns"].index(column) for column in chart.labels]
    return [
        ", ".join(str(row[place]) for place in places if row[place] is not None)
        for row in table["rows"]
    ]


def _series(chart: Chart, table: Mapping[str, Any]) -> list[_Series]:
    found = []
    for style in svg.styles(chart.published, chart.ours):
        place = table["columns"].index(style.name)
        found.append(_Series(style, [read_cell(row[place]) for row in table["rows"]]))
    return found


def _rows(labels: Sequence[str], series: Sequence[_Series]) -> list[_Row]:
    """Lines and words would hide each other: a lane for each, the first for all bare dots."""
    rows = []
    for place, label in enumerate(labels):
        lanes: dict[int, list[tuple[Style, Estimate]]] = {}
        for number, one in enumerate(series, 1):
            cell = one.cells[place]
            if cell is not None:
                alone = one.spread or cell.value is None
                lanes.setdefault(number if alone else 0, []).append((one.style, cell))
        lines = textwrap.wrap(label, int(_LABELS / svg.text_width("x")))
        rows.append(_Row(lines, dict(sorted(lanes.items()))))
    return rows


def _scale(series: Sequence[_Series], reference: Reference | None, left: float) -> Scale:
    numbers = [
        number
        for one in series
        for cell in one.cells
        if cell is not None
        for number in (cell.value, cell.low, cell.high)
        if number is not None
    ]
    numbers += [reference.value] if reference else []
    return Scale.over(numbers, left, svg.WIDTH - _RIGHT)


def _axis(
    scale: Scale, chart: Chart, top: float, bottom: float, *, above: bool
) -> Iterator[Element]:
    for tick in scale.ticks:
        x = scale(tick)
        yield svg.grid_line(x, top, x, bottom)
        for y in (bottom + 17, *([top - 7] if above else [])):
            yield svg.tick_text(scale.text(tick), x, y)
    yield svg.text(chart.axis, (scale.start + scale.end) / 2, bottom + 36, text_anchor="middle")
    if chart.reference:
        x = scale(chart.reference.value)
        yield svg.line(x, top, x, bottom, stroke="currentColor", stroke_dasharray="4 3")
        words = chart.reference.name
        y = top - (24 if above else 7)
        place = min(x, svg.WIDTH - svg.text_width(words, svg.SMALL) / 2)
        yield svg.text(words, place, y, font_size=svg.SMALL, text_anchor="middle")


def _drawn(row: _Row, scale: Scale, y: int) -> Iterator[Element]:
    """A row from its upper edge."""
    middle = y + row.height / 2
    first = middle - (len(row.lines) - 1) * _LINE / 2 + 4.5
    for number, words in enumerate(row.lines):
        yield svg.text(words, 8, first + number * _LINE)
    first = middle - (len(row.lanes) - 1) * _LANE / 2
    for number, points in enumerate(row.lanes.values()):
        for style, cell in points:
            title = f"{' '.join(row.lines)}, {style.name}: {cell}"
            yield _point(style, cell, title, scale, first + number * _LANE)


def _point(style: Style, cell: Estimate, title: str, scale: Scale, y: float) -> Element:
    """A mark over its interval, with its numbers for the pointer that rests on it."""
    if cell.value is None:
        return svg.text("undefined", scale.start + 4, y + 4, font_size=11, fill=style.color)
    group = svg.titled(title)
    if cell.low is not None and cell.high is not None:
        low, high = scale(cell.low), scale(cell.high)
        group.append(svg.line(low, y, high, y, stroke=style.color, stroke_width=2))
    group.append(svg.mark(style, scale(cell.value), y))
    return group
