"""What charts are made of: text, lines, marks, scales and legends, as elements of SVG.

SVG is written here and not by matplotlib, whose output changes with its version: the same numbers
have to give the same bytes. Text stays text: it can be searched and takes the reader's font.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

Element = ElementTree.Element

WIDTH = 736
"""CSS pixels: the text column of the manual."""

TEXT, SMALL = 13, 12
"""Sizes of fonts."""

_FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", Helvetica, Arial, sans-serif'
_CHARACTER = 0.55
"""Width of an average character in font sizes, on the safe side: the font is the reader's."""

# After Okabe and Ito, told apart by colour-blind eyes, with shapes besides; shades are chosen so
# that all keep a contrast of 3.4 or more on white and on a dark page.
_COLORS = ("#2480c4", "#d55e00", "#009e73", "#b8659a", "#8f7500", "#7d7d7d")
_SHAPES = {
    "circle": "",
    "diamond": "M0-5.4 5.4 0 0 5.4-5.4 0Z",
    "square": "M-4-4H4V4H-4Z",
    "triangle": "M0-5 4.8 3.6H-4.8Z",
    "tip": "M0 5 4.8-3.6H-4.8Z",
    "plus": "M-1.7-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
}


@dataclass(frozen=True)
class Style:
    """How a series looks.

    Attributes:
        name: in the legend.
        shape: of its marks.
        color: of its marks and lines.
        hollow: whether its marks are: those of published figures.
    """

    name: str
    shape: str
    color: str
    hollow: bool


@dataclass(frozen=True)
class Scale:
    """From values to places along an axis.

    Attributes:
        ticks: the numbers at the axis, from its one end to the other.
        digits: decimals with which they are written.
        start: place of the first.
        end: place of the last.
    """

    ticks: Sequence[float]
    digits: int
    start: float
    end: float

    @classmethod
    def over(cls, numbers: Sequence[float], start: float, end: float) -> Scale:
        """Round numbers around some numbers; from 0 to 1 without any."""
        low, high = min(numbers, default=0.0), max(numbers, default=1.0)
        length = (high - low or 1.0) / 5
        power = math.floor(math.log10(length))
        step = max(f for f in (1, 2, 5) if f * 10.0**power <= length) * 10.0**power
        # A billionth of a step is rounding, and no reason for another one.
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        ticks = [number * step for number in range(first, max(last, first + 1) + 1)]
        return cls(ticks, max(0, -power), start, end)

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high = self.ticks[0], self.ticks[-1]
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def text(self, tick: float) -> str:
        """A tick's number."""
        return f"{tick:.{self.digits}f}"


def styles(published: Sequence[str], ours: Sequence[str]) -> list[Style]:
    """A style per name: published figures hollow and in the colour of text, ours filled."""
    shapes = list(_SHAPES)
    hollow = [
        Style(name, shapes[number % len(shapes)], "currentColor", True)
        for number, name in enumerate(published)
    ]
    filled = [
        Style(name, shapes[number % len(shapes)], _COLORS[number % len(_COLORS)], False)
        for number, name in enumerate(ours)
    ]
    return hollow + filled


def sheet(title: str, alt: str, background: str) -> Element:
    """An empty chart under its title; give it its height with :func:`finished`.

    Args:
        title: headline.
        alt: what it shows, for those who cannot see it.
        background: as of :func:`captum_vae.experiments.charts.chart_svg`.
    """
    root = element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=0,
        viewBox="",
        role="img",
        aria_label=alt,
        font_family=_FONT,
        font_size=TEXT,
        fill="currentColor",
        style="max-width: 100%; height: auto",
    )
    if background != "none":
        root.set("color", "#1d1d1f")
        root.append(element("rect", width="100%", height="100%", fill=background))
    root.append(text(title, 8, 20, font_size=15, font_weight=600))
    return root


def finished(root: Element, height: int) -> str:
    """The chart as text."""
    root.set("height", str(height))
    root.set("viewBox", f"0 0 {WIDTH} {height}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def legend(root: Element, series: Sequence[Style], y: int) -> int:
    """Marks and names in columns, the published ones first; the last line's place."""
    width = max((36 + text_width(style.name) for style in series), default=WIDTH)
    columns = max(1, int(WIDTH / width))
    groups = [[style for style in series if style.hollow is hollow] for hollow in (True, False)]
    for group in filter(None, groups):
        for number, style in enumerate(group):
            x = 14 + number % columns * width
            y += 20 * (number > 0 and number % columns == 0)
            root.append(mark(style, x, y - 4.5))
            root.append(text(style.name, x + 11, y))
        y += 20
    return y - 20


def mark(style: Style, x: float, y: float) -> Element:
    """A series' mark with its centre there."""
    outline = _SHAPES[style.shape]
    found = element("path", d=outline) if outline else element("circle", r=4.4)
    found.set("transform", f"translate({_number(x)} {_number(y)})")
    found.set("fill", "none" if style.hollow else style.color)
    if style.hollow:
        found.set("stroke", style.color)
        found.set("stroke-width", "1.5")
    return found


def tick_text(words: str, x: float, y: float, anchor: str = "middle") -> Element:
    """A number at an axis."""
    return text(words, x, y, font_size=SMALL, text_anchor=anchor, fill_opacity=0.75)


def grid_line(x1: float, y1: float, x2: float, y2: float) -> Element:
    """A faint line from a number of an axis through the chart."""
    return line(x1, y1, x2, y2, stroke="currentColor", stroke_opacity=0.14)


def titled(title: str) -> Element:
    """A group whose title shows where the pointer rests on it."""
    group = element("g")
    ElementTree.SubElement(group, "title").text = title
    return group


def text(words: str, x: float, y: float, **attributes: Any) -> Element:
    """Words from there on."""
    found = element("text", x=x, y=y, **attributes)
    found.text = words
    return found


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> Element:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def element(name: str, **attributes: Any) -> Element:
    """An element; an underscore in an attribute's name stands for a hyphen."""
    return Element(name, {k.replace("_", "-"): _number(v) for k, v in attributes.items()})


def text_width(words: str, size: int = TEXT) -> float:
    """About as many pixels as the words take, rather more than fewer."""
    return len(words) * size * _CHARACTER


def _number(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
