"""Charts hold what their table says, where it says it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from captum_vae.experiments.charts import chart_svg
from captum_vae.experiments.pages import load_results, markdown_page
from captum_vae.experiments.results import (
    Chart,
    Findings,
    Reference,
    ResultTable,
    Scatter,
    read_chart,
)
from captum_vae.experiments.verdicts import Estimate

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SVG = "{http://www.w3.org/2000/svg}"

TABLE = ResultTable(
    "scores",
    "Scores",
    ("layer", "rectifier", "paper", "theirs", "ours", "ours, best", "note"),
    [
        ["conv1", "relu", 0.9, 0.8, Estimate(0.5, 0.3, 0.6), Estimate(0.7, 0.65, 0.8), "a"],
        ["conv2 <&>", "abs", None, 0.7, Estimate(0.8), Estimate(None), "b"],
    ],
)
CHART = Chart(
    "layers",
    "Layers & scores",
    "scores",
    ("layer", "rectifier"),
    ("ours", "ours, best"),
    "AUROC",
    "A caption.",
    'Dots of "scores".',
    ("paper", "theirs"),
    Reference(0.5, "chance"),
)


def drawn(
    chart: Chart | Scatter = CHART, table: Mapping[str, Any] | None = None, **options: str
) -> ElementTree.Element:
    return ElementTree.fromstring(chart_svg(chart, table or TABLE.to_dict(), **options))


def words(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def place(root: ElementTree.Element, title: str) -> tuple[float, float]:
    """Of the mark whose title starts so."""
    (group,) = (g for g in root.iter(f"{SVG}g") if (g[0].text or "").startswith(title))
    x, y = group[-1].attrib["transform"].removeprefix("translate(").removesuffix(")").split()
    return float(x), float(y)


def lines(root: ElementTree.Element, title: str) -> list[tuple[float, float]]:
    """The ends of the interval's line, if there is one."""
    (group,) = (g for g in root.iter(f"{SVG}g") if (g[0].text or "").startswith(title))
    return [(float(x.attrib["x1"]), float(x.attrib["x2"])) for x in group.iter(f"{SVG}line")]


def test_every_label_column_axis_and_title_is_written() -> None:
    found = words(drawn())
    for text in (
        "Layers & scores", "conv1, relu", "conv2 <&>, abs", "paper", "theirs", "ours",
        "ours, best", "AUROC", "chance",
    ):  # fmt: skip
        assert text in found
    assert drawn().attrib["aria-label"] == 'Dots of "scores".'


def test_places_are_proportional_to_values() -> None:
    root = drawn()
    known = {
        "conv1, relu, paper": 0.9,
        "conv1, relu, theirs": 0.8,
        "conv1, relu, ours:": 0.5,
        "conv1, relu, ours, best": 0.7,
        "conv2 <&>, abs, theirs": 0.7,
        "conv2 <&>, abs, ours:": 0.8,
    }
    places = {title: place(root, title)[0] for title in known}
    unit = (places["conv1, relu, paper"] - places["conv1, relu, ours:"]) / 0.4
    assert unit > 0
    for title, value in known.items():
        expected = places["conv1, relu, ours:"] + unit * (value - 0.5)
        assert places[title] == pytest.approx(expected, abs=0.02)
    ((low, high),) = lines(root, "conv1, relu, ours:")
    middle = places["conv1, relu, ours:"]
    assert (low, high) == pytest.approx((middle - 0.2 * unit, middle + 0.1 * unit), abs=0.02)


def test_the_numbers_of_the_axis_stand_at_their_values() -> None:
    root = drawn()
    at = {t.text: float(t.attrib["x"]) for t in root.iter(f"{SVG}text")}
    for title, tick in (("conv1, relu, paper", "0.9"), ("conv1, relu, ours:", "0.5")):
        assert place(root, title)[0] == pytest.approx(at[tick], abs=0.02)
    assert at["chance"] == pytest.approx(at["0.5"], abs=0.02)


def test_rows_keep_the_order_of_the_table_and_marks_stay_in_their_row() -> None:
    root = drawn()
    at = {t.text: float(t.attrib["y"]) for t in root.iter(f"{SVG}text")}
    assert at["conv1, relu"] < at["conv2 <&>, abs"]
    between = (at["conv1, relu"] + at["conv2 <&>, abs"]) / 2
    assert place(root, "conv1, relu, ours, best")[1] < between
    assert place(root, "conv2 <&>, abs, theirs")[1] > between


def test_intervals_do_not_hide_each_other() -> None:
    root = drawn()
    first, second = (place(root, f"conv1, relu, ours{name}")[1] for name in (":", ", best"))
    assert abs(first - second) >= 10


def test_a_missing_interval_draws_a_dot_alone() -> None:
    assert lines(drawn(), "conv2 <&>, abs, ours:") == []
    assert lines(drawn(), "conv1, relu, paper") == []


def test_an_undefined_value_says_so_and_draws_no_mark() -> None:
    root = drawn()
    assert words(root).count("undefined") == 1
    titles = [group[0].text or "" for group in root.iter(f"{SVG}g")]
    assert not any(title.startswith("conv2 <&>, abs, ours, best") for title in titles)


def test_where_a_source_says_nothing_nothing_is_drawn() -> None:
    root = drawn()
    assert not any("conv2 <&>, abs, paper" in (g[0].text or "") for g in root.iter(f"{SVG}g"))
    table = ResultTable("scores", "", TABLE.columns, [TABLE.rows[1]]).to_dict()
    assert "paper (none)" in words(drawn(table=table))


def test_published_marks_are_hollow_and_ours_filled() -> None:
    for group in drawn().iter(f"{SVG}g"):
        of_ours = ", ours" in (group[0].text or "")
        assert (group[-1].attrib["fill"] == "none") != of_ours


def test_the_same_json_gives_the_same_bytes() -> None:
    entry = json.loads(json.dumps(asdict(CHART)))
    table = json.loads(json.dumps(TABLE.to_dict()))
    assert chart_svg(read_chart(entry), table) == chart_svg(CHART, TABLE.to_dict())


def test_a_chart_in_a_page_takes_its_colour_and_a_file_brings_its_own() -> None:
    assert "color" not in drawn().attrib
    assert drawn(background="white").attrib["color"] == "#1d1d1f"


def test_nothing_is_drawn_outside_the_chart() -> None:
    root = drawn()
    width, height = (float(root.attrib[name]) for name in ("width", "height"))
    assert root.attrib["viewBox"] == f"0 0 {width:g} {height:g}"
    for group in root.iter(f"{SVG}g"):
        x, y = place(root, group[0].text or "")
        assert 0 < x < width and 0 < y < height


@pytest.mark.parametrize("value", [0.0, 1.0, 37.5, -0.25, 1e-4])
def test_a_chart_of_a_single_number_can_be_drawn(value: float) -> None:
    table = ResultTable("scores", "", ("layer", "ours"), [["conv1", value]])
    root = drawn(Chart("one", "", "scores", ("layer",), ("ours",), "", "", ""), table.to_dict())
    ticks = [t for t in root.iter(f"{SVG}text") if "text-anchor" in t.attrib and t.text]
    assert len(ticks) >= 2
    assert 0 < place(root, "conv1, ours")[0] < 736


def test_a_chart_without_any_number_can_be_drawn() -> None:
    table = ResultTable("scores", "", ("layer", "ours"), [["conv1", Estimate(None)]])
    root = drawn(Chart("one", "", "scores", ("layer",), ("ours",), "", "", ""), table.to_dict())
    assert "undefined" in words(root)


def test_a_long_label_is_broken_into_lines() -> None:
    label = "method 1, abs per channel, relative to mean activation, conv1"
    table = ResultTable("scores", "", ("layer", "ours"), [[label, 0.5]])
    root = drawn(Chart("one", "", "scores", ("layer",), ("ours",), "", "", ""), table.to_dict())
    parts = [text for text in words(root) if text and text in label]
    assert " ".join(parts) == label
    assert len(parts) == 2


def findings(**changes: Any) -> Findings:
    return Findings("", {}, [TABLE], charts=[Chart(**{**vars(CHART), **changes})])


def test_a_chart_of_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"chart 'layers' draws table 'x'; wanted one of"):
        findings(table="x")


def test_a_chart_of_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"draws column 'his' of table 'scores'; wanted one of"):
        findings(published=("his",))


def test_a_chart_of_words_is_refused() -> None:
    with pytest.raises(ValueError, match=r"column 'note' .* holds the words 'a'; wanted numbers"):
        findings(ours=("note",))


def test_two_charts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="wanted a name for each"):
        Findings("", {}, [TABLE], charts=[CHART, CHART])


@pytest.mark.parametrize("path", sorted(RESULTS.glob("reproduce_*.json")), ids=lambda p: p.stem)
def test_committed_results_render_without_charts_too(path: Path) -> None:
    results = load_results(path)
    without = {name: value for name, value in results.items() if name != "charts"}
    assert ".svg" not in markdown_page(without)
    for chart in map(read_chart, results.get("charts", ())):
        (table,) = (t for t in results["tables"] if t["name"] == chart.table)
        assert drawn(chart, table).attrib["width"] == "736"
