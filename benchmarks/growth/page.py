"""A file of growths as a part of the manual: figures, slopes and the points."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.growth.measuring import COSTS
from captum_vae.report.charts import Chart, Scatter

AXES = {"cpu_seconds": "processor seconds", "peak_mb": "peak memory [MB]"}
"""What the costs are called in figures and tables."""

ChartBlock = Callable[[Chart | Scatter, Mapping[str, Any]], str]


def markdown(result: Mapping[str, Any], chart_block: ChartBlock) -> str:
    """The sections of all growths of a file that ``python -m benchmarks.growth`` wrote.

    Args:
        result: The file's content.
        chart_block: Makes the part of a page that shows a chart of a table.
    """
    lines = []
    for place, growth in enumerate(result["growths"]):
        lines += [f"### {growth['title']}", "", growth["about"], ""]
        for cost in COSTS:
            lines += [_figure(growth, cost, f"{result['subject']}-{place}-{cost}", chart_block), ""]
        lines += [_slopes(growth), "", _points(growth), ""]
    lines.append(_origin(result))
    return "\n".join(lines)


def _figure(growth: Mapping[str, Any], cost: str, name: str, chart_block: ChartBlock) -> str:
    size, axis = growth["size"], AXES[cost]
    # Below a tenth of a megabyte the memory of a process is not measured.
    drawn = [row for row in growth["rows"] if row[cost] > 0]
    table = {
        "columns": ["series", "point", size, axis],
        "rows": [[row["series"], row["size"], row["size"], row[cost]] for row in drawn],
    }
    chart = Scatter(
        name,
        f"{growth['title']}: {axis}",
        "points",
        "series",
        "point",
        size,
        axis,
        "Both axes are logarithmic.",
        f"{axis} against {size}, a line for each of the table's series",
        scale="log",
    )
    return chart_block(chart, table)


def _slopes(growth: Mapping[str, Any]) -> str:
    headings = [
        f"{AXES[cost]}, {part}"
        for cost in COSTS
        for part in ("slope of all points", "of the last three")
    ]
    lines = [_line(["series", *headings, "to be expected of seconds at most"])]
    lines.append("|---" + "|--:" * (len(headings) + 1) + "|")
    for row in growth["slopes"]:
        fitted = [row[f"{cost}_{part}"] for cost in COSTS for part in ("all", "last_three")]
        cells = ["" if value is None else f"{value:.2f}" for value in fitted]
        lines.append(_line([row["series"], *cells, f"{row['at_most']:g}"]))
    return "\n".join(lines)


def _points(growth: Mapping[str, Any]) -> str:
    own = ["series", "size", *COSTS, "wall_seconds"]
    others = [name for name in _names(growth["rows"]) if name not in own]
    lines = [_line(["series", growth["size"], *AXES.values(), *map(_words, others)])]
    lines.append("|---" + "|--:" * (len(COSTS) + 1 + len(others)) + "|")
    for row in growth["rows"]:
        values = [row["size"], *(row[cost] for cost in COSTS), *(row.get(o) for o in others)]
        lines.append(_line([row["series"], *map(_cell, values)]))
    return "\n".join(lines)


def _origin(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    load = ", ".join(f"{value:g}" for value in result["load_average"])
    return (
        f"`{result['command']}`, commit {str(result['commit'])[:10]}; {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['threads']} thread a process, torch "
        f"{machine['torch']}; load of the machine before and after: {load}."
    )


def _names(rows: list[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "yes", False: "no"}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
