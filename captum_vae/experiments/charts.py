"""Charts as SVG, drawn from the results' JSON alone: the same numbers give the same bytes.

SVG is written here and not by matplotlib, whose output changes with its version. Text stays text:
it can be searched, takes the reader's font, and without a background of its own the chart takes
the colour of the text around it, on a light page as on a dark one.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from captum_vae.experiments.results import Chart, Reference
from captum_vae.experiments.verdicts import Estimate

Element = ElementTree.Element

_WIDTH = 736
"""CSS pixels: the text column of the manual."""

_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
_TEXT, _SMALL = 13, 12
_CHARACTER = 0.55
"""Width of an average character in font sizes, on the safe side: the font is the reader's."""

_LABELS = 290
_LINE, _LANE, _BETWEEN = 16, 11, 9
_RIGHT = 14
_TALL = 420
"""Height from which the numbers of the axis stand above the rows as well."""

# After Okabe and Ito, told apart by colour-blind eyes; their blue is lightened and their purple
# darkened, so that all keep a contrast of 3.4 on white and 3.9 on a dark page.
_COLORS = ("#2480c4", "#d55e00", "#009e73", "#b8659a")
_SHAPES = {
    "circle": "",
    "diamond": "M0-5.4 5.4 0 0 5.4-5.4 0Z",
    "square": "M-4-4H4V4H-4Z",
    "triangle": "M0-5 4.8 3.6H-4.8Z",
}


@dataclass(frozen=True)
class _Series:
    """A column: its cells from top to bottom, and its mark."""

    name: str
    cells: Sequence[Estimate | None]
    shape: str
    color: str
    hollow: bool

    @property
    def spread(self) -> bool:
        """Whether any cell has an interval."""
        return any(cell is not None and cell.low is not None for cell in self.cells)

    @property
    def title(self) -> str:
        """Its name, and whether there is anything to see."""
        return self.name if any(cell is not None for cell in self.cells) else f"{self.name} (none)"


@dataclass(frozen=True)
class _Row:
    """A label's lines and its cells, by the lane in which they are drawn."""

    lines: Sequence[str]
    lanes: Mapping[int, Sequence[tuple[_Series, Estimate]]]

    @property
    def height(self) -> int:
        """Pixels."""
        return max(len(self.lines) * _LINE, len(self.lanes) * _LANE) + _BETWEEN


@dataclass(frozen=True)
class _Scale:
    """From values to horizontal places."""

    ticks: Sequence[float]
    digits: int
    left: float
    right: float

    def __call__(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return self.left + (value - low) / (high - low) * (self.right - self.left)


def chart_svg(chart: Chart, table: Mapping[str, Any], *, background: str = "none") -> str:
    """Draw a table: a row per label, a mark per column, the 95% interval as a line.

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
    series = _series(chart, table)
    rows = _rows(_labels(chart, table), series)
    words = max((_width(line) for row in rows for line in row.lines), default=0)
    scale = _scale(series, chart.reference, 22 + words)
    root = _element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        width=_WIDTH,
        viewBox="",
        role="img",
        aria_label=chart.alt,
        font_family=_FONT,
        font_size=_TEXT,
        fill="currentColor",
        style="max-width: 100%; height: auto",
    )
    if background != "none":
        root.set("color", "#1d1d1f")
        root.append(_element("rect", width="100%", height="100%", fill=background))
    root.append(_text(chart.title, 8, 20, font_size=15, font_weight=600))
    tall = sum(row.height for row in rows) > _TALL
    top = _legend(root, series, 44) + 14 + 18 * bool(chart.reference) + 18 * tall
    bottom = top + sum(row.height for row in rows)
    y = top
    for number, row in enumerate(rows):
        if number % 2 == 0:
            root.append(_element("rect", y=y, width=_WIDTH, height=row.height, fill_opacity=0.045))
        y += row.height
    _axis(root, scale, chart, top, bottom, above=tall)
    y = top
    for row in rows:
        root.extend(_drawn(row, scale, y))
        y += row.height
    root.set("height", str(bottom + 44))
    root.set("viewBox", f"0 0 {_WIDTH} {bottom + 44}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _labels(chart: Chart, table: Mapping[str, Any]) -> list[str]:
    places = [table["columns"].index(column) for column in chart.labels]
    return [
        ", ".join(str(row[place]) for place in places if row[place] is not None)
        for row in table["rows"]
    ]


def _series(chart: Chart, table: Mapping[str, Any]) -> list[_Series]:
    found = []
    shapes = list(_SHAPES)
    for columns, hollow in ((chart.published, True), (chart.ours, False)):
        for number, column in enumerate(columns):
            place = table["columns"].index(column)
            found.append(
                _Series(
                    column,
                    [_cell(row[place]) for row in table["rows"]],
                    shapes[number % len(shapes)],
                    "currentColor" if hollow else _COLORS[number % len(_COLORS)],
                    hollow,
                )
            )
    return found


def _cell(cell: Any) -> Estimate | None:
    if cell is None:
        return None
    found = Estimate.from_dict(dict(cell)) if isinstance(cell, Mapping) else Estimate(float(cell))
    return Estimate(None) if found.value is not None and math.isnan(found.value) else found


def _rows(labels: Sequence[str], series: Sequence[_Series]) -> list[_Row]:
    """Lines and words would hide each other: a lane for each, the first for all bare dots."""
    rows = []
    for place, label in enumerate(labels):
        lanes: dict[int, list[tuple[_Series, Estimate]]] = {}
        for number, one in enumerate(series, 1):
            cell = one.cells[place]
            if cell is not None:
                alone = one.spread or cell.value is None
                lanes.setdefault(number if alone else 0, []).append((one, cell))
        lines = textwrap.wrap(label, int(_LABELS / _width("x")))
        rows.append(_Row(lines, dict(sorted(lanes.items()))))
    return rows


def _scale(series: Sequence[_Series], reference: Reference | None, left: float) -> _Scale:
    numbers = [
        number
        for one in series
        for cell in one.cells
        if cell is not None
        for number in (cell.value, cell.low, cell.high)
        if number is not None
    ]
    numbers += [reference.value] if reference else []
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    step, digits = _step(high - low or 1.0)
    # A billionth of a step is rounding, and no reason for another one.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    ticks = [number * step for number in range(first, last + 1)]
    return _Scale(ticks, digits, left, _WIDTH - _RIGHT)


def _step(length: float) -> tuple[float, int]:
    """Of five to ten round numbers over a length, and their decimals."""
    power = math.floor(math.log10(length / 5))
    factor = max(f for f in (1, 2, 5) if f * 10.0**power <= length / 5)
    return factor * 10.0**power, max(0, -power)


def _legend(root: Element, series: Sequence[_Series], y: int) -> int:
    """Marks and names in columns, the published ones first; the last line's place."""
    width = max((36 + _width(one.title) for one in series), default=_WIDTH)
    columns = max(1, int(_WIDTH / width))
    groups = [[one for one in series if one.hollow], [one for one in series if not one.hollow]]
    for group in filter(None, groups):
        for number, one in enumerate(group):
            x = 14 + number % columns * width
            y += 20 * (number > 0 and number % columns == 0)
            root.append(_mark(one, x, y - 4.5))
            root.append(_text(one.title, x + 11, y))
        y += 20
    return y - 20


def _axis(
    root: Element, scale: _Scale, chart: Chart, top: float, bottom: float, *, above: bool
) -> None:
    for tick in scale.ticks:
        x = scale(tick)
        root.append(_line(x, top, x, bottom, stroke="currentColor", stroke_opacity=0.14))
        for y in (bottom + 17, *([top - 7] if above else [])):
            words = f"{tick:.{scale.digits}f}"
            root.append(
                _text(words, x, y, font_size=_SMALL, text_anchor="middle", fill_opacity=0.75)
            )
    root.append(
        _text(chart.axis, (scale.left + scale.right) / 2, bottom + 36, text_anchor="middle")
    )
    if chart.reference:
        x = scale(chart.reference.value)
        root.append(_line(x, top, x, bottom, stroke="currentColor", stroke_dasharray="4 3"))
        words = chart.reference.name
        y = top - (24 if above else 7)
        place = min(x, _WIDTH - _width(words, _SMALL) / 2)
        root.append(_text(words, place, y, font_size=_SMALL, text_anchor="middle"))


def _drawn(row: _Row, scale: _Scale, y: int) -> Iterator[Element]:
    """A row from its upper edge."""
    middle = y + row.height / 2
    first = middle - (len(row.lines) - 1) * _LINE / 2 + 4.5
    for number, line in enumerate(row.lines):
        yield _text(line, 8, first + number * _LINE)
    first = middle - (len(row.lanes) - 1) * _LANE / 2
    for number, points in enumerate(row.lanes.values()):
        for series, cell in points:
            title = f"{' '.join(row.lines)}, {series.name}: {cell}"
            yield _point(series, cell, title, scale, first + number * _LANE)


def _point(series: _Series, cell: Estimate, title: str, scale: _Scale, y: float) -> Element:
    """A mark over its interval, with its numbers for the pointer that rests on it."""
    if cell.value is None:
        return _text("undefined", scale.left + 4, y + 4, font_size=11, fill=series.color)
    group = _element("g")
    ElementTree.SubElement(group, "title").text = title
    if cell.low is not None and cell.high is not None:
        low, high = scale(cell.low), scale(cell.high)
        group.append(_line(low, y, high, y, stroke=series.color, stroke_width=2))
    group.append(_mark(series, scale(cell.value), y))
    return group


def _mark(series: _Series, x: float, y: float) -> Element:
    outline = _SHAPES[series.shape]
    mark = _element("path", d=outline) if outline else _element("circle", r=4.4)
    mark.set("transform", f"translate({_number(x)} {_number(y)})")
    mark.set("fill", "none" if series.hollow else series.color)
    if series.hollow:
        mark.set("stroke", series.color)
        mark.set("stroke-width", "1.5")
    return mark


def _text(words: str, x: float, y: float, **attributes: Any) -> Element:
    element = _element("text", x=x, y=y, **attributes)
    element.text = words
    return element


def _line(x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> Element:
    return _element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def _element(name: str, **attributes: Any) -> Element:
    return Element(
        name,
        {
            key if key == "viewBox" else key.replace("_", "-"): _number(value)
            for key, value in attributes.items()
        },
    )


def _number(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _width(words: str, size: int = _TEXT) -> float:
    return len(words) * size * _CHARACTER
