"""From benchmark JSON to the table in the README, and to a compact file worth committing.

    python -m benchmarks.summary FILE [FILE...] [--write README.md] [--compact OUT.json]

FILE is what ``pytest benchmarks --benchmark-json=FILE`` wrote, or a compact file. The table goes to
the standard output as Markdown, or between the speed markers of the file named by ``--write``.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
COLUMNS = {
    "method1": "method 1, ours",
    "method2": "method 2, ours",
    "batched_vjp": "batched VJP",
    "forward_mode": "forward mode",
    "autograd_loop": "autograd loop",
    "captum_loop": "Captum loop",
    "pytorch_grad_cam_loop": "pytorch-grad-cam loop",
    "torch_cam_loop": "torch-cam loop",
    "published_loop": "published loop",
}
GENERAL = ("batched_vjp", "forward_mode", "autograd_loop")
_SETTING = ("encoder", "layer", "features", "dims", "batch", "image_size", "device", "dtype")
_ROW = (*_SETTING, "way", "plan", "seconds", "ratios", "rounds", "peak_bytes")
_MACHINE = (
    "cpu_model",
    "cores",
    "threads",
    "memory_gib",
    "load_average",
    "platform",
    "python",
    "versions",
    "gpu",
    "cuda",
    "cudnn",
    "tf32",
)

Results = dict[str, Any]


def compact(raw: Results) -> Results:
    """What a reader needs of pytest-benchmark's JSON; a compact file comes back as it is.

    Raises:
        ValueError: no row of ``bench_channel_weights.py`` in it.
    """
    if "rows" in raw:
        return raw
    rows = [b["extra_info"] for b in raw.get("benchmarks", []) if "way" in b["extra_info"]]
    if not rows:
        raise ValueError(
            "no rows of benchmarks/bench_channel_weights.py in this file; write one with "
            "pytest benchmarks --benchmark-only --benchmark-json=FILE"
        )
    return {
        "command": raw["command"],
        "commit": raw["commit_info"]["id"],
        "uncommitted_changes": raw["commit_info"]["dirty"],
        "date": raw["datetime"][:10],
        "protocol": rows[0]["protocol"],
        "machine": {k: v for k, v in raw["machine_info"].items() if k in _MACHINE},
        "rows": [_rounded({k: row[k] for k in _ROW}) for row in rows],
        "skipped": raw["skipped"],
    }


def merged(runs: list[Results]) -> Results:
    """Several runs of one commit on one machine as one compact result.

    Raises:
        ValueError: the runs are of different commits.
    """
    if len({run["commit"] for run in runs}) > 1:
        raise ValueError("only runs of one commit can be written to one file")
    return {
        **runs[0],
        "command": "; ".join(run["command"] for run in runs),
        "uncommitted_changes": any(run["uncommitted_changes"] for run in runs),
        "rows": [row for run in runs for row in run["rows"]],
        "skipped": [row for run in runs for row in run["skipped"]],
    }


def only(run: Results, encoders: list[str]) -> Results:
    """A run's rows of some encoders."""
    kept = {
        name: [row for row in run[name] if row["encoder"] in encoders]
        for name in ("rows", "skipped")
    }
    return {**run, **kept}


def table(runs: Iterable[Results]) -> str:
    """The ratio table in Markdown, with a line on each run above it.

    One line per setting, of the latest run that measured it.
    """
    runs = list(runs)
    lines = [about(run) + "\n" for run in runs]
    headings = [
        "encoder, layer",
        "D",
        "device",
        "engine's path",
        "method 2 by autograd",
        *COLUMNS.values(),
        "method 1 / method 2, ours",
        "method 1 / best general way",
        "memory, method 1 / method 2 by autograd",
    ]
    lines.append("| " + " | ".join(headings) + " |")
    lines.append("|" + "---|" * 4 + "---:|" * (len(headings) - 4))
    latest: dict[tuple[Any, ...], tuple[dict[str, Results], dict[str, Results]]] = {}
    for run in sorted(runs, key=lambda run: str(run["date"])):
        latest.update(_settings(run))
    for ways, skipped in latest.values():
        lines.append("| " + " | ".join(_cells(ways, skipped)) + " |")
    return "\n".join(lines)


def about(run: Results) -> str:
    """What a run measured and on what, in one sentence each."""
    machine, protocol = run["machine"], run["protocol"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    changed = " with uncommitted changes" if run["uncommitted_changes"] else ""
    where = machine.get("gpu") or machine["cpu_model"]
    clock = "processor" if protocol["clock"] == "cpu" else "wall-clock"
    return (
        f"`{run['command']}`, {run['date']}, commit {run['commit'][:10]}{changed}; {where}, "
        f"{machine['cores']} cores, {machine['threads']} threads; {versions}. Times are relative "
        "to method 2 done with one autograd backward, in the same run: median over rounds of the "
        f"ratio of two {clock} times taken one after the other; seed {protocol['seed']}."
    )


def write_between_markers(path: Path, text: str) -> None:
    """Replace what stands between the speed markers of a file.

    Raises:
        ValueError: the file lacks the markers.
    """
    try:
        path.write_text(between_markers(path.read_text(), text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def between_markers(content: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """A page with the text in place of what stands between two of its lines.

    Raises:
        ValueError: the page lacks the markers.
    """
    if content.count(begin) != 1 or content.count(end) != 1:
        raise ValueError(f"the lines {begin} and {end} are needed, once each")
    before, rest = content.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.summary", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--write", type=Path, help="file whose speed table is replaced")
    parser.add_argument("--compact", type=Path, help="where to write the files' compact results")
    parser.add_argument("--only", nargs="+", metavar="ENCODER", help="keep rows of these alone")
    options = parser.parse_args(arguments)
    runs = [compact(json.loads(path.read_text())) for path in options.files]
    if options.only:
        runs = [only(run, options.only) for run in runs]
    if options.compact:
        try:
            result = merged(runs)
        except ValueError as error:
            parser.error(f"--compact: {error}")
        options.compact.write_text(json.dumps(result, indent=1) + "\n")
    if options.write:
        write_between_markers(options.write, table(runs))
    else:
        print(table(runs))


def _settings(
    run: Results,
) -> dict[tuple[Any, ...], tuple[dict[str, Results], dict[str, Results]]]:
    """Setting -> (way -> row, way -> skipped row), in the order measured."""
    settings: dict[tuple[Any, ...], tuple[dict[str, Results], dict[str, Results]]] = {}
    for index, rows in enumerate((run["rows"], run["skipped"])):
        for row in rows:
            key = tuple(row[name] for name in _SETTING)
            settings.setdefault(key, ({}, {}))[index][row["way"]] = row
    return settings


def _cells(ways: dict[str, Results], skipped: dict[str, Results]) -> list[str]:
    row = next(iter((ways | skipped).values()))
    device = row["device"] if row["dtype"] == "float32" else f"{row['device']}, {row['dtype']}"
    reference = ways.get("method2_autograd")
    cells = [
        f"{row['encoder']} {row['layer']} ({row['features']}), B={row['batch']}",
        str(row["dims"]),
        device,
        row["plan"].replace("_", "-"),
        f"{1e3 * reference['seconds']['median']:.3g} ms" if reference else "-",
    ]
    for way in COLUMNS:
        if way in skipped:
            cells.append(skipped[way]["reason"])
        else:
            cells.append(_times(_ratio(ways, way, "method2_autograd")))
    general = [_ratio(ways, way, "method1") for way in GENERAL]
    fastest = min((r for r in general if r is not None), default=None)
    cells.append(_times(_ratio(ways, "method1", "method2")))
    cells.append(_times(1 / fastest if fastest else None))
    peaks = [ways[w]["peak_bytes"] for w in ("method1", "method2_autograd") if w in ways]
    cells.append(_times(peaks[0] / peaks[1] if len(peaks) == 2 else None))
    return cells


def _ratio(ways: dict[str, Results], way: str, reference: str) -> float | None:
    ratio = ways.get(way, {}).get("ratios", {}).get(reference)
    return None if ratio is None else float(ratio["median"])


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


if __name__ == "__main__":
    main()
