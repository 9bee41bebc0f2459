"""Charts of a table's numbers, described as values that become plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Reference:
    """A value that every row of a chart is read against.

    Attributes:
        value: Where its line stands.
        name: What the line is called, such as ``chance``.
    """

    value: float
    name: str


@dataclass(frozen=True)
class Chart:
    """A table's numbers as dots with their intervals, one row per label.

    Attributes:
        name: The name of its SVG file.
        title: The headline.
        table: The name of the table that it draws.
        labels: The columns whose words, joined, name a row.
        ours: The columns of this run's numbers.
        axis: The quantity, with its unit.
        caption: How to read it.
        alt: What it shows, for those who cannot see it.
        published: The columns of the sources' numbers.
        reference: A line across all rows.
    """

    name: str
    title: str
    table: str
    labels: Sequence[str]
    ours: Sequence[str]
    axis: str
    caption: str
    alt: str
    published: Sequence[str] = ()
    reference: Reference | None = None
    kind: Literal["rows"] = "rows"

    @property
    def words(self) -> list[str]:
        """The columns whose cells are words."""
        return list(self.labels)

    @property
    def numbers(self) -> list[str]:
        """The columns whose cells are drawn."""
        return [*self.published, *self.ours]


@dataclass(frozen=True)
class Scatter:
    """Two numbers of every row against each other, with their intervals.

    Attributes:
        name: The name of its SVG file.
        title: The headline.
        table: The name of the table that it draws.
        series: The column of a row's series, whose points a line joins in the table's order.
        point: The column of what tells the points of a series apart, written beside them where
            there is room.
        x: The column of the horizontal number.
        y: The column of the vertical number.
        caption: How to read it.
        alt: What it shows, for those who cannot see it.
        published: The series that are the sources'.
        scale: The scale of both axes; on logarithmic ones a power of x is a straight line, and
            points are not named.
    """

    name: str
    title: str
    table: str
    series: str
    point: str
    x: str
    y: str
    caption: str
    alt: str
    published: Sequence[str] = ()
    scale: Literal["linear", "log"] = "linear"
    kind: Literal["scatter"] = "scatter"

    @property
    def words(self) -> list[str]:
        """The columns whose cells are words."""
        return [self.series, self.point]

    @property
    def numbers(self) -> list[str]:
        """The columns whose cells are drawn."""
        return [self.x, self.y]


def read_chart(entries: Mapping[str, Any]) -> Chart | Scatter:
    """The chart that JSON or TOML data describe; missing entries have their defaults."""
    if entries.get("kind") == "scatter":
        return Scatter(**entries)
    reference = entries.get("reference")
    return Chart(**{**entries, "reference": reference and Reference(**reference)})
