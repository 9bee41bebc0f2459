"""Figures as files, with every text in them drawn as it is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from captum_vae.files import replacing
from captum_vae.report.text import legible, shortened

_LINE = 160
"""Letters after which a line of any text in a figure is shortened."""

_LEGEND_ENTRY = 64
"""Letters after which a name in a legend is shortened."""

_NO_GLYPH = "\N{REPLACEMENT CHARACTER}"


class _LiteralFormatter(FuncFormatter):
    """Tick labels that are literal already."""


def save_picture(figure: Figure, path: str | Path, *, dpi: int = 160) -> Path:
    """Write a figure as PNG without showing it or touching pyplot's state.

    Its texts are made literal, see :func:`literal`. The file is written whole or not at all.

    Args:
        figure: The drawn figure.
        path: The file to write, ending in .png; its folder is created.
        dpi: Pixels per inch.

    Raises:
        TypeError: ``figure`` is no figure.
        ValueError: The path has another ending.
        OSError: The file cannot be written; the message names it.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"figure is a {type(figure).__name__}; wanted a matplotlib Figure")
    path = Path(path)
    if path.suffix != ".png":
        raise ValueError(f"path is {str(path)!r}; wanted a name that ends in .png")
    literal(figure)
    with replacing(path) as file:
        # Without the software's name and date two runs give the same bytes.
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return path


def literal(figure: Figure) -> Figure:
    """Make every text of a figure be drawn as it is: names of files and models are no formulas.

    Matplotlib reads what stands between two dollar signs as mathematics, draws control characters
    as boxes, and warns of letters that no font has. Here dollars are dollars; what cannot be seen
    is written out; letters without a glyph become one replacement character; very long lines lose
    their middle. Tick labels that matplotlib makes of numbers stay as they are.

    Args:
        figure: The figure, changed in place. It is to be drawn only after this.

    Returns:
        The same figure.
    """
    of_ticks: set[Text] = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            of_ticks.update(axis.get_ticklabels(which="both"))
            _make_tick_labels_literal(axis)
    for text in figure.findobj(Text):
        if text not in of_ticks:
            text.set_parse_math(False)
            text.set_text(_drawable(text.get_text(), text.get_fontproperties()))
    return figure


def add_legend(figure: Figure, entries: Mapping[str, Artist], **options: Any) -> None:
    """Explain lines and marks below or beside the axes, under names of any kind.

    Matplotlib leaves out what is called by a name that begins with an underscore; here nothing is.

    Args:
        figure: The figure that gets the legend.
        entries: What is explained, by name; long names lose their middle.
        options: Options of ``Figure.legend``.
    """
    if not entries:
        return
    places = [str(place) for place in range(len(entries))]
    legend = figure.legend(list(entries.values()), places, **options)
    for text, name in zip(legend.get_texts(), entries, strict=True):
        text.set_text(shortened(legible(name), _LEGEND_ENTRY))


def _make_tick_labels_literal(axis: Axis) -> None:
    formatter = axis.get_major_formatter()
    # Others make labels of numbers, some as mathematics: powers of ten.
    if not isinstance(formatter, (FixedFormatter, FuncFormatter)) or isinstance(
        formatter, _LiteralFormatter
    ):
        return
    font = FontProperties()

    def escaped(value: float, place: int | None = None) -> str:
        label = _drawable(formatter(value, place), font)
        return label.replace("$", "\\$") if rcParams["text.parse_math"] else label

    axis.set_major_formatter(_LiteralFormatter(escaped))


def _drawable(text: str, font: FontProperties) -> str:
    text = shortened(legible(text), _LINE)
    if text.isascii():
        return text
    families = tuple(font.get_family())
    return "".join(
        letter if letter.isspace() or _has_glyph(families, ord(letter)) else _NO_GLYPH
        for letter in text
    )


@lru_cache(maxsize=4096)
def _has_glyph(families: tuple[str, ...], code: int) -> bool:
    """Whether the font of one of the families has a glyph for a character."""
    return any(
        get_font(findfont(FontProperties(family=[family]))).get_char_index(code)
        for family in families
    )
