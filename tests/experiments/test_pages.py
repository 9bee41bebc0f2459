"""Pages follow from the results' JSON, byte for byte."""

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.pages import (
    csv_table,
    load_results,
    markdown_page,
    write_pages,
    write_results,
)
from captum_vae.experiments.results import Findings, Illustration, ResultTable
from captum_vae.experiments.specification import Claim, Specification
from captum_vae.experiments.verdicts import Verdict
from captum_vae.report import save_picture
from captum_vae.report.charts import Chart
from captum_vae.report.estimate import Estimate
from tests.report.page_check import Page

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@dataclass(frozen=True)
class Settings:
    steps: int
    layers: tuple[str, ...]


EXPERIMENT = Experiment(
    Specification(
        "toy",
        "Toy: a claim",
        "About a toy.",
        [Claim("better", "A is better than B | C.", "somebody", "above")],
    ),
    settings={"smoke": Settings(2, ("conv1", "conv2"))},
    run=lambda settings, data, work: iter([FINDINGS]),
)
FINDINGS = Findings(
    data="drawn dots",
    verdicts={"better": Verdict("refuted", "A minus B -0.100 [-0.200, -0.050]")},
    tables=[
        ResultTable(
            "scores",
            "Scores",
            ("layer", "paper", "ours"),
            [["conv1", 0.89, Estimate(1 / 3, 0.25, 0.5)], ["conv2", None, Estimate(None)]],
            "A note.",
        )
    ],
    figures=[Illustration("figures/dots.png", "dots", "Dots & more.")],
    protocol={"frames": "all"},
    charts=[
        Chart(
            "layers", "Layers", "scores", ["layer"], ["ours"], "AUROC", "A & B.", "dots", ["paper"]
        )
    ],
)
FACTS: dict[str, Any] = {
    "trainings": [
        {
            "name": "VAE",
            "steps": 2,
            "active_dimensions": {"active": 3, "dimensions": 4},
            "final_losses": {"loss": 1.5},
            "seconds": 1.0,
        }
    ],
    "command": "captum-vae reproduce toy --scale smoke",
    "version": "0",
    "commit": None,
    "seed": 7,
    "machine": {"device": "cpu", "cpu": "a cpu", "threads": 1, "torch": "2"},
    "seconds": 12.3,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_picture(Figure(figsize=(1, 1)), tmp_path / "figures" / "dots.png")
    return tmp_path


def test_every_page_is_regenerated_from_the_json_byte_for_byte(folder: Path) -> None:
    write_results(
        EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], FINDINGS, FACTS),
        folder,
        folder / "copy.json",
    )
    pages = ["index.html", "results.md", "scores.csv", "charts/layers.svg"]
    written = {page: (folder / page).read_bytes() for page in pages}
    assert (folder / "copy.json").read_bytes() == (folder / "results.json").read_bytes()
    for page in pages:
        (folder / page).unlink()
    write_pages(load_results(folder / "copy.json"), folder)
    assert {page: (folder / page).read_bytes() for page in pages} == written


def test_the_html_page_is_whole_and_states_claim_verdict_and_numbers(folder: Path) -> None:
    path = write_results(
        EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], FINDINGS, FACTS), folder
    )
    assert Page(path).faults == []
    text = path.read_text().replace("\N{NO-BREAK SPACE}", " ")
    for words in (
        "A is better than B | C.",
        "refuted",
        "A minus B -0.100 [-0.200, -0.050]",
        "0.333 [0.250, 0.500]",
        "3 of 4",
        "its numbers mean nothing",
        "captum-vae reproduce toy --scale smoke",
    ):
        assert words in text


def test_markdown_rows_have_as_many_cells_as_their_header() -> None:
    text = markdown_page(EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], FINDINGS, FACTS))
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 4
    for block in blocks:
        counts = {line.replace("\\|", "").count("|") for line in block}
        assert len(counts) == 1
    assert "| conv1 | 0.890 | 0.333 [0.250, 0.500] |" in text
    assert "| conv2 | – | undefined |" in text


def test_markdown_shows_figures_from_the_folder_that_is_named_or_none() -> None:
    results = EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], FINDINGS, FACTS)
    assert "![dots](../images/toy/figures/dots.png)" in markdown_page(
        results, figures="../images/toy"
    )
    assert "dots.png" not in markdown_page(results, figures=None)


def test_a_chart_stands_beside_its_table_on_both_pages(folder: Path) -> None:
    text = write_results(
        EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], FINDINGS, FACTS), folder
    ).read_text()
    scores = text.index("<h2>Scores</h2>")
    chart = text.index('<img src="charts/layers.svg" alt="dots" width="736"')
    assert scores < chart < text.index("<td>conv1</td>")
    assert "A &amp; B." in text
    markdown = (folder / "results.md").read_text()
    chart = markdown.index("![dots](charts/layers.svg)\n\nA & B.\n")
    assert markdown.index("## Scores") < chart < markdown.index("| conv1 |")


def test_results_written_before_there_were_charts_still_make_pages(folder: Path) -> None:
    results = EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], FINDINGS, FACTS)
    del results["charts"]
    assert Page(write_results(results, folder)).faults == []
    assert not (folder / "charts").exists()


def test_a_chart_can_be_shown_in_a_way_of_ones_own() -> None:
    text = markdown_page(
        EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], FINDINGS, FACTS),
        chart_block=lambda chart, table: f"{chart.name} of {len(table['rows'])} rows",
    )
    assert "\nlayers of 2 rows\n" in text
    assert "layers.svg" not in text


def test_csv_holds_the_numbers_in_full_with_both_ends() -> None:
    table = asdict(FINDINGS.tables[0])
    rows = list(csv.reader(io.StringIO(csv_table(table))))
    assert rows == [
        ["layer", "paper", "ours", "ours low", "ours high"],
        ["conv1", "0.89", str(1 / 3), "0.25", "0.5"],
        ["conv2", "", "", "", ""],
    ]


def test_results_need_one_verdict_per_claim() -> None:
    findings = Findings("dots", {"worse": Verdict("refuted", "")}, [])
    with pytest.raises(ValueError, match=r"claims \['better'\] and verdicts on \['worse'\]"):
        EXPERIMENT.results("smoke", EXPERIMENT.settings["smoke"], findings, FACTS)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("reproduce_*.json")), ids=lambda p: p.stem)
def test_committed_results_make_pages_of_plain_json(path: Path) -> None:
    results = load_results(path)
    # What a second reading of the file's own text gives has to lead to the same bytes.
    again = json.loads(json.dumps(results))
    assert markdown_page(again) == markdown_page(results)
    assert [csv_table(t) for t in again["tables"]] == [csv_table(t) for t in results["tables"]]
