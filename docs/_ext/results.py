"""Results pages, made from ``docs/results/*.json`` while they are read.

A page says which files it shows with the line ``<!-- results: PATTERN [PATTERN...] -->``; the
pattern ``others`` stands for every file that no other pattern names. A new file thus appears by
itself: by the renderer of its kind, or as tables of whatever it holds. Nothing but the JSON goes
into the text, so that the same file always gives the same page.
"""

import base64
import html
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parent.parent
RESULTS = DOCS / "results"
MARKER = re.compile(r"<!-- results: (.+?) -->")
OTHERS = "others"
NO_FIGURES = """\
## Figures

The pictures hold images of others' data sets and are not committed. The command below draws them.
"""
sys.path.insert(0, str(DOCS.parent))
from benchmarks import summary as speed_summary  # noqa: E402
from benchmarks.growth.page import markdown as growth_markdown  # noqa: E402
from captum_vae.experiments.pages import markdown_page  # noqa: E402
from captum_vae.experiments.seed_comparison import comparison_table  # noqa: E402
from captum_vae.report.chart_drawing import chart_svg  # noqa: E402
from captum_vae.report.charts import Chart, Scatter  # noqa: E402
from captum_vae.report.estimate import Estimate  # noqa: E402
from captum_vae.report.tables import unbroken  # noqa: E402

Result = Mapping[str, Any]


def page(text: str, document: str = "results/index") -> str:
    """The page's text with every marker replaced by its files' sections.

    Args:
        text: The page in Markdown.
        document: The page's name, which says how its links reach the files.
    """
    up = "../" * document.count("/")

    def sections(match: re.Match[str]) -> str:
        found = [section(path, f"{up}results/{path.name}") for path in files(match[1])]
        return "\n".join(found) or "*No such results are committed yet.*"

    return unbroken(MARKER.sub(sections, text))


def files(patterns: str) -> list[Path]:
    """The result files that a marker's patterns name, sorted."""
    wanted = patterns.split()
    found = sorted(RESULTS.glob("*.json"))
    if wanted != [OTHERS]:
        return [path for path in found if any(fnmatch(path.name, p) for p in wanted)]
    claimed = [
        pattern
        for source in DOCS.glob("results/*.md")
        for match in MARKER.finditer(source.read_text(encoding="utf-8"))
        for pattern in match[1].split()
    ]
    return [path for path in found if not any(fnmatch(path.name, p) for p in claimed)]


_SPELLED = {
    "ad": "AD",
    "cpu": "on a CPU",
    "dsprites": "dSprites",
    "mnist": "MNIST",
    "mvtec": "MVTec AD",
    "ped2": "Ped2",
    "resnet18": "ResNet18",
    "ucsd": "UCSD",
}
"""Words of the files' names that are written otherwise in a title."""


def title_of(stem: str) -> str:
    """A heading in words from a file's name: localization_ped2 is Localization Ped2."""
    words = " ".join(_SPELLED.get(word, word) for word in stem.split("_"))
    return words[:1].upper() + words[1:]


def section(path: Path, link: str) -> str:
    """One file: a heading, where it comes from, and its content."""
    result = json.loads(path.read_text(encoding="utf-8"))
    renderer = renderer_of(path.name, result)
    title = title_of(path.stem)
    return f"## {title}\n\n{renderer(result)}\n\nFrom {{download}}`{path.name} <{link}>`.\n"


def renderer_of(name: str, result: Result) -> Callable[[Result], str]:
    """The function that turns such a file into Markdown."""
    rows = result.get("rows") or [{}]
    if "encoder" in rows[0] and "ratios" in rows[0]:
        return speed
    if {"final_losses", "active_dimensions", "protocol"} <= result.keys():
        return training
    if {"scores", "protocol"} <= rows[0].keys():
        return localization
    if {"variants", "differences", "published"} <= result.keys():
        return seeds
    if {"experiment", "claims", "tables"} <= result.keys():
        return reproduction
    if "growths" in result:
        return growth
    return anything


def speed(result: Result) -> str:
    """A benchmark of ``benchmarks/bench_channel_weights.py``, as in the README."""
    return speed_summary.table([dict(result)])


def training(result: Result) -> str:
    """A report of ``captum-vae fit``: protocol, losses, active dimensions."""
    used = result["active_dimensions"]
    protocol = result["protocol"]
    facts = {
        "model": f"{protocol['model']['name']} {_json(protocol['model']['options'])}",
        "initialization": protocol["model"]["initialization"],
        "data": f"{protocol['data']['name']} {_json(protocol['data']['options'])}, "
        f"{protocol['data']['images']} images of {_shape(protocol['data']['shape'])}",
        "augmentation": _json(protocol["data"]["augment"]),
        "objective": _json(protocol["objective"]),
        "steps and batch": f"{result['steps']} steps of {protocol['trainer']['batch_size']}",
        "final losses": ", ".join(f"{k} {_cell(v)}" for k, v in result["final_losses"].items()),
        "active dimensions": f"**{used['active']} of {used['dimensions']}** (KL above "
        f"{used['kl_threshold']} nats and std above {used['std_threshold']}, over "
        f"{used['images']} images)",
        "KL per dimension [nats]": f"{min(used['kl']):.3f} to {max(used['kl']):.3f}, "
        f"together {sum(used['kl']):.2f}",
        **provenance(result),
    }
    return _facts_table(facts)


def localization(result: Result) -> str:
    """A result of ``captum-vae evaluate``: the table with intervals, tests, the choice."""
    lines = [
        "| scorer | sigma | pixel AUROC | AUPRO | AP | F1 max (oracle) | best IoU (oracle) | "
        "image AUROC | by the top 1% |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in result["rows"]:
        cells = [row["name"], _cell(row["protocol"]["smoothing"])]
        for name in ("auroc", "aupro", "average_precision", "f1_max", "best_iou", "image_auroc"):
            cells.append(str(estimate(row, name)))
        # Files from before it was measured have none.
        known = "image_auroc_top" in row["scores"]
        cells.append(str(estimate(row, "image_auroc_top")) if known else "")
        lines.append(_line(cells))
    choice = result.get("choice")
    if choice:
        lines += ["", _choice(choice)]
    for metric, tests in (("pixel AUROC", "differences"), ("AUPRO", "aupro_differences")):
        if not result.get(tests):
            continue
        lines += [
            "",
            f"| paired difference of {metric} | value | interval | p |",
            "|---|--:|--:|--:|",
        ]
        for name, test in result[tests].items():
            ends = f"[{_cell(test['low'])}, {_cell(test['high'])}]"
            cells = [name, _cell(test["difference"]), ends, _cell(test["p_value"])]
            lines.append(_line(cells))
    lines += ["", _facts_table(_evaluated(result))]
    return "\n".join(lines)


def estimate(row: Result, metric: str) -> Estimate:
    """A metric of an evaluation's row with its interval, where it has one."""
    interval = row["intervals"].get(metric) or {"low": None, "high": None}
    return Estimate(row["scores"][metric]["value"], interval["low"], interval["high"])


def seeds(result: Result) -> str:
    """A result of ``captum-vae disentangle-seeds``."""
    seconds = [run["seconds"] for run in result["runs"]]
    facts = {
        "settings": _json(result["settings"]),
        **provenance(result),
        "seconds": f"{min(seconds):.0f} to {max(seconds):.0f} for each of {len(seconds)} runs",
    }
    return f"{comparison_table(result)}\n\n{_facts_table(facts)}"


def reproduction(result: Result) -> str:
    """A result of ``captum-vae reproduce``: the very page that the command writes."""
    folder = f"reproduce_{result['experiment']}"
    here = (DOCS / "images" / folder).is_dir()
    figures = f"../images/{folder}" if here else None
    text = markdown_page(result, figures=figures, chart_block=inline_chart)
    if result["figures"] and not here:
        text = text.replace("\n## Trainings\n", f"\n{NO_FIGURES}\n## Trainings\n", 1)
    in_code = False
    lines = []
    for line in text.splitlines():
        in_code ^= line.startswith("```")
        lines.append(f"##{line}" if line.startswith("#") and not in_code else line)
    return "\n".join(lines)


def inline_chart(chart: Chart | Scatter, table: Result) -> str:
    """A chart as part of the page: a white card, in dark mode too.

    Within an image its identifiers cannot collide with those of another chart.
    """
    data = base64.b64encode(chart_svg(chart, table).encode()).decode()
    return (
        '```{raw} html\n<figure style="margin: 1rem 0">\n'
        f'<img src="data:image/svg+xml;base64,{data}" alt="{html.escape(chart.alt)}" '
        'style="border-radius: 0.4rem"/>\n'
        f"<figcaption>{html.escape(chart.caption)}</figcaption>\n"
        "</figure>\n```"
    )


def growth(result: Result) -> str:
    """A result of ``python -m benchmarks.growth``: figures, slopes and points."""
    return growth_markdown(result, inline_chart)


def anything(result: Result) -> str:
    """Tables of whatever a file holds: its single values, then each list of rows."""
    single: dict[str, Any] = {}
    tables: list[str] = []
    for name, value in _flat(result).items():
        if _is_rows(value):
            tables += ["", f"**{name}**", "", _rows_table(value)]
        else:
            single[name] = _short(value)
    return "\n".join([_facts_table(single), *tables])


def provenance(result: Result) -> dict[str, Any]:
    """Command, commit, machine, seed and time, as far as the file says."""
    machine = result.get("machine") or {}
    facts = {
        "command": f"`{result['command']}`" if result.get("command") else None,
        "commit": str(result.get("commit") or "")[:10] or None,
        "seed": result.get("seed"),
        "machine": ", ".join(f"{k} {v}" for k, v in machine.items() if not isinstance(v, Mapping)),
        "processes": result.get("processes"),
        "seconds": result.get("seconds"),
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _evaluated(result: Result) -> dict[str, Any]:
    active = result.get("active_dimensions")
    counted = "unknown"
    if active:
        counted = f"**{active['active']} of {active['dimensions']}** over {active['images']} images"
    first = result["rows"][0]["protocol"]
    model = result["model"]
    return {
        "model": f"{model.get('class', '')} from {model.get('checkpoint') or model.get('factory')}",
        "posterior read by": model.get("posterior_read_by"),
        "active dimensions": counted,
        "normal images": _data(result["normal"]),
        "test images": _data(result["test"]),
        "protocol": "; ".join(f"{k} {v}" for k, v in first.items() if k != "smoothing"),
        **provenance(result),
    }


def _data(data: Result) -> str:
    counted = f", {data['images']} images" if "images" in data else ""
    return f"{data['name']} {_json(data['options'])}{counted}"


def _choice(choice: Result) -> str:
    painted = f"Chosen without test labels, on {choice['painted']} painted normal images, among "
    text = f"{painted}{len(choice['synthetic'])} variants: {choice['name']}"
    text += f" (pixel AUROC {_cell(choice['synthetic'][choice['name']])} on the painted ones)."
    if choice.get("oracle"):
        text += (
            f" The test labels would have chosen {choice['oracle']}: "
            f"{_cell(choice['on_test'][choice['oracle']])} on {choice['test_images']} test images, "
            f"where the chosen one has {_cell(choice['on_test'][choice['name']])}."
        )
    return text


def _flat(value: Result, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            found |= _flat(item, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = item
    return found


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)


def _rows_table(rows: Sequence[Result]) -> str:
    flat = [_flat(row) for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[_short(row.get(name, "")) for name in columns] for row in flat]
    return "\n".join(map(_line, lines))


def _facts_table(facts: Mapping[str, Any]) -> str:
    lines = ["| | |", "|---|---|"]
    lines += [_line([name, _short(value)]) for name, value in facts.items()]
    return "\n".join(lines)


def _short(value: Any) -> str:
    """A value for one cell; a long list of numbers by its ends."""
    if isinstance(value, (list, Mapping)):
        numbers = isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)
        if numbers and len(value) > 12:
            return f"{len(value)} numbers from {_cell(min(value))} to {_cell(max(value))}"
        return _json(value)
    return _cell(value)


def _json(value: Any) -> str:
    return f"`{json.dumps(value)}`" if value else "none"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, float):
        return "" if value is None else str(value)
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(cell: str) -> str:
    cell = cell.replace("|", "\\|").replace("\n", " ")
    return cell if "`" in cell else cell.replace("$", "\\$")


def _replace(app: Sphinx, document: str, source: list[str]) -> None:
    if MARKER.search(source[0]):
        source[0] = page(source[0], document)


def _always_read(app: Sphinx, env: Any, added: Any, changed: Any, removed: Any) -> list[str]:
    """A file that appears changes no page's text, so pages with results are read every time."""
    return [
        name
        for name in env.found_docs
        if MARKER.search(Path(env.doc2path(name)).read_text(encoding="utf-8"))
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the functions of this file with Sphinx."""
    app.connect("source-read", _replace)
    app.connect("env-get-outdated", _always_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
