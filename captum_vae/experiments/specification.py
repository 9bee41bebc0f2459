"""Experiments as data: titles, claims with their rules, and the words of the pages.

Every experiment has a TOML file in ``published/``, beside the published figures. A new claim is a
new entry there; :mod:`captum_vae.experiments.judging` holds the rules that its ``rule`` may name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from captum_vae.experiments.published_figures import PUBLISHED
from captum_vae.experiments.results import Cell, ResultTable
from captum_vae.files import reading
from captum_vae.report.charts import Chart, Scatter, read_chart

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Budget = Literal["smoke", "cpu", "paper"]
"""How much an experiment may cost: smoke shows in under a minute that everything runs, cpu measures
what a laptop can in minutes, paper takes the published settings."""

Settings = TypeVar("Settings")
T = TypeVar("T")

Pairs = Sequence[tuple[str, str]]
PublishedFigure = Mapping[str, str] | float


@dataclass(frozen=True)
class Claim:
    """What a source claims, and how numbers decide it.

    Maps are called by their names in the tables; ``best of conv2`` stands for the published map
    whose name begins with ``conv2`` that does best on the test labels, and ``best of all`` for the
    best of all published maps: a choice in favour of sources that do not say which map they mean.
    The words may hold ``{part}``, which is what was measured: a scene, a category or a digit.

    Attributes:
        name: The key of its verdict.
        text: The claim in one sentence.
        source: Who says so, and where.
        rule: The name of the rule in :data:`captum_vae.experiments.judging.RULES` that decides it.
        pairs: The maps that are compared, first minus second.
        map: The map whose number is judged, where the claim is not on a difference.
        quantity: The number that is judged.
        protocol: The label of the protocol; empty for that of the verdicts.
        protocols: The two labels that the rule ``gains`` compares, first minus second.
        variants: The two ways of training that the rule ``trained otherwise`` compares.
        figure: A number, or where one stands among the published figures.
        minus: A figure that is subtracted from ``figure``.
        than: What the figure is called in the verdict.
        margin: The largest difference that counts as none.
        what: What is judged, in words; empty for the experiment's own words.
        only_on: The part that the claim is about; elsewhere it cannot be tested.
        elsewhere: Why not, in words.
        missing: The words of the verdict where nothing was measured that the claim is about.
    """

    name: str
    text: str
    source: str
    rule: str
    pairs: Pairs = ()
    map: str = ""
    quantity: str = "auroc"
    protocol: str = ""
    protocols: Sequence[str] = ()
    variants: Sequence[str] = ()
    figure: PublishedFigure | None = None
    minus: PublishedFigure | None = None
    than: str = ""
    margin: float = 0.0
    what: str = ""
    only_on: str = ""
    elsewhere: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Specification:
    """What an experiment's TOML file says.

    Attributes:
        name: The name of the file, and of the experiment on the command line.
        title: The headline of the page.
        about: What the experiment is, in a paragraph.
        claims: What is to be confirmed or refuted.
        budgets: The settings of every budget.
        page_settings: The names of the settings on the page, in order; all of them if empty.
        words: What verdicts say is judged, by rule, as templates for ``str.format``.
        tables: Title and note of each table, as templates.
        charts: What is drawn from the tables; the texts are templates.
        protocol: What was compared with what, as templates.
    """

    name: str
    title: str
    about: str
    claims: Sequence[Claim]
    budgets: Mapping[Budget, Mapping[str, Any]] = field(default_factory=dict)
    page_settings: Sequence[str] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    charts: Sequence[Mapping[str, Any]] = ()
    protocol: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> Specification:
        """Read the file of that name in ``published/``.

        Raises:
            FileNotFoundError: There is none.
            DamagedFileError: It is not TOML, or holds keys that are not known.
        """
        path = PUBLISHED / f"{name}.toml"
        with reading(path, "the specification of an experiment"):
            entries = tomllib.loads(path.read_text(encoding="utf-8"))
            claims = [Claim(**entry) for entry in entries.pop("claims")]
            return cls(name, claims=claims, **entries)

    def settings(self, kind: type[Settings]) -> dict[Budget, Settings]:
        """The settings of every budget, as values of a dataclass; lists become tuples."""
        return {
            budget: kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in entries.items()})
            for budget, entries in self.budgets.items()
        }

    def shown(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that the page states, in its order."""
        return {name: settings[name] for name in self.page_settings or settings}

    def table(
        self,
        kind: str,
        items: Iterable[T],
        cells: Mapping[str, Callable[[T], Cell]],
        *,
        name: str = "",
        **values: Any,
    ) -> ResultTable:
        """A table under its title and note, with a row per item.

        Args:
            kind: The table's key in the file.
            items: What the rows are about.
            cells: What a column says about an item, by the column's title.
            name: The table's name in the results; empty for ``kind``.
            values: What the templates hold.
        """
        words = self.tables[kind]
        title, note = (words.get(key, "").format(**values) for key in ("title", "note"))
        rows = [[cell(item) for cell in cells.values()] for item in items]
        return ResultTable(name or kind, title, list(cells), rows, note)

    def drawn(self, **values: Any) -> list[Chart | Scatter]:
        """The charts, with the values that their templates hold."""
        return [read_chart(_filled(entries, values)) for entries in self.charts]

    def protocol_words(self, **values: Any) -> dict[str, str]:
        """The protocol, with the values that its templates hold."""
        return {name: words.format(**values) for name, words in self.protocol.items()}


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    """Every text in lists and mappings, with the values that it holds as a template."""
    if isinstance(value, str):
        return value.format(**values)
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if isinstance(value, Mapping):
        return {name: _filled(item, values) for name, item in value.items()}
    return value
