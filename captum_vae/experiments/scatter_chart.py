"""Two numbers against each other, as SVG."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from captum_vae.experiments import svg
from captum_vae.experiments.results import Scatter, read_cell
from captum_vae.experiments.svg import Element, Scale, Style
from captum_vae.experiments.verdicts import Estimate

_HEIGHT, _LEFT, _RIGHT = 380, 56, 24
_MARGIN = 0.12
"""Of the values' range on either side, for their intervals."""

_LABEL = 11
_BESIDE = ((8, -5, "start"), (8, 13, "start"), (-8, -5, "end"), (-8, 13, "end"))
"""Where a label may stand beside its mark, the best place first."""


@dataclass(frozen=True)
class _Dot:
    """A row: its series' style, what tells it apart, its numbers."""

    style: Style
    label: str
    x: Estimate
    y: Estimate

    @property
    def known(self) -> bool:
        """Whether it has a place."""
        return self.x.value is not None and self.y.value is not None


def scatter_svg(chart: Scatter, table: Mapping[str, Any], background: str) -> str:
    """Draw the rows' numbers against each other.

    The axes span the values and a margin. An interval that reaches further is cut there: with few
    seeds it may be many times as long as all values are apart.

    Args:
        chart: what to draw.
        table: as of :meth:`captum_vae.experiments.results.ResultTable.to_dict`.
        background: as of :func:`captum_vae.experiments.charts.chart_svg`.
    """
    dots = _dots(chart, table)
    drawn = [dot for dot in dots if dot.known]
    root = svg.sheet(chart.title, chart.alt, background)
    top = svg.legend(root, _entries(dots), 44) + 40
    bottom = top + _HEIGHT
    x = Scale.over(_span([dot.x for dot in drawn]), _LEFT, svg.WIDTH - _RIGHT)
    y = Scale.over(_span([dot.y for dot in drawn]), bottom, top)
    root.extend(_axes(chart, x, y))
    for style in dict.fromkeys(dot.style for dot in drawn):
        places = [_place(dot, x, y) for dot in drawn if dot.style == style]
        path = " ".join(f"{a:.2f},{b:.2f}" for a, b in places)
        root.append(
            svg.element(
                "polyline", points=path, fill="none", stroke=style.color, stroke_opacity=0.45
            )
        )
    root.extend(_point(dot, chart, x, y) for dot in drawn)
    root.extend(_labels(drawn, x, y))
    height = bottom + 44
    missing = [f"{dot.style.name}, {chart.point} {dot.label}" for dot in dots if not dot.known]
    if missing:
        words = "undefined, and not drawn: " + "; ".join(missing)
        for part in textwrap.wrap(words, int((svg.WIDTH - 16) / svg.text_width("x", svg.SMALL))):
            height += 18
            root.append(svg.text(part, 8, height - 4, font_size=svg.SMALL))
    return svg.finished(root, height)


def _dots(chart: Scatter, table: Mapping[str, Any]) -> list[_Dot]:
    series, point, x, y = (
        table["columns"].index(name) for name in (chart.series, chart.point, chart.x, chart.y)
    )
    names = list(dict.fromkeys(row[series] for row in table["rows"]))
    ours = [name for name in names if name not in chart.published]
    styles = {style.name: style for style in svg.styles(chart.published, ours)}
    undefined = Estimate(None)
    return [
        _Dot(
            styles[row[series]],
            str(row[point]),
            read_cell(row[x]) or undefined,
            read_cell(row[y]) or undefined,
        )
        for row in table["rows"]
    ]


def _entries(dots: Sequence[_Dot]) -> list[Style]:
    """Of the legend: it says where there is nothing to see."""
    seen = {dot.style for dot in dots if dot.known}
    return [
        style if style in seen else replace(style, name=f"{style.name} (none)")
        for style in dict.fromkeys(dot.style for dot in dots)
    ]


def _span(estimates: Sequence[Estimate]) -> list[float]:
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    if not values:
        return []
    low, high = min(values), max(values)
    margin = _MARGIN * (high - low)
    # What is never negative needs no negative numbers at its axis.
    return [max(0.0, low - margin) if low >= 0 else low - margin, high + margin]


def _axes(chart: Scatter, x: Scale, y: Scale) -> Iterator[Element]:
    for tick in x.ticks:
        yield svg.grid_line(x(tick), y.end, x(tick), y.start)
        yield svg.tick_text(x.text(tick), x(tick), y.start + 17)
    for tick in y.ticks:
        yield svg.grid_line(x.start, y(tick), x.end, y(tick))
        yield svg.tick_text(y.text(tick), x.start - 8, y(tick) + 4, "end")
    yield svg.text(chart.x, (x.start + x.end) / 2, y.start + 36, text_anchor="middle")
    yield svg.text(chart.y, 8, y.end - 14)


def _place(dot: _Dot, x: Scale, y: Scale) -> tuple[float, float]:
    assert dot.x.value is not None and dot.y.value is not None
    return x(dot.x.value), y(dot.y.value)


def _point(dot: _Dot, chart: Scatter, x: Scale, y: Scale) -> Element:
    """A mark over its intervals, with its numbers for the pointer that rests on it."""
    words = f"{dot.style.name}, {chart.point} {dot.label}"
    group = svg.titled(f"{words}: {chart.x} {dot.x}, {chart.y} {dot.y}")
    across, up = _place(dot, x, y)
    look: dict[str, Any] = {"stroke": dot.style.color, "stroke_opacity": 0.6}
    ends = _ends(dot.x, x)
    if ends:
        group.append(svg.line(ends[0], up, ends[1], up, **look))
    ends = _ends(dot.y, y)
    if ends:
        group.append(svg.line(across, ends[0], across, ends[1], **look))
    group.append(svg.mark(dot.style, across, up))
    return group


def _ends(estimate: Estimate, scale: Scale) -> tuple[float, float] | None:
    if estimate.low is None or estimate.high is None:
        return None
    low, high = scale.ticks[0], scale.ticks[-1]
    return scale(max(estimate.low, low)), scale(min(estimate.high, high))


def _labels(dots: Sequence[_Dot], x: Scale, y: Scale) -> Iterator[Element]:
    """What tells the points apart, where there is room: else the pointer has to ask."""
    if len({dot.label for dot in dots}) < 2:
        return
    places = [_place(dot, x, y) for dot in dots]
    taken = [(across - 6, up - 6, across + 6, up + 6) for across, up in places]
    for dot, (across, up) in zip(dots, places, strict=True):
        width = svg.text_width(dot.label, _LABEL)
        for right, down, anchor in _BESIDE:
            left = across + right - (width if anchor == "end" else 0)
            box = (left, up + down - 9, left + width, up + down)
            inside = x.start < box[0] and box[2] < svg.WIDTH
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                yield svg.text(
                    dot.label,
                    across + right,
                    up + down,
                    font_size=_LABEL,
                    text_anchor=anchor,
                    fill=dot.style.color,
                )
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
