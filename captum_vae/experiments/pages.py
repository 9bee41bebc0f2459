"""Results as an HTML page, a Markdown page and CSV files: pure functions of their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from captum_vae.files import reading, write_json, write_text
from captum_vae.report import Picture, Section, Table, write_page
from captum_vae.report.chart_drawing import chart_svg
from captum_vae.report.charts import Chart, Scatter, read_chart
from captum_vae.report.estimate import Estimate

_BUDGETS = {
    "smoke": "Scale smoke: it shows that everything runs; its numbers mean nothing.",
    "cpu": "Scale cpu: what a laptop measures in minutes.",
    "paper": "Scale paper: models, image sizes and lengths of training as published, unless an "
    "option replaces them.",
}
CHARTS = "charts"
"""The folder of the charts beside the pages."""


def write_results(
    results: Mapping[str, Any], folder: Path, report_json: Path | None = None
) -> Path:
    """Write results.json and the pages that follow from it.

    Args:
        results: Results that :meth:`captum_vae.experiments.experiment.Experiment.results` gives.
        folder: The folder that holds the figures.
        report_json: A second file for the JSON.

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
        results: Results read from results.json.
        folder: The folder that holds the figures.

    Returns:
        The path of the HTML page.

    Raises:
        FileNotFoundError: A figure is not there.
    """
    write_text(folder / "results.md", markdown_page(results))
    for table in results["tables"]:
        write_text(folder / f"{table['name']}.csv", csv_table(table))
        for chart in charts_of(results, table):
            write_text(folder / CHARTS / f"{chart.name}.svg", chart_svg(chart, table))
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
        results: Results read from results.json.
        figures: The folder of the figures as seen from the page; None leaves them out.
        chart_block: Gives the Markdown of a chart from the chart and its table.

    Example::

        text = markdown_page(json.loads(path.read_text()), figures="../images/reproduce_mnist")
    """
    lines = [f"# {results['title']}", "", results["about"], ""]
    lines += [_circumstances(results), ""]
    lines += ["## Claims and verdicts", ""]
    lines += [line for said in _doubts(results) for line in (said, "")]
    lines += [_claims(results).markdown(), ""]
    for table in results["tables"]:
        lines += [f"## {table['title']}", ""]
        lines += [table["note"], ""] if table["note"] else []
        for chart in charts_of(results, table):
            lines += [chart_block(chart, table), ""]
        lines += [_cells(table).markdown(), ""]
    if figures is not None and results["figures"]:
        lines += ["## Figures", ""]
        for figure in results["figures"]:
            lines += [f"![{figure['alt']}]({figures}/{figure['file']})", "", figure["caption"], ""]
    lines += ["## Trainings", "", _trainings(results).markdown(), ""]
    lines += ["## Protocol", "", _protocol(results).markdown(), ""]
    lines += ["```bash", results["command"], "```", "", _footer(results)]
    return "\n".join(lines) + "\n"


def csv_table(table: Mapping[str, Any]) -> str:
    """A table's numbers in full; a column with intervals is followed by its low and high ends."""
    columns: list[str] = []
    spread: list[list[Any]] = []
    for place, column in enumerate(table["columns"]):
        cells = [row[place] for row in table["rows"]]
        columns.append(column)
        if not any(isinstance(cell, Mapping) for cell in cells):
            spread.append(cells)
            continue
        columns += [f"{column} low", f"{column} high"]
        whole = [cell if isinstance(cell, Mapping) else {"value": cell} for cell in cells]
        spread += [[cell.get(end) for cell in whole] for end in ("value", "low", "high")]
    return Table(columns, list(zip(*spread, strict=True))).csv()


def charts_of(results: Mapping[str, Any], table: Mapping[str, Any]) -> list[Chart | Scatter]:
    """The charts that draw a table; none in results that were written before there were any."""
    return [
        read_chart(chart) for chart in results.get("charts", ()) if chart["table"] == table["name"]
    ]


def load_results(path: str | Path) -> dict[str, Any]:
    """The results that a file holds.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It is not JSON.
    """
    with reading(path, "the results of an experiment", remedy="run the experiment again"):
        results: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return results


def _sections(results: Mapping[str, Any], folder: Path) -> list[Section]:
    sections = [Section("Claims and verdicts", _doubts(results), tables=[_claims(results)])]
    for table in results["tables"]:
        notes = [table["note"]] if table["note"] else []
        charts = [
            Picture(folder / CHARTS / f"{chart.name}.svg", chart.alt, chart.caption)
            for chart in charts_of(results, table)
        ]
        sections.append(Section(table["title"], notes, charts, [_cells(table)]))
    pictures = [
        Picture(folder / figure["file"], figure["alt"], figure["caption"])
        for figure in results["figures"]
    ]
    if pictures:
        links = [
            (f"Browse {figure.get('browses', 'test images')}", figure["explorer"])
            for figure in results["figures"]
            if figure.get("explorer") and (folder / figure["explorer"]).is_file()
        ]
        sections.append(Section("Figures", pictures=pictures, links=links))
    return [
        *sections,
        Section("Trainings", tables=[_trainings(results)]),
        Section("Protocol", tables=[_protocol(results)], code=results["command"]),
    ]


def _circumstances(results: Mapping[str, Any]) -> str:
    """Scale, length of training and data."""
    words = [_BUDGETS[results["scale"]]]
    share = results.get("training_share")
    if share is not None:
        words.append(
            f"Trained on {share:.2g} times as many images as published"
            + ("." if results.get("doubts") else "; the verdicts judge the VAEs as trained here.")
        )
    if results.get("training"):
        words.append(f"Trained {results['training']}.")
    done, planned = results.get("finished") or (0, 0)
    if done < planned:
        words.append(
            f"Unfinished: {done} of {planned} parts are measured, and the verdicts are on those; "
            "run the command again to continue."
        )
    return " ".join([*words, f"Data: {results['data']}."])


def _doubts(results: Mapping[str, Any]) -> list[str]:
    """Why no claim can be tested, in a sentence; none where claims can be."""
    doubts = "; ".join(results.get("doubts") or ())
    return [f"No claim is testable here: {doubts}."] if doubts else []


def _claims(results: Mapping[str, Any]) -> Table:
    rows = [[c["text"], c["source"], c["verdict"], c["because"]] for c in results["claims"]]
    return Table(("claim", "source", "verdict", "because"), rows)


def _trainings(results: Mapping[str, Any]) -> Table:
    cells: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "model": lambda training: training["name"],
        "steps": lambda training: str(training["steps"]),
        "active dimensions": lambda training: "{active} of {dimensions}".format(
            **training["active_dimensions"]
        ),
        "explained variance": lambda training: _text(training.get("explained_variance")),
        "final losses": lambda training: ", ".join(
            f"{name} {value:.5g}" for name, value in training["final_losses"].items()
        ),
        "seconds": lambda training: f"{training['seconds']:.0f}",
        "commit": lambda training: str(training.get("commit") or "unknown")[:10],
    }
    rows = [[cell(training) for cell in cells.values()] for training in results["trainings"]]
    return Table(tuple(cells), rows)


def _protocol(results: Mapping[str, Any]) -> Table:
    settings = ", ".join(f"{name} {_setting(v)}" for name, v in results["settings"].items())
    rows = [*([k, v] for k, v in results["protocol"].items()), ["settings", settings]]
    return Table(("protocol", ""), rows)


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


def _cells(table: Mapping[str, Any]) -> Table:
    return Table(table["columns"], [[_text(cell) for cell in row] for row in table["rows"]])


def _text(cell: Any) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Mapping):
        return str(Estimate.from_dict(dict(cell)))
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
