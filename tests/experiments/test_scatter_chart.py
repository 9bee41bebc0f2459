"""A scatter chart holds what its table says, where it says it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from xml.etree import ElementTree

import pytest

from captum_vae.experiments.charts import chart_svg
from captum_vae.experiments.results import Cell, Findings, ResultTable, Scatter, read_chart
from captum_vae.experiments.verdicts import Estimate

SVG = "{http://www.w3.org/2000/svg}"
COLUMNS = ("model", "gamma", "error", "score", "note")
TABLE = ResultTable(
    "points",
    "Points",
    COLUMNS,
    [
        ["paper", "40", Estimate(38.5, 37.0, 40.0), 0.9, "a"],
        ["ours", "10", Estimate(30.0, 29.0, 31.0), Estimate(0.7, 0.6, 0.8), "b"],
        ["ours", "40", Estimate(34.0, -500.0, 568.0), Estimate(0.8, 0.75, 0.85), "c"],
        ["ours", "100", Estimate(36.0), Estimate(None), "d"],
        ["other", "10", Estimate(None), Estimate(None), "e"],
    ],
)
CHART = Scatter("s", "Score & error", "points", "model", "gamma", "error", "score", "c", "alt",
                ["paper"])  # fmt: skip


def drawn(table: Mapping[str, Any] | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(chart_svg(CHART, table or TABLE.to_dict()))


def words(root: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def marked(root: ElementTree.Element, title: str) -> ElementTree.Element:
    (group,) = (g for g in root.iter(f"{SVG}g") if (g[0].text or "").startswith(title))
    return group


def place(root: ElementTree.Element, title: str) -> tuple[float, float]:
    transform = marked(root, title)[-1].attrib["transform"]
    x, y = transform.removeprefix("translate(").removesuffix(")").split()
    return float(x), float(y)


def test_places_are_proportional_to_both_values() -> None:
    root = drawn()
    low, middle, high = (
        place(root, f"{name}:") for name in ("ours, gamma 10", "ours, gamma 40", "paper, gamma 40")
    )
    unit = (high[0] - low[0]) / 8.5
    assert unit > 0
    assert middle[0] - low[0] == pytest.approx(4 * unit, abs=0.02)
    # Up is less in SVG.
    assert low[1] - high[1] == pytest.approx(2 * (low[1] - middle[1]), abs=0.02)
    assert low[1] > middle[1] > high[1]


def test_the_numbers_of_the_axes_stand_at_their_values() -> None:
    root = drawn()
    at = {t.text: (float(t.attrib["x"]), float(t.attrib["y"])) for t in root.iter(f"{SVG}text")}
    assert at["30"][0] == pytest.approx(place(root, "ours, gamma 10")[0], abs=0.02)
    # A number's line of writing lies below its middle.
    assert at["0.90"][1] - 4 == pytest.approx(place(root, "paper, gamma 40")[1], abs=0.02)


def test_an_interval_is_drawn_to_its_ends_and_cut_at_the_edge() -> None:
    root = drawn()
    x, y = place(root, "ours, gamma 10")
    unit = (place(root, "ours, gamma 40")[0] - x) / 4
    across, up = marked(root, "ours, gamma 10").iter(f"{SVG}line")
    assert float(across.attrib["x1"]) == pytest.approx(x - unit, abs=0.02)
    assert float(across.attrib["x2"]) == pytest.approx(x + unit, abs=0.02)
    assert float(up.attrib["y1"]) > y > float(up.attrib["y2"])
    cut = next(marked(root, "ours, gamma 40").iter(f"{SVG}line"))
    assert 0 < float(cut.attrib["x1"]) < float(cut.attrib["x2"]) < 736


def test_the_points_of_a_series_are_joined_in_the_tables_order() -> None:
    root = drawn()
    paths = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    joined = next(path for path in paths if len(path) == 2)
    ends = [tuple(map(float, end.split(","))) for end in joined]
    assert ends == [place(root, "ours, gamma 10"), place(root, "ours, gamma 40")]


def test_what_is_undefined_is_said_and_not_drawn() -> None:
    found = words(drawn())
    assert "other (none)" in found
    assert "undefined, and not drawn: ours, gamma 100; other, gamma 10" in found
    assert "100" not in found


def test_labels_axes_and_series_are_written() -> None:
    found = words(drawn())
    for text in ("Score & error", "error", "score", "paper", "ours", "10", "40"):
        assert text in found


def test_labels_do_not_lie_on_each_other() -> None:
    crowd: list[list[Cell]] = [["ours", str(n), 30.0 + n / 1000, 0.7, ""] for n in range(20)]
    crowd.append(["ours", "far", 40.0, 0.9, ""])
    root = drawn(ResultTable("points", "", COLUMNS, crowd).to_dict())
    labels = [t for t in root.iter(f"{SVG}text") if t.attrib.get("font-size") == "11"]
    at = [(float(t.attrib["x"]), float(t.attrib["y"])) for t in labels]
    assert "far" in [t.text for t in labels]
    assert len(labels) < 21
    # They are about nine pixels high and twelve wide.
    for number, (x, y) in enumerate(at):
        assert all(abs(x - a) > 6 or abs(y - b) > 8 for a, b in at[:number])


def test_labels_do_not_lie_on_the_numbers_of_the_axis() -> None:
    rows: list[list[Cell]] = [["ours", str(n), 0.01, 0.5 + n / 1000, ""] for n in range(10, 20)]
    rows.append(["ours", "far", 100.0, 0.9, ""])
    texts = list(drawn(ResultTable("points", "", COLUMNS, rows).to_dict()).iter(f"{SVG}text"))
    axis = max(float(t.attrib["x"]) for t in texts if t.attrib.get("text-anchor") == "end")
    labels = [t for t in texts if t.attrib.get("font-size") == "11"]
    assert labels
    for label in labels:
        assert label.attrib["text-anchor"] == "start" or label.text == "far"
        assert float(label.attrib["x"]) > axis


def test_what_is_never_negative_has_no_negative_axis() -> None:
    rows: list[list[Cell]] = [["ours", "10", 0.0, 0.1, ""], ["ours", "40", 9.0, 0.9, ""]]
    root = drawn(ResultTable("points", "", COLUMNS, rows).to_dict())
    assert not any(text.startswith("-") for text in words(root))


def test_published_marks_are_hollow_and_ours_filled() -> None:
    root = drawn()
    assert marked(root, "paper")[-1].attrib["fill"] == "none"
    assert marked(root, "ours, gamma 10")[-1].attrib["fill"] != "none"


def test_the_same_json_gives_the_same_bytes() -> None:
    entry, table = json.loads(json.dumps([asdict(CHART), TABLE.to_dict()]))
    assert chart_svg(read_chart(entry), table) == chart_svg(CHART, TABLE.to_dict())


def test_a_table_without_any_number_can_be_drawn() -> None:
    table = ResultTable("points", "", COLUMNS, [["ours", "10", None, None, ""]])
    assert "undefined, and not drawn: ours, gamma 10" in words(drawn(table.to_dict()))


def test_a_scatter_of_no_column_or_of_words_is_refused() -> None:
    for column, fault in (("his", "wanted one of"), ("note", "holds the words 'a'")):
        chart = Scatter(**{**vars(CHART), "y": column})
        with pytest.raises(ValueError, match=fault):
            Findings("", {}, [TABLE], charts=[chart])
