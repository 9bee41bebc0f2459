"""Charts as SVG, drawn from the results' JSON alone: the same numbers give the same bytes."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import Bbox

from captum_vae.report.charts import Chart, Scatter
from captum_vae.report.estimate import Estimate, read_cell

_LOOK: Mapping[str, Any] = {
    # The font comes with matplotlib, and its outlines look the same everywhere.
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "svg.fonttype": "path",
    "text.parse_math": False,
    "text.color": "#222222",
    "axes.labelcolor": "#222222",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "axes.edgecolor": "#b0b0b0",
    "grid.color": "#dedede",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.borderpad": 0,
    "legend.borderaxespad": 0.8,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
}
"""Settings of matplotlib."""

# After Okabe and Ito, told apart by colour-blind eyes, with shapes besides.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "oDs^vP"
_INK = "#222222"

# Lengths are CSS pixels; the width is that of the manual's column.
_INCH = 96
_WIDTH, _SCATTER_HEIGHT = 736, 400
_LINE, _LANE, _BETWEEN = 15, 9, 9
_TALL = 420
"""Height of rows from which the numbers of the axis stand above them as well."""

_LABEL, _ENTRY, _NOTE = 40, 46, 105
"""Characters after which a row's label, an entry of the legend and a note are broken."""


def chart_svg(chart: Chart | Scatter, table: Mapping[str, Any]) -> str:
    """Draw a table's numbers as marks, and their 95% intervals as lines.

    Published figures are hollow, ours filled. An undefined value is called so; where a source says
    nothing, nothing is drawn.

    Args:
        chart: Chart to draw.
        table: Table whose rows the chart draws: ``columns``, the titles, and ``rows``, a cell per
            column, an estimate as a mapping of ``value``, ``low`` and ``high``.

    Returns:
        An SVG document on white, 736 CSS pixels wide. Its bytes depend on nothing but the arguments
        and the versions of matplotlib and its font engine.
    """
    buffer = io.StringIO()
    with style.context(["default", {**_LOOK, "svg.hashsalt": chart.name}]):
        draw(chart, table).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def draw(chart: Chart | Scatter, table: Mapping[str, Any]) -> Figure:
    """The figure of :func:`chart_svg`, under matplotlib's settings as they are."""
    figure = Figure(figsize=(_WIDTH / _INCH, 1), facecolor="white", layout="constrained")
    axes = figure.subplots()
    if chart.kind == "scatter":
        height = _draw_scatter(axes, chart, table)
    else:
        height = _draw_rows(axes, chart, table)
    entries = len(axes.get_legend_handles_labels()[1])
    figure.legend(
        title=chart.title,
        title_fontproperties={"size": 11, "weight": "bold"},
        loc="outside upper left",
        alignment="left",
        ncols=2,
    )
    # The title, the legend, and the axis with its name come on top.
    figure.set_figheight((height + 35 + 18 * math.ceil(entries / 2) + 60) / _INCH)
    _thin_out(figure, axes.texts if chart.kind == "scatter" else ())
    return figure


def _draw_rows(axes: Axes, chart: Chart, table: Mapping[str, Any]) -> float:
    """Returns the height of all rows, in whose pixels the axis of rows is."""
    marks = _marks(chart.published, chart.ours)
    columns = {name: [read_cell(cell) for cell in _column(table, name)] for name in marks}
    lanes: dict[str, list[tuple[float, Estimate]]] = {name: [] for name in marks}
    labels = _labels(chart, table)
    middles: list[float] = []
    bottom = 0.0
    for row, label in enumerate(labels):
        cells = [(name, cell) for name in marks if (cell := columns[name][row]) is not None]
        height = max((label.count("\n") + 1) * _LINE, len(cells) * _LANE) + _BETWEEN
        middles.append(bottom + height / 2)
        if row % 2 == 0:
            axes.axhspan(bottom, bottom + height, color="#f4f4f4", linewidth=0, zorder=0)
        # Each on its own height, so that no mark or interval hides another.
        for lane, (name, cell) in enumerate(cells):
            lanes[name].append((middles[-1] + (lane - (len(cells) - 1) / 2) * _LANE, cell))
        bottom += height
    if chart.reference:
        line: dict[str, Any] = {"color": _INK, "linewidth": 1, "linestyle": "--", "zorder": 1.5}
        axes.axvline(chart.reference.value, label=chart.reference.name, **line)
    for name, mark in marks.items():
        _draw_lanes(axes, name, mark, lanes[name])
    axes.set_yticks(middles, labels)
    axes.set_ylim(bottom, 0)
    axes.grid(visible=False, axis="y")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params("x", labeltop=bottom > _TALL)
    axes.set_xlabel(chart.axis)
    return bottom


def _draw_lanes(
    axes: Axes, name: str, mark: Mapping[str, Any], cells: Sequence[tuple[float, Estimate]]
) -> None:
    """A series: a mark per value over its interval."""
    known = [(cell.value, y) for y, cell in cells if cell.value is not None]
    _draw_marks(axes, name, mark, known, linestyle="")
    for y, cell in cells:
        if cell.value is None:
            words: dict[str, Any] = {"color": mark["color"], "fontsize": 7, "va": "center_baseline"}
            axes.text(0.01, y, "undefined", transform=axes.get_yaxis_transform(), **words)
        elif cell.low is not None and cell.high is not None:
            axes.hlines(y, cell.low, cell.high, color=mark["color"], linewidth=1.6)


def _labels(chart: Chart, table: Mapping[str, Any]) -> list[str]:
    rows = zip(*(_column(table, column) for column in chart.labels), strict=True)
    joined = (", ".join(str(word) for word in row if word is not None) for row in rows)
    return [textwrap.fill(words, _LABEL) for words in joined]


class _Dot(NamedTuple):
    """A row: its series, what tells it apart there, its numbers."""

    series: str
    point: str
    x: Estimate
    y: Estimate

    @property
    def place(self) -> tuple[float, float] | None:
        """None where either number is undefined."""
        if self.x.value is None or self.y.value is None:
            return None
        return self.x.value, self.y.value


def _draw_scatter(axes: Axes, chart: Scatter, table: Mapping[str, Any]) -> float:
    """Returns the height."""
    columns = (_column(table, name) for name in (chart.series, chart.point, chart.x, chart.y))
    dots = [
        _Dot(series, str(point), read_cell(x) or Estimate(None), read_cell(y) or Estimate(None))
        for series, point, x, y in zip(*columns, strict=True)
    ]
    names = list(dict.fromkeys(dot.series for dot in dots))
    published = [name for name in names if name in chart.published]
    marks = _marks(published, [name for name in names if name not in published])
    if chart.scale == "log":
        axes.set(xscale="log", yscale="log")
    for name, mark in marks.items():
        known = [place for dot in dots if dot.series == name and (place := dot.place)]
        _draw_marks(axes, name, mark, known, linewidth=0.8)
    if chart.scale == "log":
        _name_powers(axes.xaxis)
        _name_powers(axes.yaxis)
    # The axes span the values: with few seeds an interval may be many times as long as all values
    # are apart, and is cut.
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    for dot in dots:
        if dot.place:
            words = "" if chart.scale == "log" else dot.point
            _draw_dot(axes, dot, dot.place, marks[dot.series]["color"], words)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    missing = [f"{dot.series}, {chart.point} {dot.point}" for dot in dots if not dot.place]
    if missing:
        words = textwrap.fill(f"undefined, and not drawn: {'; '.join(missing)}", _NOTE)
        axes.figure.supxlabel(words, x=0.02, ha="left", fontsize=8)
    return _SCATTER_HEIGHT


def _name_powers(axis: Axis) -> None:
    """Plain words for the numbers of a logarithmic axis, between powers of ten where few are."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(FuncFormatter(_power))
    axis.set_minor_formatter(FuncFormatter(_power) if high < 10 * low else NullFormatter())


def _power(value: float, _: object) -> str:
    if value < 1e5:
        return f"{value:g}"
    tens = math.log10(value)
    return f"10^{tens:.0f}" if abs(tens - round(tens)) < 1e-9 else f"{value:g}"


def _draw_dot(axes: Axes, dot: _Dot, place: tuple[float, float], color: str, words: str) -> None:
    """Its intervals, and what tells it apart in words."""
    look: dict[str, Any] = {"color": color, "linewidth": 1, "alpha": 0.5}
    if dot.x.low is not None and dot.x.high is not None:
        axes.hlines(place[1], dot.x.low, dot.x.high, **look)
    if dot.y.low is not None and dot.y.high is not None:
        axes.vlines(place[0], dot.y.low, dot.y.high, **look)
    axes.annotate(
        words,
        place,
        (5, 4),
        textcoords="offset points",
        fontsize=8,
        path_effects=[withStroke(linewidth=2, foreground="white")],
    )


def _thin_out(figure: Figure, texts: Sequence[Text]) -> None:
    """Leave out the texts that would lie on earlier ones."""
    figure.draw_without_rendering()
    taken: list[Bbox] = []
    for text in list(texts):
        box = text.get_window_extent()
        if box.count_overlaps(taken):
            text.remove()
        else:
            taken.append(box)


def _marks(published: Sequence[str], ours: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How a series' marks look, by its name: hollow where published."""
    marks = {}
    for names, colors in ((published, (_INK,)), (ours, _COLORS)):
        for number, name in enumerate(names):
            color = colors[number % len(colors)]
            marks[name] = {
                "color": color,
                "marker": _MARKERS[number % len(_MARKERS)],
                "markerfacecolor": "white" if names is published else color,
                "zorder": 3,
            }
    return marks


def _draw_marks(
    axes: Axes,
    name: str,
    mark: Mapping[str, Any],
    places: Sequence[tuple[float, float]],
    **line: Any,
) -> None:
    """A series; the legend says where there is nothing to see of it."""
    entry = textwrap.fill(name if places else f"{name} (none)", _ENTRY)
    axes.plot([x for x, _ in places], [y for _, y in places], label=entry, **mark, **line)


def _column(table: Mapping[str, Any], name: str) -> list[Any]:
    place = table["columns"].index(name)
    return [row[place] for row in table["rows"]]
