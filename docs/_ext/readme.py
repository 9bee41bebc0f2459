"""The README's tables, made from ``docs/results/*.json``.

    python docs/_ext/readme.py

rewrites README.md between its markers. Its tests say so when that is due.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import results
from results import Result, speed_summary

from captum_vae.experiments.results import THIS_PACKAGE

README = results.DOCS.parent / "README.md"
OURS = "latent attention (chosen without labels)"
CONTROL = "control: the chosen, without latent weights"
OTHERS = {
    CONTROL: "same without latent weights",
    "reconstruction error": "reconstruction error",
    "mean image": "mean image",
}
PUBLISHED = "as published"
DEFAULT = "chosen without labels"
DEFAULT_MAP = "unexplained features, L2"
BESIDE = {
    "control: feature difference": "feature difference",
    "latent attention": "latent attention",
    "control: latent attention, weights shuffled": "its weights shuffled",
    "floor: constant map": "constant map",
    "Mahalanobis": "Mahalanobis",
    "PaDiM": "PaDiM",
    "PatchCore": "PatchCore",
}
"""Lines of the evaluations of frozen features, in the order of the table's columns."""
FEATURES = "features_"
DATA = {
    "bottle": "MVTec AD bottle",
    "hazelnut": "MVTec AD hazelnut",
    "transistor": "MVTec AD transistor",
    "magnetic_tile": "magnetic tile",
    "ped2": "UCSD Ped2",
}
"""Names of the localization files' data, in the table's order."""
VERDICTS = ("confirmed", "refuted", "undecided", "not testable here")


def tables() -> dict[str, str]:
    """The table for each pair of markers."""
    evaluations = dict(stored("localization"))
    frozen = {
        name.removeprefix(FEATURES): evaluations.pop(name)
        for name in list(evaluations)
        if name.startswith(FEATURES)
    }
    return {
        "speed": speed_summary.table([dict(run) for _, run in stored("speed")]),
        "features": features(frozen, dict(stored("cost")).get("features")),
        "localization": localization(evaluations),
        "reproduced": reproduced(dict(stored("reproduce"))),
    }


def stored(kind: str) -> Iterator[tuple[str, Result]]:
    """The files of a kind, by what their names say besides: (``bottle``, its content)."""
    for path in sorted(results.RESULTS.glob(f"{kind}_*.json")):
        name = path.stem.removeprefix(f"{kind}_")
        yield name, json.loads(path.read_text(encoding="utf-8"))


def localization(evaluations: Mapping[str, Result]) -> str:
    """Pixel AUROC, a line per data set; a star where a paired test tells the cell from ours."""
    titles = ["data", "test images", "chosen without labels", *OTHERS.values(), "as published"]
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1)]
    for name, evaluation in in_order(evaluations):
        rows = {row["name"]: row for row in evaluation["rows"]}
        link = f"[{DATA.get(name, name)}](docs/results/localization_{name}.json)"
        cells = [link, _units(evaluation), str(results.estimate(rows[OURS], "auroc"))]
        for other in [*OTHERS, best_published(rows)]:
            star = "*" if difference(evaluation, other)["sign"] else ""
            value, _, interval = str(results.estimate(rows[other], "auroc")).partition(" ")
            cells.append(f"{value}{star} {interval}")
        lines.append(cells)
    return results.unbroken(_markdown(lines))


def features(evaluations: Mapping[str, Result], cost: Result | None) -> str:
    """Pixel AUROC and AUPRO on frozen features; a star where a paired test tells from ours.

    Args:
        evaluations: The evaluations by data set.
        cost: What the maps cost, for a last line; None leaves it out.
    """
    titles = ["data", "test images", "chosen without labels", *BESIDE.values()]
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1)]
    for name, evaluation in in_order(evaluations):
        rows = {row["name"]: row for row in evaluation["rows"]}
        link = f"[{DATA.get(name, name)}](docs/results/localization_{FEATURES}{name}.json)"
        ours = [str(results.estimate(rows[DEFAULT], metric)) for metric in ("auroc", "aupro")]
        cells = [link, _units(evaluation), " / ".join(ours)]
        for other in BESIDE:
            values = []
            for metric, tests in (("auroc", "differences"), ("aupro", "aupro_differences")):
                value = str(results.estimate(rows[other], metric)).partition(" ")[0]
                told = sign(evaluation[tests][f"{DEFAULT} - {other}"])
                values.append(value + ("*" if told else ""))
            cells.append(" / ".join(values))
        lines.append(cells)
    if cost is not None:
        spent = {row["map"]: f"{row['CPU ms per image']:.1f}" for row in cost["rows"]}
        attention = spent["latent attention"]
        spent["control: latent attention, weights shuffled"] = attention
        named = [spent[name] for name in (DEFAULT_MAP, *BESIDE)]
        lines.append(["[CPU ms per image](docs/results/cost_features.json)", "", *named])
    return results.unbroken(_markdown(lines))


def reproduced(experiments: Mapping[str, Result]) -> str:
    """What becomes of the published claims and of ours, a line per experiment."""
    titles = ["experiment", "scale", "of the published training", "published claims", "our claims"]
    lines = [titles, ["---", "---", "---:", "---", "---"]]
    for name, experiment in experiments.items():
        ours: list[str] = []
        published: list[str] = []
        for claim in experiment["claims"]:
            (ours if claim["source"] == THIS_PACKAGE else published).append(claim["verdict"])
        link = f"[{experiment['title']}](docs/results/reproduce_{name}.json)"
        share = _percent(experiment.get("training_share"))
        lines.append([link, experiment["scale"], share, counted(published), counted(ours)])
    return _markdown(lines)


def counted(verdicts: Sequence[str]) -> str:
    """How often each verdict occurs, in words: ``1 confirmed, 2 refuted``."""
    counts = [(verdicts.count(verdict), verdict) for verdict in VERDICTS]
    return ", ".join(f"{count} {verdict}" for count, verdict in counts if count) or "–"


def best_published(rows: Mapping[str, Result]) -> str:
    """Of the maps as published, the one with the highest pixel AUROC on the test images."""
    names = [name for name in rows if name.startswith(PUBLISHED)]
    return max(names, key=lambda name: float(rows[name]["scores"]["auroc"]["value"]))


def difference(evaluation: Result, other: str) -> dict[str, Any]:
    """The paired test of ours minus another row.

    Returns:
        ``low`` and ``high`` of the difference's interval and its ``sign``: 1 where ours is better,
        -1 where it is worse, 0 where the interval holds zero.
    """
    test = evaluation["differences"][f"{OURS} - {other}"]
    return {**test, "sign": sign(test)}


def sign(test: Result) -> int:
    """1 or -1 where a paired test's interval lies on one side of zero; 0 where it has none."""
    return 0 if test["low"] is None else (test["low"] > 0) - (test["high"] < 0)


def in_order(evaluations: Mapping[str, Result]) -> Iterator[tuple[str, Result]]:
    """Evaluations by the names of their data, in the order of the tables' lines."""
    for name in [*filter(evaluations.__contains__, DATA), *sorted(evaluations.keys() - DATA)]:
        yield name, evaluations[name]


def main() -> None:
    """Rewrite the README."""
    text = README.read_text(encoding="utf-8")
    for name, content in tables().items():
        markers = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        text = speed_summary.between_markers(text, content, *markers)
    README.write_text(text, encoding="utf-8")


def _units(evaluation: Result) -> str:
    """How many test images there are, and of how many clips they are where those were resampled."""
    images = evaluation["rows"][0]["images"]
    units = next(iter(evaluation["differences"].values()))["units"]
    return str(images) if units == images else f"{images} in {units} clips"


def _percent(share: float | None) -> str:
    """``0.25%``; a dash where a file does not say."""
    return "–" if share is None else f"{100 * share:.3g}%"


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
