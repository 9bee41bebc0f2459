"""Specifications as data: what a file may hold, and that the shipped ones fit the results."""

import json
from pathlib import Path
from typing import Any

import pytest

from captum_vae.experiments import specification as module
from captum_vae.experiments.judging import compared
from captum_vae.experiments.reproduce import NAMES, load_experiment
from captum_vae.experiments.specification import Specification
from captum_vae.files import DamagedFileError
from captum_vae.report.charts import Scatter

RESULTS = Path(__file__).parents[2] / "docs" / "results"
VALUES = {"scene": "Ped2", "digit": "1"}


def stored(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((RESULTS / f"reproduce_{name}.json").read_text())
    return results


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "PUBLISHED", tmp_path)
    return tmp_path


def test_a_new_claim_is_a_new_entry_of_the_file(folder: Path) -> None:
    (folder / "toy.toml").write_text(
        'title = "Toy"\nabout = "A toy."\n'
        '[[claims]]\nname = "better"\ntext = "A beats B."\nsource = "somebody"\n'
        'rule = "above"\npairs = [["A", "B"]]\n'
    )
    toy = Specification.read("toy")
    assert [claim.name for claim in toy.claims] == ["better"]
    assert compared(toy, ()) == [("A", "B")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = ", "Invalid value"),
        ('title = "Toy"', "claims"),
        ('title = "T"\nabout = "A"\nother = 1\nclaims = []', "other"),
        ('title = "T"\nabout = "A"\n[[claims]]\nname = "a"\nrool = "above"', "rool"),
    ],
)
def test_a_file_that_does_not_fit_is_named(folder: Path, text: str, words: str) -> None:
    (folder / "toy.toml").write_text(text)
    with pytest.raises(DamagedFileError, match=words) as raised:
        Specification.read("toy")
    assert "toy.toml" in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_results_are_on_the_claims_of_the_specification(name: str) -> None:
    specification, results = Specification.read(name), stored(name)
    assert (specification.title, specification.about) == (results["title"], results["about"])
    claims = [(claim.name, claim.text, claim.source) for claim in specification.claims]
    stated = [(c["name"], c["text"], c["source"]) for c in results["claims"]]
    # A claim that is newer than the results stands in the file alone.
    assert [claim for claim in claims if claim in stated] == stated


@pytest.mark.parametrize("name", NAMES)
def test_charts_draw_the_committed_tables(name: str) -> None:
    tables = {table["name"]: table for table in stored(name)["tables"]}
    charts = Specification.read(name).drawn(**VALUES)
    assert charts
    assert len({chart.name for chart in charts}) == len(charts)
    for chart in charts:
        columns = tables[chart.table]["columns"]
        assert {*chart.words, *chart.numbers} <= set(columns)
        for column in chart.numbers:
            cells = [row[columns.index(column)] for row in tables[chart.table]["rows"]]
            assert not any(isinstance(cell, str) for cell in cells)


def test_the_chart_of_dsprites_knows_the_published_models() -> None:
    (chart,) = Specification.read("dsprites").drawn()
    assert isinstance(chart, Scatter)
    (table,) = (t for t in stored("dsprites")["tables"] if t["name"] == chart.table)
    models = {row[0] for row in table["rows"]}
    assert set(chart.published) == {m for m in models if m.startswith(("paper,", "replication"))}


@pytest.mark.parametrize("name", NAMES)
def test_every_budget_is_plain_data(name: str) -> None:
    settings = load_experiment(name).settings
    assert set(settings) == {"smoke", "cpu", "paper"}
    assert json.dumps([vars(found) for found in settings.values()])
