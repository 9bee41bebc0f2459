"""Results pages are functions of the JSON files, and every file is on a page."""

import base64
import json
import sys
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from captum_vae.report.chart_drawing import chart_svg
from captum_vae.report.charts import Chart
from tests.docs.blocks import DOCS

pytest.importorskip("sphinx")

sys.path.insert(0, str(DOCS / "_ext"))
import commands  # noqa: E402
import docstrings  # noqa: E402
import results  # noqa: E402

MARKERS = {
    page: results.MARKER.findall(page.read_text(encoding="utf-8"))
    for page in sorted((DOCS / "results").glob("*.md"))
}
FILES = sorted((DOCS / "results").glob("*.json"))


def test_every_file_is_on_exactly_one_results_page() -> None:
    shown = [
        path for found in MARKERS.values() for marker in found for path in results.files(marker)
    ]
    assert sorted(shown) == FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_section_names_its_file(path: Path) -> None:
    section = results.section(path, "there.json")
    heading = section.splitlines()[0]
    assert heading.startswith("## ") and "_" not in heading  # a title, not a file name
    assert "there.json" in section


def test_a_training_page_states_the_files_numbers() -> None:
    path = DOCS / "results" / "training_mnist_one.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    used = stored["active_dimensions"]
    text = results.section(path, "x")
    assert f"**{used['active']} of {used['dimensions']}**" in text
    assert f"`{stored['command']}`" in text
    assert stored["commit"][:10] in text


def test_a_new_kind_of_file_is_shown_as_tables(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "news.json").write_text(
        json.dumps(
            {
                "command": "do it",
                "machine": {"cores": 2},
                "kl": list(range(20)),
                "rows": [{"way": "a|b", "seconds": {"low": 0.5}}, {"way": "c", "other": None}],
            }
        )
    )
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    text = results.page("before\n<!-- results: others -->\nafter", "results/other")
    assert "| machine.cores | 2 |" in text
    assert "| kl | 20 numbers from 0 to 19 |" in text
    assert (
        "| way | seconds.low | other |\n| --- | --- | --- |\n| a\\|b | 0.5 |  |\n| c |  |  |"
        in text
    )
    assert "{download}`news.json <../results/news.json>`" in text


def test_an_evaluation_is_shown_with_intervals_and_undefined_values(tmp_path: Path) -> None:
    scores = {
        name: {"value": 0.25}
        for name in ("auroc", "aupro", "average_precision", "f1_max", "best_iou")
    }
    scores["image_auroc"] = {"value": None}
    row = {
        "name": "error",
        "protocol": {"frames": "all", "smoothing": 2.0},
        "scores": scores,
        "intervals": {"auroc": {"low": 0.2, "high": 0.3}, "aupro": {"low": None, "high": None}},
    }
    data = {"name": "ucsd", "options": {}, "images": 9}
    file = tmp_path / "localization_x.json"
    evaluation = {
        "model": {"checkpoint": "runs/x", "class": "ConvVAE"},
        "normal": data,
        "test": data,
        "rows": [row],
        "differences": {"a - b": {"difference": 0.1, "low": 0.0, "high": 0.2, "p_value": 0.04}},
    }
    file.write_text(json.dumps(evaluation))
    text = results.section(file, "x")
    assert (
        "| error | 2 | 0.250 [0.200, 0.300] | 0.250 | 0.250 | 0.250 | 0.250 | undefined |" in text
    )
    assert "| a - b | 0.1 | [0, 0.2] | 0.04 |" in text


def test_paired_seeds_state_what_each_run_took() -> None:
    path = DOCS / "results" / "disentangle_seeds_cpu.json"
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    shortest, longest = min(r["seconds"] for r in runs), max(r["seconds"] for r in runs)
    expected = f"| seconds | {shortest:.0f} to {longest:.0f} for each of {len(runs)} runs |"
    assert expected in results.section(path, "x")


def test_the_help_of_a_command_has_no_control_characters() -> None:
    assert all(c.isprintable() or c == "\n" for c in commands.help_of("demo"))


def test_a_cell_breaks_before_an_interval_and_lists_stay_as_they_are() -> None:
    text = results.unbroken('| 0.5 [0.4, 0.6] | [-0.1, +0.1] | `{"area": [0.1, 0.2]}` |')
    assert text == (
        "| 0.5 [0.4,\N{NO-BREAK SPACE}0.6] | [-0.1,\N{NO-BREAK SPACE}+0.1] | "
        '`{"area": [0.1, 0.2]}` |'
    )


@pytest.fixture
def experiment() -> dict:
    """What ``captum-vae reproduce`` writes, without tables and figures."""
    return {
        "experiment": "none",
        "title": "Digits",
        "about": "About.",
        "scale": "smoke",
        "data": "rendered",
        "claims": [{"text": "c", "source": "s", "verdict": "confirmed", "because": "b"}],
        "tables": [],
        "figures": [],
        "trainings": [],
        "protocol": {},
        "settings": {},
        "command": "# not a heading",
        "version": "1",
        "commit": None,
        "seed": 0,
        "seconds": 1.0,
        "machine": {"device": "cpu", "cpu": "x", "threads": 1, "torch": "2"},
    }


def test_a_reproduction_is_the_commands_own_page_one_level_down(experiment: dict) -> None:
    assert results.renderer_of("reproduce_none.json", experiment) is results.reproduction
    lines = results.reproduction(experiment).splitlines()
    assert "### Digits" in lines
    assert "#### Claims and verdicts" in lines
    assert "| c | s | confirmed | b |" in lines
    assert "# not a heading" in lines


def test_a_page_without_its_pictures_says_why_and_how_to_draw_them(experiment: dict) -> None:
    drawn = {"file": "a.png", "alt": "a", "caption": "A."}
    text = results.reproduction({**experiment, "figures": [drawn]})
    why = "The pictures hold images of others' data sets and are not committed."
    headings = [text.index(f"#### {name}\n") for name in ("Figures", "Trainings")]
    assert headings[0] < text.index(why) < headings[1] < text.index(experiment["command"])
    assert "a.png" not in text


def test_a_page_with_its_pictures_shows_them(experiment: dict, tmp_path, monkeypatch) -> None:
    (tmp_path / "images" / "reproduce_none").mkdir(parents=True)
    monkeypatch.setattr(results, "DOCS", tmp_path)
    drawn = {"file": "a.png", "alt": "a", "caption": "A."}
    text = results.reproduction({**experiment, "figures": [drawn]})
    assert "![a](../images/reproduce_none/a.png)" in text
    assert "not committed" not in text


def test_a_page_that_has_no_pictures_says_nothing_of_them(experiment: dict) -> None:
    assert "Figures" not in results.reproduction(experiment)


def test_docstring_tables_and_formulas_become_markup() -> None:
    assert docstrings.list_tables(["| a | b |", "|---|---|", "| 1 | 2 |"]) == [
        ".. list-table::",
        "   :header-rows: 1",
        "",
        "   * - a",
        "     - b",
        "   * - 1",
        "     - 2",
        "",
    ]
    assert docstrings.literal_formulas(["For A,", "", "    y = x", "", "Then."]) == [
        "For A,",
        "",
        "::",
        "",
        "    y = x",
        "",
        "Then.",
    ]
    assert docstrings.escaped_stars(["(B, K, *spatial)", "*emphasis* stays"]) == [
        "(B, K, \\*spatial)",
        "*emphasis* stays",
    ]


def test_a_chart_is_part_of_the_page_and_needs_no_file() -> None:
    chart = Chart("c", "", "t", ["map"], ["ours"], "AUROC", "Above 0.5 & below.", 'dots of "a"')
    table = {"name": "t", "columns": ["map", "ours"], "rows": [["conv1", 0.9]]}
    block = results.inline_chart(chart, table)
    lines = block.splitlines()
    assert (lines[0], lines[-1]) == ("```{raw} html", "```")
    figure = ElementTree.fromstring("\n".join(lines[1:-1]))
    image, caption = figure
    kind, data = image.attrib["src"].split(",")
    assert (kind, image.attrib["alt"]) == ("data:image/svg+xml;base64", 'dots of "a"')
    assert base64.b64decode(data).decode() == chart_svg(chart, table)
    assert caption.text == "Above 0.5 & below."


def test_the_charts_of_a_file_are_on_its_page() -> None:
    stored = json.loads((DOCS / "results" / "reproduce_mnist.json").read_text(encoding="utf-8"))
    first = stored["tables"][0]
    chart = Chart("c", "Ours", first["name"], ["scorer"], ["pixel AUROC"], "AUROC", "", "dots")
    text = results.reproduction({**stored, "charts": [asdict(chart)]})
    assert text.index(first["title"]) < text.index("data:image/svg") < text.index("## Trainings")
    assert "data:image/svg" not in results.reproduction({**stored, "charts": []})
