"""Charts hold what their table says, where it says it."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from captum_vae.experiments.pages import charts_of, load_results, markdown_page
from captum_vae.experiments.results import ResultTable
from captum_vae.experiments.specification import Specification
from captum_vae.report.chart_drawing import chart_svg, draw
from captum_vae.report.charts import Chart, Reference, read_chart
from captum_vae.report.estimate import Estimate

RESULTS = Path(__file__).parents[2] / "docs" / "results"

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


def drawn(chart: Chart = CHART, table: Mapping[str, Any] | None = None) -> Axes:
    (axes,) = draw(chart, table or asdict(TABLE)).axes
    return axes


def one_number(cell: Any, label: str = "conv1") -> Axes:
    table = ResultTable("scores", "", ("layer", "ours"), [[label, cell]])
    chart = Chart("one", "", "scores", ("layer",), ("ours",), "", "", "")
    chart_svg(chart, asdict(table))
    return drawn(chart, asdict(table))


def marks(axes: Axes, series: str) -> Line2D:
    (line,) = (line for line in axes.lines if line.get_label() == series)
    return line


def intervals(axes: Axes) -> list[tuple[float, float]]:
    """Their ends, from top to bottom."""
    segments = [c.get_segments()[0] for c in axes.collections if isinstance(c, LineCollection)]
    return [(s[0][0], s[1][0]) for s in sorted(segments, key=lambda segment: segment[0][1])]


def rows(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def legend(axes: Axes) -> list[str]:
    (found,) = axes.figure.legends
    return [found.get_title().get_text(), *(text.get_text() for text in found.get_texts())]


def test_rows_series_axis_and_title_are_named() -> None:
    axes = drawn()
    assert rows(axes) == ["conv1, relu", "conv2 <&>, abs"]
    assert legend(axes) == ["Layers & scores", "chance", "paper", "theirs", "ours", "ours, best"]
    assert axes.get_xlabel() == "AUROC"


def test_marks_stand_at_their_values_and_intervals_end_at_theirs() -> None:
    axes = drawn()
    known = {"paper": [0.9], "theirs": [0.8, 0.7], "ours": [0.5, 0.8], "ours, best": [0.7]}
    assert {name: list(marks(axes, name).get_xdata()) for name in known} == known
    assert intervals(axes) == [(0.3, 0.6), (0.65, 0.8)]


def test_the_reference_is_a_line_at_its_value() -> None:
    assert list(marks(drawn(), "chance").get_xdata()) == [0.5, 0.5]


def test_rows_stand_in_the_tables_order_and_marks_in_their_row() -> None:
    axes = drawn()
    first, second = axes.get_yticks()
    bottom, top = axes.get_ylim()
    assert top < first < second < bottom
    for name in ("paper", "theirs", "ours", "ours, best"):
        places = list(marks(axes, name).get_ydata())
        assert abs(places[0] - first) < (second - first) / 2
        assert len(places) == 1 or abs(places[1] - second) < (second - first) / 2


def test_marks_of_one_row_do_not_hide_each_other() -> None:
    axes = drawn()
    lanes = [marks(axes, name).get_ydata()[0] for name in ("paper", "theirs", "ours", "ours, best")]
    assert all(low + 8 < high for low, high in itertools.pairwise(lanes))


def test_a_missing_interval_draws_a_dot_alone() -> None:
    axes = one_number(0.8)
    assert list(marks(axes, "ours").get_xdata()) == [0.8]
    assert intervals(axes) == []


def test_an_undefined_value_says_so_and_draws_no_mark() -> None:
    axes = drawn()
    assert [text.get_text() for text in axes.texts] == ["undefined"]
    assert len(marks(axes, "ours, best").get_xdata()) == 1


def test_where_a_source_says_nothing_nothing_is_drawn() -> None:
    table = asdict(ResultTable("scores", "", TABLE.columns, [TABLE.rows[1]]))
    axes = drawn(table=table)
    assert len(marks(axes, "paper (none)").get_xdata()) == 0
    assert "paper (none)" in legend(axes)


def test_published_marks_are_hollow_and_ours_filled() -> None:
    axes = drawn()
    for name in ("paper", "theirs"):
        assert marks(axes, name).get_markerfacecolor() == "white"
    for name in ("ours", "ours, best"):
        assert marks(axes, name).get_markerfacecolor() == marks(axes, name).get_color()


def test_series_differ_in_shape_and_colour() -> None:
    axes = drawn()
    assert len({marks(axes, name).get_marker() for name in ("paper", "theirs")}) == 2
    for look in (Line2D.get_marker, Line2D.get_color):
        assert len({look(marks(axes, name)) for name in ("ours", "ours, best")}) == 2


def test_the_same_json_gives_the_same_bytes() -> None:
    entry = json.loads(json.dumps(asdict(CHART)))
    table = json.loads(json.dumps(asdict(TABLE)))
    assert chart_svg(read_chart(entry), table) == chart_svg(CHART, asdict(TABLE))


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_process_gives_the_same_bytes(seed: str) -> None:
    code = (
        "import json, sys\n"
        "from captum_vae.report.chart_drawing import chart_svg\n"
        "from captum_vae.report.charts import read_chart\n"
        "chart, table = json.load(sys.stdin)\n"
        "sys.stdout.buffer.write(chart_svg(read_chart(chart), table).encode())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([asdict(CHART), asdict(TABLE)]).encode(),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    assert found.stdout == chart_svg(CHART, asdict(TABLE)).encode()


def test_a_users_settings_of_matplotlib_change_nothing() -> None:
    expected = chart_svg(CHART, asdict(TABLE))
    mine = {"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "none", "figure.dpi": 50}
    with matplotlib.rc_context(mine):
        assert chart_svg(CHART, asdict(TABLE)) == expected
        assert matplotlib.rcParams["font.size"] == 30


def test_a_chart_is_as_wide_as_the_manual_and_higher_with_more_rows() -> None:
    sizes = []
    for count in (1, 5):
        table = {**asdict(TABLE), "rows": asdict(TABLE)["rows"] * count}
        root = ElementTree.fromstring(chart_svg(CHART, table))
        sizes.append([float(root.attrib[name].removesuffix("pt")) for name in ("width", "height")])
    # 552 pt are 736 CSS pixels.
    assert [width for width, _ in sizes] == [552, 552]
    assert sizes[0][1] < sizes[1][1]


@pytest.mark.parametrize("value", [0.0, 1.0, 37.5, -0.25, 1e-4])
def test_a_chart_of_a_single_number_can_be_drawn(value: float) -> None:
    axes = one_number(value)
    low, high = axes.get_xlim()
    assert low < value < high


def test_a_chart_without_any_number_can_be_drawn() -> None:
    assert [text.get_text() for text in one_number(Estimate(None)).texts] == ["undefined"]


def test_a_long_label_is_broken_into_lines() -> None:
    label = "method 1, abs per channel, relative to mean activation, conv1"
    (written,) = rows(one_number(0.5, label))
    assert written.replace("\n", " ") == label
    assert written.count("\n") == 1


def test_dollars_are_no_formula() -> None:
    assert rows(one_number(0.5, "$1 and $x_{$")) == ["$1 and $x_{$"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("reproduce_*.json")), ids=lambda p: p.stem)
def test_committed_results_render_without_charts_too(path: Path) -> None:
    results = load_results(path)
    without = {name: value for name, value in results.items() if name != "charts"}
    assert ".svg" not in markdown_page(without)
    for table in results["tables"]:
        for chart in charts_of(results, table):
            assert chart_svg(chart, table).endswith("</svg>\n")


def test_the_labels_of_rows_do_not_lie_on_each_other() -> None:
    results = load_results(RESULTS / "reproduce_ucsd.json")
    (table,) = (table for table in results["tables"] if table["name"] == "protocols")
    figure = draw(Specification.read("ucsd").drawn(scene="Ped2")[1], table)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert len(boxes) > 20
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
