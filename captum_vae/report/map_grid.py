"""A grid of images with attention laid over them, every colour scale stated in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from captum_vae.report.color_scale import (
    COLORMAP,
    ColorScale,
    bar_colors,
    check_colormap,
    heat,
    overlay,
    shown_image,
)
from captum_vae.report.pictures import literal
from captum_vae.report.text import legible, shortened

CELL = 0.92
"""Side of an image; all lengths here are inches."""
GAP = 0.06
STRIP_GAP = 0.34
ROW_GAP = 0.14
RANGE_HEIGHT = 0.2
LABEL_GAP = 0.14
LETTER_WIDTH = 0.085
LABEL_LETTERS = 48
"""Letters after which a line of a row's label loses its middle, or a name would fill the page."""
TITLE_HEIGHT = 0.32
COLUMN_TITLE_HEIGHT = 0.17
BAR_WIDTH = 1.15
MARGIN = 0.12


@dataclass(frozen=True)
class Strip:
    """Images side by side, which may carry attention under one colour scale.

    Attributes:
        images: Images (C, H, W) or (H, W) in [0, 1]; None leaves a cell empty, or shows its map
            alone.
        maps: One (H, W) map per image, or None to show the images alone.
        scale: The colour scale of the maps; None spans their own lowest to highest value.
    """

    images: Sequence[Tensor | None]
    maps: Sequence[Tensor] | None = None
    scale: ColorScale | None = None

    def __post_init__(self) -> None:
        """Check that images and maps pair up.

        Raises:
            ValueError: There is another number of maps than of images.
        """
        if self.maps is not None and len(self.maps) != len(self.images):
            raise ValueError(f"{len(self.maps)} maps for {len(self.images)} images; give one each")

    @property
    def used_scale(self) -> ColorScale | None:
        """The scale the strip is drawn under, None without maps."""
        if self.maps is None:
            return None
        return self.scale or ColorScale.of(self.maps)


@dataclass(frozen=True)
class GridRow:
    """A row of strips with a label at its left, which may have several lines."""

    label: str
    strips: Sequence[Strip]


def draw_map_grid(
    rows: Sequence[GridRow],
    *,
    strip_titles: Sequence[str] = (),
    column_titles: Sequence[Sequence[str]] = (),
    bar_label: str,
    colormap: str = COLORMAP,
) -> Figure:
    """Draw rows of strips under each other and one colour bar.

    Where all strips share one scale the bar carries its numbers. Otherwise the bar goes from
    lowest to highest and every strip states its own two numbers underneath.

    Args:
        rows: The rows, with the same number of strips in each, of the same widths.
        strip_titles: Titles above the columns of strips.
        column_titles: Titles above the single columns, one sequence per strip.
        bar_label: What the colours mean.
        colormap: The name of a matplotlib colormap.

    Raises:
        ValueError: There are no rows, rows differ in their strips, a colormap is unknown, a map
            holds NaN, or its size is not that of its image.
    """
    check_colormap(colormap)
    widths = _strip_widths(rows)
    scales = {strip.used_scale for row in rows for strip in row.strips} - {None}
    shared = len(scales) == 1
    stated = [not shared and any(s.maps is not None for s in row.strips) for row in rows]

    lines = max((t.count("\n") + 1 for titles in column_titles for t in titles), default=0)
    header = TITLE_HEIGHT * bool(strip_titles) + COLUMN_TITLE_HEIGHT * lines
    heights = [CELL + (RANGE_HEIGHT if states else 0) for states in stated]
    grid_width = sum(n * CELL + (n - 1) * GAP for n in widths) + STRIP_GAP * (len(widths) - 1)
    shown = [shortened(legible(row.label), LABEL_LETTERS) for row in rows]
    labels = max(len(line) for label in shown for line in label.split("\n")) * LETTER_WIDTH
    start = MARGIN + labels + LABEL_GAP
    width = start + grid_width + BAR_WIDTH * bool(scales) + MARGIN
    height = MARGIN + header + sum(heights) + ROW_GAP * (len(rows) - 1) + MARGIN
    canvas = _Canvas(Figure(figsize=(width, height), facecolor="white"), width, height)

    lefts = [
        start + sum(n * (CELL + GAP) - GAP + STRIP_GAP for n in widths[:place])
        for place in range(len(widths))
    ]
    _draw_titles(canvas, lefts, widths, strip_titles, column_titles)
    top = MARGIN + header
    map_tops = []
    for row, label, states, row_height in zip(rows, shown, stated, heights, strict=True):
        canvas.text(start - LABEL_GAP, top + CELL / 2, label, ha="right", size=9.5)
        for left, strip in zip(lefts, row.strips, strict=True):
            _draw_strip(canvas, left, top, strip, colormap, states_range=states)
            if strip.maps is not None:
                map_tops += [top, top + CELL]
        top += row_height + ROW_GAP
    if scales:
        left = lefts[-1] + widths[-1] * (CELL + GAP) - GAP + 0.25
        scale = next(iter(scales)) if shared else None
        _draw_bar(canvas, left, min(map_tops), max(map_tops), scale, bar_label, colormap)
    return literal(canvas.figure)


def format_range(scale: ColorScale) -> str:
    """Both ends of a scale, with two digits of what lies between them."""
    length = scale.high - scale.low
    decimals = max(0, 1 - math.floor(math.log10(length))) if length else 3
    if decimals > 5:
        return f"{scale.low:.2g} … {scale.high:.2g}"
    return f"{scale.low:.{decimals}f} … {scale.high:.{decimals}f}"


@dataclass(frozen=True)
class _Canvas:
    """A figure addressed in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(self, left: float, top: float, words: str, **style: Any) -> None:
        style = {"va": "center", "ha": "center", "size": 9, "color": "#222222", **style}
        self.figure.text(left / self.width, 1 - top / self.height, words, **style)


def _strip_widths(rows: Sequence[GridRow]) -> list[int]:
    if not rows:
        raise ValueError("rows is empty; wanted at least one row of strips")
    widths = [len(strip.images) for strip in rows[0].strips]
    for row in rows:
        if [len(strip.images) for strip in row.strips] != widths:
            raise ValueError(
                f"row {row.label!r} has strips of {[len(s.images) for s in row.strips]} images, "
                f"the first row {widths}; wanted the same"
            )
    return widths


def _draw_titles(
    canvas: _Canvas,
    lefts: Sequence[float],
    widths: Sequence[int],
    strip_titles: Sequence[str],
    column_titles: Sequence[Sequence[str]],
) -> None:
    top = MARGIN
    if strip_titles:
        for left, count, title in zip(lefts, widths, strip_titles, strict=True):
            middle = left + (count * (CELL + GAP) - GAP) / 2
            canvas.text(middle, top + TITLE_HEIGHT * 0.4, title, size=10.5, weight="bold")
        top += TITLE_HEIGHT
    for left, titles in zip(lefts, column_titles, strict=bool(column_titles)):
        for place, title in enumerate(titles):
            middle = left + place * (CELL + GAP) + CELL / 2
            canvas.text(middle, top, title, size=8.5, va="top")


def _draw_strip(
    canvas: _Canvas, left: float, top: float, strip: Strip, colormap: str, *, states_range: bool
) -> None:
    scale = strip.used_scale
    for place, image in enumerate(strip.images):
        if image is None and strip.maps is None:
            continue
        axes = canvas.axes(left + place * (CELL + GAP), top, CELL, CELL)
        axes.set_axis_off()
        if image is None:
            assert strip.maps is not None and scale is not None
            axes.imshow(heat(strip.maps[place], scale, colormap=colormap))
        elif strip.maps is None or scale is None:
            axes.imshow(shown_image(image), cmap="gray", vmin=0, vmax=1)
        else:
            axes.imshow(overlay(image, strip.maps[place], scale, colormap=colormap))
    if states_range and scale is not None:
        middle = left + (len(strip.images) * (CELL + GAP) - GAP) / 2
        words = format_range(scale)
        canvas.text(middle, top + CELL + RANGE_HEIGHT * 0.55, words, size=8, color="#555555")


def _draw_bar(
    canvas: _Canvas,
    left: float,
    top: float,
    bottom: float,
    scale: ColorScale | None,
    label: str,
    colormap: str,
) -> None:
    axes = canvas.axes(left, top, 0.16, bottom - top)
    low, high = (scale.low, scale.high) if scale else (0.0, 1.0)
    if low == high:
        high = low + 1.0
    axes.imshow(bar_colors(colormap), aspect="auto", origin="lower", extent=(0, 1, low, high))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=8, length=2.5, color="#555555", labelcolor="#222222")
    if scale is None:
        axes.set_yticks([0, 1], ["lowest", "highest"])
    axes.set_ylabel(label, fontsize=8.5, labelpad=4, color="#222222")
    axes.yaxis.set_label_position("right")
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
