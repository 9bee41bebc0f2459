"""UCSD pedestrians: does latent attention localize anomalies better than the reconstruction?

Liu et al. 2020 on UCSD Ped1, as quoted in section 4.2 of replication b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from captum_vae.data import UCSD
from captum_vae.data.sample import SampleDataset
from captum_vae.experiments.anomaly import (
    PARTS,
    AnomalySettings,
    AnomalyStudy,
    MeasuredPlace,
    Place,
    choice_table,
    minus,
)
from captum_vae.experiments.anomaly_maps import (
    CHOSEN,
    OURS,
    RECONSTRUCTION,
    SMOOTHED,
    ChoiceNames,
    published_name,
    row_name,
)
from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.judging import best
from captum_vae.experiments.published_figures import published_rows
from captum_vae.experiments.results import Cell, ResultTable
from captum_vae.experiments.specification import Specification
from captum_vae.localization.samples import SampleSubset
from captum_vae.report.estimate import Estimate
from captum_vae.training.building import build_dataset
from captum_vae.training.configuration import DataConfig

LAYERS = {name: f"encoder.{name}" for name in ("conv1", "conv2", "conv3")}
"""The published choices of layer, by name."""

PROTOCOLS = ("all frames, maps up", "anomalous frames, maps up")
SHRUNK = ("all frames, masks down", "anomalous frames, masks down")

UNSCALED = ChoiceNames(
    "ours, unscaled (not blind)",
    "control: ours, unscaled, without latent weights",
    f"{SMOOTHED}, unscaled",
    scales=["none"],
)
"""The choice among maps that are not scaled by location."""

STAND_IN = "rendered scenes"


@dataclass(frozen=True, kw_only=True)
class UCSDSettings(AnomalySettings):
    """What a budget chooses.

    Attributes:
        image_size: (h, w) of the frames.
        rendered_clips: How many clips of rendered scenes there are, in training and in test.
        rendered_frames: Frames per rendered clip.
    """

    image_size: tuple[int, int]
    rendered_clips: int = 12
    rendered_frames: int = 60


SPECIFICATION = Specification.read("ucsd")
SETTINGS = SPECIFICATION.settings(UCSDSettings)


def find_scene(settings: UCSDSettings, data_root: Path | None, seed: int = 0) -> list[Place]:
    """Ped1 where it is complete, else Ped2; rendered scenes without a folder.

    Args:
        settings: They give the frames' size and the size of rendered clips.
        data_root: The folder that holds ``ucsd``.
        seed: Not used: the scenes are the same for every seed.

    Raises:
        FileNotFoundError: The folder has neither.
    """
    size = list(settings.image_size)
    options: dict[str, Any]
    if data_root is None:
        name, dataset, root = STAND_IN, "pedestrians", None
        options = {"clips": settings.rendered_clips, "frames": settings.rendered_frames}
        options["image_size"] = size
    else:
        root = str(data_root / "ucsd")
        subset: Literal["ped1", "ped2"] = "ped1" if _has_training_clips(root, "ped1") else "ped2"
        name, dataset = subset.capitalize(), "ucsd"
        # Test017/142.tif of the original Ped1 does not decode.
        options = {"subset": subset, "image_size": size, "image_channels": 1, "on_error": "skip"}
    training, test = (
        DataConfig(dataset, root, {**options, "split": split}) for split in ("train", "test")
    )
    frames = cast(SampleDataset, build_dataset(test))
    return [Place(name, training, training, frames, name, f"{name}, {settings.model}")]


def _has_training_clips(root: str, subset: Literal["ped1", "ped2"]) -> bool:
    try:
        UCSD(root, subset, "train")
    except (FileNotFoundError, ValueError):
        return False
    return True


def _data(settings: UCSDSettings, parts: Sequence[MeasuredPlace]) -> str:
    (part,) = parts
    frames = part.place.test
    scored = SampleSubset(frames, range(0, len(frames), settings.every))
    found = (scored[index] for index in range(len(scored)))
    clips = {sample.group for sample in found if sample.mask is not None}
    name = part.name if part.name == STAND_IN else f"UCSD {part.name}"
    return (
        f"{name}: trained on {part.training} normal frames, measured on {part.cell['images']} of "
        f"{len(frames)} test frames, evenly spaced, of the {len(clips)} clips with masks"
    )


def _values(settings: UCSDSettings, parts: Sequence[MeasuredPlace]) -> dict[str, Any]:
    (part,) = parts
    return {
        "scene": part.name,
        "published_scene": ""
        if part.name == "Ped1"
        else " The published figures are those of Ped1.",
        "steps": part.steps,
        "epochs": part.steps * settings.batch_size / part.training,
        "chosen": part.chosen[0].variant,
    }


def result_tables(parts: Sequence[MeasuredPlace]) -> list[ResultTable]:
    """The tables of the page."""
    (part,) = parts
    metrics: dict[str, Callable[[str], Cell]] = {"map": lambda name: name, **part.cells()}
    grid: dict[str, Callable[[str], Cell]] = {
        "map": lambda name: name,
        "replication b, Ped1": _replication_b,
    }
    for label in (label for pair in zip(PROTOCOLS, SHRUNK, strict=True) for label in pair):
        grid[label] = partial(_measured_level, part, label)
    return [
        _beside(part),
        SPECIFICATION.table("protocols", part.maps, grid, scene=part.name),
        SPECIFICATION.table("metrics", part.maps, metrics),
        choice_table(SPECIFICATION, {c.names.ours: c for c in part.chosen}),
    ]


class _Line(NamedTuple):
    """A line beside the published figures.

    Attributes:
        title: What it is called.
        layers: The layers of the published figures, of which the highest stands.
        faithful: The map as published.
        ours: The map with a baseline; empty where there is none.
    """

    title: str
    layers: Sequence[str]
    faithful: str
    ours: str


def _beside(part: MeasuredPlace) -> ResultTable:
    lines = [_Line("VAE reconstruction error", ["baseline"], RECONSTRUCTION, "")]
    for layer in LAYERS:
        ours = f"{layer}, method 1, abs, baseline mean activation"
        lines.append(_Line(layer, [layer], best(part, f"best of {layer}"), ours))
    for ours in (CHOSEN, UNSCALED.ours):
        lines.append(_Line(f"best layer; {ours}", [*LAYERS], best(part, "best of all"), ours))

    def paper(line: _Line) -> float | None:
        return _published("paper", line.layers)

    def with_baseline(line: _Line) -> Estimate | None:
        return part.level(line.ours) if line.ours else None

    cells: dict[str, Callable[[_Line], Cell]] = {
        "map": lambda line: line.title,
        "paper, Ped1": paper,
        "replication a, Ped1": lambda line: None,
        "replication b, Ped1": lambda line: _published("replication-b", line.layers),
        f"ours as published, {part.name}": lambda line: part.level(line.faithful),
        "minus paper": lambda line: minus(part.level(line.faithful), paper(line)),
        f"ours with a baseline, {part.name}": with_baseline,
        "minus paper (baseline)": lambda line: minus(with_baseline(line), paper(line)),
    }
    other_scene = (
        ""
        if part.name == "Ped1"
        else f" These are not frames of Ped1 ({part.name} instead), so a difference to the paper "
        "mixes the scene with the method."
    )
    return SPECIFICATION.table("beside", lines, cells, other_scene=other_scene)


def _measured_level(part: MeasuredPlace, label: str, name: str) -> Estimate | None:
    measured = row_name(name, label) in part.cell["rows"]
    return part.level(name, protocol=label) if measured else None


def _published(source: str, layers: Sequence[str], **wanted: str) -> float | None:
    """The highest figure that a source gives for any of the layers; None where it gives none."""
    figures = [
        float(row["pixel_auroc"])
        for layer in layers
        for row in published_rows("ucsd_ped1_auroc", source=source, layer=layer, **wanted)
    ]
    return max(figures, default=None)


def _replication_b(name: str) -> float | None:
    """The second replication's figure of a map; None where it did not measure the map."""
    if name == RECONSTRUCTION:
        return _published("replication-b", ["baseline"])
    layer, *rest = name.split(", ")
    if len(rest) != 2:
        return None
    method, rectifier = rest[0].removeprefix("method "), rest[1]
    return _published("replication-b", [layer], method=method, rectifier=rectifier)


STUDY = AnomalyStudy(
    specification=SPECIFICATION,
    settings=SETTINGS,
    layers=LAYERS,
    published_layers=LAYERS,
    tried_layers=LAYERS,
    tried_methods=("1", "2"),
    protocols=dict(zip(PROTOCOLS, ("with_masks", "anomalous"), strict=True)),
    shrunk=dict(zip(SHRUNK, ("with_masks", "anomalous"), strict=True)),
    choices=(OURS, UNSCALED),
    units="groups",
    batch_size=16,
    examples=(published_name("conv2", "1", "relu"),),
    figure=True,
    shown=4,
    shown_of_each="middle",
    file="ucsd_maps.png",
    stand_in=f"{STAND_IN}, not on UCSD",
    places=find_scene,
    data=_data,
    tables=result_tables,
    values=_values,
    published_images=lambda training: SETTINGS["paper"].epochs * training,
)

EXPERIMENT = Experiment(SPECIFICATION, SETTINGS, STUDY.run, PARTS)
