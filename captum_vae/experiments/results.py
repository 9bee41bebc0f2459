"""What an experiment finds: tables, charts and pictures that become plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

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
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""


@dataclass(frozen=True)
class Illustration:
    """A PNG file that the page shows.

    Attributes:
        file: Its path relative to the page's folder, with forward slashes.
        alt: What it shows, for those who cannot see it.
        caption: How to read it.
        explorer: A page on which more of the same is browsed, relative to the page's folder; empty
            where there is none.
        browses: What is browsed there, in words that follow "Browse".
    """

    file: str
    alt: str
    caption: str
    explorer: str = ""
    browses: str = ""

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
        charts: What is drawn from the tables, each beside its own.
        figures: The pictures in the order of the page.
        protocol: What was compared with what, as pairs of words.
        training_share: Images seen in training, as a share of those seen as published; the least
            of all trainings.
        training: The loss and the initialisation in words, where there is more than one way.
        doubts: Why no claim can be tested, said once for all of them; empty where claims can be.
        finished: How many parts (digits, scenes, categories, runs of a grid) have been measured,
            and how many there are to be.
    """

    data: str
    verdicts: Mapping[str, Verdict]
    tables: Sequence[ResultTable]
    charts: Sequence[Chart | Scatter] = ()
    figures: Sequence[Illustration] = ()
    protocol: Mapping[str, str] = field(default_factory=dict)
    training_share: float | None = None
    training: str = ""
    doubts: Sequence[str] = ()
    finished: tuple[int, int] | None = None
