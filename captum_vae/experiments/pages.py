"""Results as an HTML page, a Markdown page and CSV files: pure functions of their JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_vae.experiments.charts import chart_svg
from captum_vae.experiments.results import Chart, Scatter, read_chart
from captum_vae.experiments.verdicts import Estimate
from captum_vae.experiments.work import write_json
from captum_vae.report import Picture, Section, Table, write_page

_SCALES = {
    "smoke": "Scale smoke: it shows that everything runs; its numbers mean nothing.",
    "cpu": "Scale cpu: what a laptop measures in minutes.",
    "paper": "Scale paper: models, image sizes and lengths of training as published.",
}
_CLAIM_COLUMNS = ("claim", "source", "verdict", "because")
_TRAINING_COLUMNS = (
    "model",
    "steps",
    "active dimensions",
    "explained variance",
    "final losses",
    "seconds",
    "commit",
)
_PROTOCOL_COLUMNS = ("protocol", "")

CHARTS = "charts"
"""The folder of the charts beside the pages."""


def write_results(
    results: Mapping[str, Any], folder: Path, report_json: Path | None = None
) -> Path:
    """Write results.json and the pages that follow from it.

    Args:
        results: as of :meth:`captum_vae.experiments.results.Experiment.results`.
        folder: holds the figures.
        report_json: a second place for the JSON.

    Returns:
        The path of the HTML page.
    """
    for path in (folder / "results.json", *([report_json] if report_json else [])):
        write_json(path, results)
    # Read back, so that pages show what the file holds: JSON knows no tuples, for one.
    return write_pages(load_results(folder / "results.json"), folder)


def write_pages(results: Mapping[str, Any], folder: Path) -> Path:
    """Write the pages, and a file per table and chart; the results determine their bytes.

    They are index.html, results.md, NAME.csv for every table and charts/NAME.svg for every chart.

    Args:
        results: as read from results.json.
        folder: holds the figures.

    Returns:
        The path of the HTML page.

    Raises:
        FileNotFoundError: a figure is not there.
    """
    (folder / "results.md").write_text(markdown_page(results), encoding="utf-8")
    for table in results["tables"]:
        (folder / f"{table['name']}.csv").write_text(csv_table(table), encoding="utf-8")
        for chart in charts_of(results, table):
            (folder / CHARTS).mkdir(exist_ok=True)
            svg = chart_svg(chart, table)
            (folder / CHARTS / f"{chart.name}.svg").write_text(svg, encoding="utf-8")
    return write_page(
        folder / "index.html",
        title=results["title"],
        lead=f"{results['about']} {_circumstances(results)}",
        sections=_sections(results, folder),
        footer=_footer(results),
    )


def linked_chart(chart: Chart | Scatter, table: Mapping[str, Any]) -> str:
    """A chart in Markdown: the file that :func:`write_pages` puts beside the page."""
    return f"![{chart.alt}]({CHARTS}/{chart.name}.svg)\n\n{chart.caption}"


def markdown_page(
    results: Mapping[str, Any],
    *,
    figures: str | None = ".",
    chart_block: Callable[[Chart | Scatter, Mapping[str, Any]], str] = linked_chart,
) -> str:
    """The page in Markdown.

    Args:
        results: as read from results.json.
        figures: folder of the figures as seen from the page; None leaves them out.
        chart_block: the Markdown of a chart, called with the chart and its table.

    Example::

        text = markdown_page(json.loads(path.read_text()), figures="../images/reproduce_mnist")
    """
    lines = [f"# {results['title']}", "", results["about"], ""]
    lines += [_circumstances(results), ""]
    lines += ["## Claims and verdicts", "", *_markdown_table(_CLAIM_COLUMNS, _claims(results)), ""]
    for table in results["tables"]:
        lines += [f"## {table['title']}", ""]
        lines += [table["note"], ""] if table["note"] else []
        for chart in charts_of(results, table):
            lines += [chart_block(chart, table), ""]
        lines += [*_markdown_table(table["columns"], _cells(table)), ""]
    if figures is not None and results["figures"]:
        lines += ["## Figures", ""]
        for figure in results["figures"]:
            lines += [f"![{figure['alt']}]({figures}/{figure['file']})", "", figure["caption"], ""]
    lines += ["## Trainings", "", *_markdown_table(_TRAINING_COLUMNS, _trainings(results)), ""]
    lines += ["## Protocol", "", *_markdown_table(_PROTOCOL_COLUMNS, _protocol(results)), ""]
    lines += ["```bash", results["command"], "```", "", _footer(results)]
    return "\n".join(lines) + "\n"


def csv_table(table: Mapping[str, Any]) -> str:
    """A table's numbers in full; a column with intervals is followed by its low and high ends."""
    rows: list[list[Any]] = table["rows"]
    places = range(len(table["columns"]))
    spread = [any(isinstance(row[place], Mapping) for row in rows) for place in places]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        [
            name
            for column, wide in zip(table["columns"], spread, strict=True)
            for name in ([column, f"{column} low", f"{column} high"] if wide else [column])
        ]
    )
    for row in rows:
        writer.writerow(
            [
                value
                for cell, wide in zip(row, spread, strict=True)
                for value in (_csv_interval(cell) if wide else [_csv_value(cell)])
            ]
        )
    return buffer.getvalue()


def charts_of(results: Mapping[str, Any], table: Mapping[str, Any]) -> list[Chart | Scatter]:
    """The charts that draw a table; none in results that were written before there were any."""
    return [
        read_chart(chart) for chart in results.get("charts", ()) if chart["table"] == table["name"]
    ]


def load_results(path: str | Path) -> dict[str, Any]:
    """The results that a file holds."""
    results: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return results


def _sections(results: Mapping[str, Any], folder: Path) -> list[Section]:
    sections = [Section("Claims and verdicts", tables=[Table(_CLAIM_COLUMNS, _claims(results))])]
    for table in results["tables"]:
        notes = [table["note"]] if table["note"] else []
        charts = [
            Picture(folder / CHARTS / f"{chart.name}.svg", chart.alt, chart.caption)
            for chart in charts_of(results, table)
        ]
        cells = Table(table["columns"], _cells(table))
        sections.append(Section(table["title"], notes, charts, [cells]))
    pictures = [
        Picture(folder / figure["file"], figure["alt"], figure["caption"])
        for figure in results["figures"]
    ]
    if pictures:
        sections.append(Section("Figures", pictures=pictures))
    trainings = Table(_TRAINING_COLUMNS, _trainings(results))
    protocol = Table(_PROTOCOL_COLUMNS, _protocol(results))
    return [
        *sections,
        Section("Trainings", tables=[trainings]),
        Section("Protocol", tables=[protocol], code=results["command"]),
    ]


def _circumstances(results: Mapping[str, Any]) -> str:
    """Scale, length of training and data."""
    words = [_SCALES[results["scale"]]]
    share = results.get("training_share")
    if share is not None:
        words.append(
            f"Trained on {share:.2g} times as many images as published; the verdicts judge the "
            "VAEs as trained here."
        )
    return " ".join([*words, f"Data: {results['data']}."])


def _claims(results: Mapping[str, Any]) -> list[list[str]]:
    return [[c["text"], c["source"], c["verdict"], c["because"]] for c in results["claims"]]


def _trainings(results: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for training in results["trainings"]:
        active, losses = training["active_dimensions"], training["final_losses"]
        rows.append(
            [
                training["name"],
                str(training["steps"]),
                f"{active['active']} of {active['dimensions']}",
                _text(training.get("explained_variance")),
                ", ".join(f"{name} {value:.5g}" for name, value in losses.items()),
                f"{training['seconds']:.0f}",
                str(training.get("commit") or "unknown")[:10],
            ]
        )
    return rows


def _protocol(results: Mapping[str, Any]) -> list[list[str]]:
    settings = ", ".join(f"{name} {_setting(v)}" for name, v in results["settings"].items())
    return [*([k, v] for k, v in results["protocol"].items()), ["settings", settings]]


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return "(" + ", ".join(map(_setting, value)) + ")"
    return json.dumps(value) if isinstance(value, Mapping) else str(value)


def _footer(results: Mapping[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"captum_vae {results['version']}, commit {results['commit'] or 'unknown'}, seed "
        f"{results['seed']}, on {machine['device']} ({machine['cpu']}, {machine['threads']} "
        f"threads), PyTorch {machine['torch']}. The last call took {results['seconds']:.0f} s; "
        "what was kept from earlier ones was not repeated."
    )


def _cells(table: Mapping[str, Any]) -> list[list[str]]:
    return [[_text(cell) for cell in row] for row in table["rows"]]


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Mapping):
        return str(Estimate.from_dict(dict(cell)))
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _csv_value(cell: Any) -> Any:
    return "" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else cell


def _csv_interval(cell: Any) -> list[Any]:
    if isinstance(cell, Mapping):
        return [_csv_value(cell[end]) for end in ("value", "low", "high")]
    return [_csv_value(cell), "", ""]


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
