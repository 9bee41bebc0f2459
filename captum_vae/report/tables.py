"""A table that prints on a terminal and becomes Markdown, CSV or part of a page."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from captum_vae.report.text import legible

_INTERVAL = re.compile(r"(?:^|(?<=[\d*|] ))\[([-+]?\d+\.\d+), ([-+]?\d+\.\d+)\]")


@dataclass(frozen=True)
class Table:
    """Rows of cells under column names.

    A cell may be text, a number or None. Text, Markdown and pages show ``str(cell)``, so numbers
    that are to be rounded come as text; CSV holds numbers in full. Control characters and bytes
    that are not UTF-8, as names of files may hold, are written out.

    Attributes:
        columns: The names of the N columns.
        rows: The rows, N cells each.

    Raises:
        ValueError: A row has another number of cells than there are columns.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __post_init__(self) -> None:
        """Check that every row has a cell for every column."""
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} has {len(row)} cells for the {len(self.columns)} columns "
                    f"{list(self.columns)}; wanted one each"
                )

    @property
    def cells(self) -> list[list[str]]:
        """The rows as text; None is an empty cell."""
        return [["" if cell is None else legible(str(cell)) for cell in row] for row in self.rows]

    def text(self) -> str:
        """Aligned columns for a terminal, one line per row."""
        lines = [list(self.columns), *self.cells]
        lines = [[" ".join(cell.splitlines()) for cell in line] for line in lines]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """The table in Markdown, without a line break at its end.

        Bars are escaped and line breaks become spaces, so that a cell never ends a column or row.
        """
        lines = [list(self.columns), ["---"] * len(self.columns), *self.cells]
        return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)

    def records(self) -> list[dict[str, object]]:
        """A dict of each row by column, numbers as numbers: ``pandas.DataFrame`` takes the list."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def csv(self) -> str:
        """The table as CSV with numbers in full; None and NaN are empty cells."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([[_number(cell) for cell in row] for row in self.rows])
        return buffer.getvalue()


def unbroken(text: str) -> str:
    """The text with intervals such as "0.83 [0.81, 0.85]" that a line breaks before, not within.

    An interval begins the text or follows a number or the bar of a Markdown cell; other lists of
    numbers stay as they are.
    """
    return _INTERVAL.sub("[\\1,\N{NO-BREAK SPACE}\\2]", text)


def _escaped(cell: str) -> str:
    return " ".join(cell.splitlines()).replace("|", "\\|")


def _number(cell: object) -> object:
    if isinstance(cell, str):
        return legible(cell)
    return "" if isinstance(cell, float) and math.isnan(cell) else cell
