"""The verdicts on what is claimed about UCSD, and the tables with the published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from captum_vae.experiments.anomaly_maps import (
    CHOSEN,
    METHODS,
    OURS,
    RECONSTRUCTION,
    RECTIFIERS,
    SMOOTHED,
    ChosenMaps,
    ChosenNames,
    published_name,
    row_name,
)
from captum_vae.experiments.localizing import difference, estimate
from captum_vae.experiments.map_comparison import (
    METRIC_COLUMNS,
    choice_table,
    metric_row,
    minus,
)
from captum_vae.experiments.published_figures import published_number
from captum_vae.experiments.results import Cell, ResultTable
from captum_vae.experiments.verdicts import (
    Estimate,
    Verdict,
    all_of,
    apart,
    best_of,
    exceeds,
    is_positive,
    negated,
    not_testable,
)

LAYERS = {name: f"encoder.{name}" for name in ("conv1", "conv2", "conv3")}
"""The published choices of layer, by name."""

ALL_FRAMES, ANOMALOUS = "all frames", "anomalous frames"
MAPS_UP, MASKS_DOWN = "maps up", "masks down"
FIGURE_MAP = published_name("conv2", "1", "relu")

UNSCALED = ChosenNames(
    "ours, unscaled (not blind)",
    "control: ours, unscaled, without latent weights",
    f"{SMOOTHED}, unscaled",
)
"""The choice among maps that are not scaled by location."""

_TABLE = "ucsd_ped1_auroc"


def label(frames: str, size: str = MAPS_UP) -> str:
    """The protocol's name in the tables."""
    return f"{frames}, {size}"


PRIMARY = label(ALL_FRAMES)
"""The protocol of the verdicts."""


def _variants(layer: str) -> list[str]:
    return [published_name(layer, m, r) for m in METHODS for r in RECTIFIERS]


def _primary(first: str, second: str) -> tuple[str, str]:
    return row_name(first, PRIMARY), row_name(second, PRIMARY)


_PUBLISHED = [name for layer in LAYERS for name in _variants(layer)]
_BY_METHOD = [
    tuple(published_name(layer, method, rectifier) for method in METHODS)
    for layer in LAYERS
    for rectifier in RECTIFIERS
]
PAIRS: list[tuple[str, str]] = [
    _primary(first, second)
    for first, second in [
        *((name, RECONSTRUCTION) for name in _PUBLISHED),
        *(
            (a, b)
            for layer in ("conv1", "conv3")
            for a in _variants("conv2")
            for b in _variants(layer)
        ),
        *_BY_METHOD,
        *OURS.pairs,
        *UNSCALED.pairs,
    ]
]
"""The paired tests that the verdicts may need."""


def verdicts(cell: Mapping[str, Any], scene: str) -> dict[str, Verdict]:
    """A verdict per claim, from the numbers under :data:`PRIMARY` and their intervals.

    Where the sources do not say which method and rectifier they mean, it is the one that does best
    on the test labels: a choice in their favour.

    Args:
        cell: of ``localizing.measured`` with :data:`PAIRS`.
        scene: measured on; the paper's figure can be tested on Ped1 alone.
    """
    best = _best(cell, _PUBLISHED)
    layer_best = {layer: _best(cell, _variants(layer)) for layer in LAYERS}
    paper = _published("paper", "conv2")
    assert paper is not None
    figure = exceeds(
        estimate(cell, row_name(layer_best["conv2"], PRIMARY)),
        paper,
        what=f"on {scene}, {layer_best['conv2']}, pixel AUROC",
        than="the paper on Ped1",
    )
    found = {
        "attention_beats_reconstruction": _above(cell, best, RECONSTRUCTION, scene),
        "conv2_is_best": all_of(
            [_above(cell, layer_best["conv2"], layer_best[x], scene) for x in ("conv1", "conv3")]
        ),
        "attention_below_reconstruction": _above(cell, best, RECONSTRUCTION, scene, below=True),
        "method_1_above_method_2": all_of(
            [_above(cell, first, second, scene) for first, second in _BY_METHOD]
        ),
        "masks_down_scores_higher": _masks_down(cell, scene),
        "ours_beats_reconstruction": _above(cell, *OURS.pairs[0], scene),
        "ours_beats_mean_image": _above(cell, *OURS.pairs[1], scene),
        "weights_beat_control": _above(cell, *OURS.pairs[2], scene),
        "unscaled_beats_reconstruction": _above(cell, *UNSCALED.pairs[0], scene),
        "unscaled_beats_control": _above(cell, *UNSCALED.pairs[2], scene),
    }
    if scene != "Ped1":
        figure = not_testable(figure, f"measured on {scene}, another scene than Ped1")
    return {**found, "paper_figure": figure}


def result_tables(
    cell: Mapping[str, Any], scene: str, maps: Sequence[str], chosen: Sequence[ChosenMaps]
) -> list[ResultTable]:
    """The tables of the page.

    Args:
        cell: of ``localizing.measured``.
        scene: measured on.
        maps: names, in order.
        chosen: ours.
    """
    choices = choice_table([(c.names.ours, c) for c in chosen])
    return [_beside(cell, scene), _grid(cell, scene, maps), _metrics(cell, maps), choices]


def _beside(cell: Mapping[str, Any], scene: str) -> ResultTable:
    rows = [
        _beside_row(
            "VAE reconstruction error",
            _published("paper", "baseline"),
            _published("replication-b", "baseline"),
            _at(cell, RECONSTRUCTION),
        )
    ]
    for layer in LAYERS:
        faithful = _at(cell, _best(cell, _variants(layer)))
        ours = _at(cell, f"{layer}, method 1, abs, baseline mean activation")
        paper = _published("paper", layer)
        rows.append(_beside_row(layer, paper, _replication_b_best(layer), faithful, ours))
    paper = _highest([_published("paper", layer) for layer in LAYERS])
    theirs = _highest([_replication_b_best(layer) for layer in LAYERS])
    faithful = _at(cell, _best(cell, _PUBLISHED))
    for name in (CHOSEN, UNSCALED.ours):
        rows.append(_beside_row(f"best layer; {name}", paper, theirs, faithful, _at(cell, name)))
    return ResultTable(
        "beside",
        "Pixel AUROC beside the published figures",
        [
            "map",
            "paper, Ped1",
            "replication a, Ped1",
            "replication b, Ped1",
            f"ours as published, {scene}",
            "minus paper",
            f"ours with a baseline, {scene}",
            "minus paper (baseline)",
        ],
        rows,
        "Of each layer, replication b and ours as published show the best of both methods and "
        "both rectifiers, since the paper does not say which it took. Ours with a baseline is "
        "method 1, abs, times the distance to the mean activation; the last two lines are variants "
        "chosen on synthetic defects, with their smoothing. Replication a reports that attention "
        "did worse than its own baseline, without figures."
        + (
            ""
            if scene == "Ped1"
            else f" These are not frames of Ped1 ({scene} instead), so a difference to the paper "
            "mixes the scene with the method."
        ),
    )


def _beside_row(
    name: str,
    paper: float | None,
    replication_b: float | None,
    faithful: Estimate,
    ours: Estimate | None = None,
) -> list[Cell]:
    return [
        name,
        paper,
        None,
        replication_b,
        faithful,
        minus(faithful, paper),
        ours,
        None if ours is None else minus(ours, paper),
    ]


def _grid(cell: Mapping[str, Any], scene: str, maps: Sequence[str]) -> ResultTable:
    labels = [label(f, s) for f in (ALL_FRAMES, ANOMALOUS) for s in (MAPS_UP, MASKS_DOWN)]
    rows: list[list[Cell]] = []
    for name in maps:
        found: list[Cell] = [
            estimate(cell, row_name(name, x)) if row_name(name, x) in cell["rows"] else None
            for x in labels
        ]
        rows.append([name, _replication_b(name), *found])
    return ResultTable(
        "protocols",
        f"Pixel AUROC of every map under every protocol, {scene}",
        ["map", "replication b, Ped1", *labels],
        rows,
        "Brackets are 95% bootstrap intervals over clips.",
    )


def _metrics(cell: Mapping[str, Any], maps: Sequence[str]) -> ResultTable:
    return ResultTable(
        "metrics",
        f"All metrics: {PRIMARY}",
        ["map", *METRIC_COLUMNS],
        [[name, *metric_row(cell, row_name(name, PRIMARY))] for name in maps],
        "The best IoU is that of the best threshold on the test labels.",
    )


def _above(
    cell: Mapping[str, Any], first: str, second: str, scene: str, *, below: bool = False
) -> Verdict:
    found = difference(cell, *_primary(first, second))
    names = (first, second)
    if below:
        found, names = negated(found), (second, first)
    return is_positive(found, what=f"on {scene}, pixel AUROC of {names[0]} minus {names[1]}")


def _masks_down(cell: Mapping[str, Any], scene: str) -> Verdict:
    """On all published maps; what would be a sentence per map is summed up."""
    gains = []
    for name in _PUBLISHED:
        down, up = (
            estimate(cell, row_name(name, label(ALL_FRAMES, x))) for x in (MASKS_DOWN, MAPS_UP)
        )
        gains.append(apart(down, up))
    outcome = all_of([is_positive(gain, what="gain") for gain in gains]).outcome
    values = [gain.value for gain in gains if gain.value is not None]
    if not values:
        return Verdict(outcome, "pixel AUROC is undefined")
    higher = sum(value > 0 for value in values)
    return Verdict(
        outcome,
        f"on {scene}, masks down score higher with {higher} of {len(values)} published maps, by "
        f"{min(values):+.3f} to {max(values):+.3f} pixel AUROC; the intervals are those of the two "
        "scores, since no paired test exists between masks of two sizes",
    )


def _at(cell: Mapping[str, Any], name: str) -> Estimate:
    return estimate(cell, row_name(name, PRIMARY))


def _best(cell: Mapping[str, Any], names: Sequence[str]) -> str:
    return best_of({name: _at(cell, name) for name in names})


def _published(source: str, layer: str) -> float | None:
    return published_number(_TABLE, "pixel_auroc", source=source, layer=layer)


def _replication_b(name: str) -> float | None:
    if name == RECONSTRUCTION:
        return _published("replication-b", "baseline")
    for layer in LAYERS:
        for method in METHODS:
            for rectifier in RECTIFIERS:
                if name == published_name(layer, method, rectifier):
                    return published_number(
                        _TABLE,
                        "pixel_auroc",
                        source="replication-b",
                        layer=layer,
                        method=method,
                        rectifier=rectifier,
                    )
    return None


def _replication_b_best(layer: str) -> float | None:
    return _highest([_replication_b(name) for name in _variants(layer)])


def _highest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
