"""What an experiment is and what it finds: declarative values that become plain JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar

from captum_vae.experiments.verdicts import Estimate, Verdict

if TYPE_CHECKING:
    from captum_vae.experiments.work import Work

Scale = Literal["smoke", "cpu", "paper"]
Cell: TypeAlias = "str | int | float | Estimate | None"
"""A cell of a table; None where a source does not say."""

Settings = TypeVar("Settings")


THIS_PACKAGE = "this package"
"""The source of claims that nobody else has made."""


@dataclass(frozen=True)
class Claim:
    """What a source claims.

    Attributes:
        name: key of its verdict.
        text: the claim in one sentence.
        source: who says so, and where.
    """

    name: str
    text: str
    source: str


@dataclass(frozen=True)
class ResultTable:
    """Numbers under column titles.

    Attributes:
        name: of its CSV file.
        title: headline.
        columns: titles.
        rows: a cell per column.
        note: how to read it, and what is not comparable.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def __post_init__(self) -> None:
        """Check that every row has a cell per column.

        Raises:
            ValueError: one has not.
        """
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of table {self.name!r} has {len(row)} cells for {len(self.columns)} "
                    f"columns: {list(row)}"
                )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an estimate becomes its value, low and high."""
        rows = [[c.to_dict() if isinstance(c, Estimate) else c for c in row] for row in self.rows]
        return {
            "name": self.name,
            "title": self.title,
            "columns": list(self.columns),
            "rows": rows,
            "note": self.note,
        }


@dataclass(frozen=True)
class Figure:
    """A PNG file that the page shows.

    Attributes:
        file: its path relative to the page's folder, with forward slashes.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
    """

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Reference:
    """A value that every row of a chart is read against.

    Attributes:
        value: where its line stands.
        name: of the line, such as ``chance``.
    """

    value: float
    name: str


CHANCE = Reference(0.5, "chance")
"""The AUROC of a map that knows nothing."""


@dataclass(frozen=True)
class Chart:
    """A table's numbers as dots with their intervals, one row per label.

    Attributes:
        name: of its SVG file.
        title: headline.
        table: name of the table it draws.
        labels: columns whose words, joined, name a row.
        ours: columns of this run's numbers.
        axis: the quantity, with its unit.
        caption: how to read it.
        alt: what it shows, for those who cannot see it.
        published: columns of the sources' numbers.
        reference: a line across all rows.
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

    def check(self, tables: Sequence[ResultTable]) -> None:
        """Check that the tables hold what is to be drawn.

        Raises:
            ValueError: no such table or column, or a column of numbers holds words.
        """
        _check_drawn(self, tables, self.labels, (*self.published, *self.ours))


@dataclass(frozen=True)
class Scatter:
    """Two numbers of every row against each other, with their intervals.

    Attributes:
        name: of its SVG file.
        title: headline.
        table: name of the table it draws.
        series: column of a row's series, whose points are joined by a line in the table's order.
        point: column of what tells the points of a series apart, written beside them where there
            is room.
        x: column of the horizontal number.
        y: column of the vertical number.
        caption: how to read it.
        alt: what it shows, for those who cannot see it.
        published: the series that are the sources'.
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
    kind: Literal["scatter"] = "scatter"

    def check(self, tables: Sequence[ResultTable]) -> None:
        """As of :meth:`Chart.check`."""
        _check_drawn(self, tables, (self.series, self.point), (self.x, self.y))


def read_chart(entries: Mapping[str, Any]) -> Chart | Scatter:
    """The chart of :func:`dataclasses.asdict`, as the results' JSON holds it."""
    if entries["kind"] == "scatter":
        return Scatter(**entries)
    reference = entries["reference"]
    return Chart(**{**entries, "reference": reference and Reference(**reference)})


@dataclass(frozen=True)
class Findings:
    """What a run of an experiment found.

    Attributes:
        data: what was measured on, in words.
        verdicts: one per claim, by its name.
        tables: in the order of the page.
        figures: in the order of the page.
        protocol: what was compared with what, as pairs of words.
        charts: drawn from the tables, each beside its own.
        training_share: images seen in training, as a share of those seen as published; the least
            of all trainings.
    """

    data: str
    verdicts: Mapping[str, Verdict]
    tables: Sequence[ResultTable]
    figures: Sequence[Figure] = ()
    protocol: Mapping[str, str] = field(default_factory=dict)
    charts: Sequence[Chart | Scatter] = ()
    training_share: float | None = None

    def __post_init__(self) -> None:
        """Check that the charts can be drawn.

        Raises:
            ValueError: as of :meth:`Chart.check`, or two charts of one name.
        """
        names = [chart.name for chart in self.charts]
        if len(set(names)) < len(names):
            raise ValueError(f"charts are named {names}; wanted a name for each, for its file")
        for chart in self.charts:
            chart.check(self.tables)


@dataclass(frozen=True)
class Experiment(Generic[Settings]):
    """A published experiment.

    Attributes:
        name: of its command.
        title: headline of its page.
        about: what it is, a paragraph.
        claims: what is to be confirmed or refuted.
        settings: a frozen dataclass of plain values per scale. Scale ``smoke`` shows in under a
            minute that everything runs, ``cpu`` measures what a laptop can in minutes, ``paper``
            takes the published settings.
        run: called with the settings, the folder of data sets (None for rendered and
            scikit-learn's data) and the :class:`~captum_vae.experiments.work.Work`.
    """

    name: str
    title: str
    about: str
    claims: Sequence[Claim]
    settings: Mapping[Scale, Settings]
    run: Callable[[Settings, Path | None, Work], Findings]

    def results(self, scale: Scale, findings: Findings, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The results as plain JSON data, from which every page is written.

        Args:
            scale: that was run.
            findings: of the run.
            facts: command, version, commit, seed, machine, seconds and trainings.

        Raises:
            ValueError: a claim without a verdict, or a verdict on no claim.
        """
        names = [claim.name for claim in self.claims]
        if sorted(names) != sorted(findings.verdicts):
            raise ValueError(
                f"{self.name} has the claims {sorted(names)} and verdicts on "
                f"{sorted(findings.verdicts)}; wanted one verdict per claim"
            )
        claims = []
        for claim in self.claims:
            verdict = findings.verdicts[claim.name]
            claims.append({**asdict(claim), "verdict": verdict.outcome, "because": verdict.because})
        settings: Any = self.settings[scale]
        return {
            "experiment": self.name,
            "title": self.title,
            "about": self.about,
            "scale": scale,
            "data": findings.data,
            "claims": claims,
            "tables": [table.to_dict() for table in findings.tables],
            "charts": [asdict(chart) for chart in findings.charts],
            "figures": [asdict(figure) for figure in findings.figures],
            "protocol": dict(findings.protocol),
            "training_share": findings.training_share,
            "settings": asdict(settings),
            **facts,
        }


def read_cell(cell: Any) -> Estimate | None:
    """A number of a table as the results' JSON holds it; None where a source does not say."""
    if cell is None:
        return None
    found = Estimate.from_dict(dict(cell)) if isinstance(cell, Mapping) else Estimate(float(cell))
    return Estimate(None) if found.value is not None and math.isnan(found.value) else found


def _check_drawn(
    chart: Chart | Scatter,
    tables: Sequence[ResultTable],
    words: Sequence[str],
    numbers: Sequence[str],
) -> None:
    table = next((table for table in tables if table.name == chart.table), None)
    if table is None:
        raise ValueError(
            f"chart {chart.name!r} draws table {chart.table!r}; wanted one of "
            f"{[table.name for table in tables]}"
        )
    for column in (*words, *numbers):
        if column not in table.columns:
            raise ValueError(
                f"chart {chart.name!r} draws column {column!r} of table {chart.table!r}; wanted "
                f"one of {list(table.columns)}"
            )
    for column in numbers:
        place = list(table.columns).index(column)
        for row in table.rows:
            if isinstance(row[place], str):
                raise ValueError(
                    f"chart {chart.name!r} draws column {column!r} of table {chart.table!r}, "
                    f"which holds the words {row[place]!r}; wanted numbers"
                )
