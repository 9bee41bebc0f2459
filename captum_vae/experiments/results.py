"""What an experiment finds: tables, charts and pictures that become plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from captum_vae.experiments.verdicts import Verdict
from captum_vae.report.charts import Chart, Scatter
from captum_vae.report.estimate import Estimate

if TYPE_CHECKING:
    from captum_vae.report import Picture

Cell: TypeAlias = "str | int | float | Estimate | None"
"""A cell of a table; None where a source does not say."""

Row: TypeAlias = Sequence[Cell]

THIS_PACKAGE = "this package"
"""The source of claims that nobody else has made."""


@dataclass(frozen=True)
class ResultTable:
    """Numbers under column titles.

    Attributes:
        name: The name of its CSV file.
        title: The headline.
        columns: The titles of the columns.
        rows: The rows, a cell per column.
        note: How to read it, and what is not comparable.

    Raises:
        ValueError: A row has more or fewer cells than there are columns.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""

    def __post_init__(self) -> None:
        """Check that every row has a cell per column."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of table {self.name!r} has {len(row)} cells for {len(self.columns)} "
                    f"columns: {list(row)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """The table for JSON; an estimate becomes its value, low and high."""
        rows = [[c.to_dict() if isinstance(c, Estimate) else c for c in row] for row in self.rows]
        return {
            "name": self.name,
            "title": self.title,
            "columns": list(self.columns),
            "rows": rows,
            "note": self.note,
        }


@dataclass(frozen=True)
class Illustration:
    """A PNG file that the page shows.

    Attributes:
        file: Its path relative to the page's folder, with forward slashes.
        alt: What it shows, for those who cannot see it.
        caption: How to read it.
    """

    file: str
    alt: str
    caption: str

    @classmethod
    def of(cls, picture: Picture, folder: Path) -> Illustration:
        """A picture that was saved below the page's folder."""
        file = picture.path.relative_to(folder).as_posix()
        return cls(file, picture.alt, picture.caption)


@dataclass(frozen=True)
class Findings:
    """What a run of an experiment found.

    Attributes:
        data: What was measured on, in words.
        verdicts: One per claim, by its name.
        tables: The tables in the order of the page.
        figures: The pictures in the order of the page.
        protocol: What was compared with what, as pairs of words.
        charts: What is drawn from the tables, each beside its own.
        training_share: Images seen in training, as a share of those seen as published; the least
            of all trainings.

    Raises:
        ValueError: Two charts have one name, or a chart draws a table or column that is not there
            or that holds words where it needs numbers.
    """

    data: str
    verdicts: Mapping[str, Verdict]
    tables: Sequence[ResultTable]
    figures: Sequence[Illustration] = ()
    protocol: Mapping[str, str] = field(default_factory=dict)
    charts: Sequence[Chart | Scatter] = ()
    training_share: float | None = None

    def __post_init__(self) -> None:
        """Check that the charts can be drawn."""
        names = [chart.name for chart in self.charts]
        if len(set(names)) < len(names):
            raise ValueError(f"charts are named {names}; wanted a name for each, for its file")
        for chart in self.charts:
            check_drawn(chart, self.tables)


def check_drawn(chart: Chart | Scatter, tables: Sequence[ResultTable]) -> None:
    """Check that the tables hold what a chart draws.

    Raises:
        ValueError: There is no such table or column, or a column of numbers holds words.
    """
    table = next((table for table in tables if table.name == chart.table), None)
    if table is None:
        raise ValueError(
            f"chart {chart.name!r} draws table {chart.table!r}; wanted one of "
            f"{[table.name for table in tables]}"
        )
    columns = list(table.columns)
    for column in (*chart.words, *chart.numbers):
        if column not in columns:
            raise ValueError(
                f"chart {chart.name!r} draws column {column!r} of table {chart.table!r}; wanted "
                f"one of {columns}"
            )
    for column in chart.numbers:
        for cell in (row[columns.index(column)] for row in table.rows):
            if isinstance(cell, str):
                raise ValueError(
                    f"chart {chart.name!r} draws column {column!r} of table {chart.table!r}, "
                    f"which holds the words {cell!r}; wanted numbers"
                )
