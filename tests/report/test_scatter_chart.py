"""A scatter chart holds what its table says, where it says it."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from captum_vae.experiments.results import Cell, ResultTable
from captum_vae.report.chart_drawing import chart_svg, draw
from captum_vae.report.charts import Scatter, read_chart
from captum_vae.report.estimate import Estimate

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


def drawn(rows: Sequence[Sequence[Cell]] = TABLE.rows) -> Figure:
    table: Mapping[str, Any] = asdict(ResultTable("points", "", COLUMNS, rows))
    return draw(CHART, table)


def marks(figure: Figure, series: str) -> Line2D:
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == series)
    return line


def segments(figure: Figure) -> list[list[list[float]]]:
    found = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    return [c.get_segments()[0].tolist() for c in found]


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_series_goes_through_its_values_in_the_tables_order() -> None:
    figure = drawn()
    assert marks(figure, "paper").get_xydata().tolist() == [[38.5, 0.9]]
    assert marks(figure, "ours").get_xydata().tolist() == [[30.0, 0.7], [34.0, 0.8]]
    assert marks(figure, "ours").get_linestyle() == "-"


def test_intervals_end_at_their_ends_in_both_directions() -> None:
    found = segments(drawn())
    assert [[37.0, 0.9], [40.0, 0.9]] in found
    assert [[29.0, 0.7], [31.0, 0.7]] in found
    assert [[30.0, 0.6], [30.0, 0.8]] in found
    assert len(found) == 5


def test_an_interval_far_longer_than_the_values_are_apart_is_cut() -> None:
    low, high = drawn().axes[0].get_xlim()
    assert 25 < low < 30
    assert 38.5 < high < 45


def test_what_is_undefined_is_said_and_not_drawn() -> None:
    figure = drawn()
    assert len(marks(figure, "other (none)").get_xdata()) == 0
    assert figure.get_supxlabel() == "undefined, and not drawn: ours, gamma 100; other, gamma 10"
    assert "100" not in labels(figure)


def test_points_axes_series_and_the_title_are_named() -> None:
    figure = drawn()
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "Score & error"
    entries = [text.get_text() for text in legend.get_texts()]
    assert entries == ["paper", "ours", "other (none)"]
    assert labels(figure) == ["40", "10", "40"]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("error", "score")


def test_labels_do_not_lie_on_each_other() -> None:
    crowd: list[list[Cell]] = [["ours", str(n), 30.0 + n / 1000, 0.7, ""] for n in range(20)]
    figure = drawn([*crowd, ["ours", "far", 40.0, 0.9, ""]])
    assert labels(figure) == ["0", "far"]
    figure = drawn([["ours", str(n), 30.0 + n, 0.7, ""] for n in range(60)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert 10 < len(boxes) < 60
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


def test_what_is_never_negative_has_no_negative_number_at_its_axis() -> None:
    figure = drawn([["ours", "10", 0.0, 0.1, ""], ["ours", "40", 9.0, 0.9, ""]])
    low, high = figure.axes[0].get_xlim()
    assert not any(low < tick < 0 for tick in figure.axes[0].get_xticks())


def test_published_marks_are_hollow_and_ours_filled() -> None:
    figure = drawn()
    assert marks(figure, "paper").get_markerfacecolor() == "white"
    assert marks(figure, "ours").get_markerfacecolor() == marks(figure, "ours").get_color()


def test_the_same_json_gives_the_same_bytes() -> None:
    entry, table = json.loads(json.dumps([asdict(CHART), asdict(TABLE)]))
    assert chart_svg(read_chart(entry), table) == chart_svg(CHART, asdict(TABLE))


def test_a_table_without_any_number_can_be_drawn() -> None:
    rows: list[list[Cell]] = [["ours", "10", None, None, ""]]
    assert chart_svg(CHART, asdict(ResultTable("points", "", COLUMNS, rows)))
    assert drawn(rows).get_supxlabel() == "undefined, and not drawn: ours, gamma 10"


def test_a_logarithmic_axis_names_powers_in_plain_words():
    rows = [["a", "1", x, y] for x, y in ((1e6, 0.05), (1e7, 0.5), (1e8, 7.0))]
    table = {"columns": ["model", "gamma", "error", "score"], "rows": rows}
    axes = draw(replace(CHART, scale="log"), table).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()][1:-1] == ["10^6", "10^7", "10^8"]
    assert "0.1" in [label.get_text() for label in axes.get_yticklabels()]
    assert not any(text.get_text() for text in axes.texts)
