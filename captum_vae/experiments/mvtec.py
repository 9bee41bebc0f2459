"""MVTec AD: how well does latent attention of a ResNet18 VAE localize defects?

Liu et al. 2020, as quoted in section 4.3 of replication b; replication a's public code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from captum_vae.data import MVTec, SyntheticDefects, mvtec_categories
from captum_vae.data.augment import Padding
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
    RECONSTRUCTION,
    RECTIFIERS,
    published_name,
)
from captum_vae.experiments.experiment import Experiment
from captum_vae.experiments.judging import best
from captum_vae.experiments.measured_maps import METRICS
from captum_vae.experiments.published_figures import published_number
from captum_vae.experiments.results import Cell, ResultTable
from captum_vae.experiments.specification import Specification
from captum_vae.report.estimate import Estimate
from captum_vae.training.building import build_dataset
from captum_vae.training.configuration import DataConfig

PUBLISHED_LAYERS = {
    "layer2.1.conv1": "encoder.backbone.layer2.1.conv1",
    "layer4.1.conv2": "encoder.backbone.layer4.1.conv2",
}
"""Replication a's choice, and the last convolution, replication b's."""

LAST = "layer4.1.conv2"

LAYERS = {**PUBLISHED_LAYERS, "layer3": "encoder.backbone.layer3"}

ALL_IMAGES, DEFECTIVE = "all images", "images with a defect"

BesideMetric = Literal["auroc", "best_iou"]
_COLUMNS: dict[BesideMetric, str] = {"auroc": "pixel_auroc", "best_iou": "best_iou"}
_WORDS: dict[BesideMetric, str] = {"auroc": "pixel AUROC", "best_iou": "best IoU"}


@dataclass(frozen=True, kw_only=True)
class MVTecSettings(AnomalySettings):
    """What a budget chooses.

    Attributes:
        image_size: Height and width of the images, in pixels.
        augmented: Images in the augmented training set.
        rotation: The largest angle in degrees.
        mirror: The probability of a mirror image.
        padding: What fills the corners of rotated images.
        twice: The category that is trained with both paddings, black and corner.
        rendered: How many images of a rendered texture there are, in training and in test.
        categories: The categories to train on; empty for all that are at hand.
    """

    image_size: int
    augmented: int
    rotation: float = 30.0
    mirror: float = 0.5
    padding: Padding = "black"
    twice: str = "leather"
    rendered: int = 24
    categories: tuple[str, ...] = ()


SPECIFICATION = Specification.read("mvtec")
SETTINGS = SPECIFICATION.settings(MVTecSettings)


def find_categories(settings: MVTecSettings, data_root: Path | None, seed: int) -> list[Place]:
    """Every category below the folder, or two rendered textures; one of them trained twice.

    Args:
        settings: They give the images' size, the number of rendered ones and the augmentation.
        data_root: The folder that holds ``mvtec_ad``; None for rendered textures.
        seed: The seed of the defects painted on rendered textures.

    Raises:
        FileNotFoundError: There is no such folder, or no category in it.
        ValueError: The settings name a category that is not there.
    """
    if data_root is None:
        names = _wanted(settings, ("grain", "weave"), "the rendered textures")
        found = [_rendered(texture, settings, seed) for texture in names]
    else:
        root = data_root / "mvtec_ad"
        names = mvtec_categories(root)
        if not names:
            raise FileNotFoundError(
                f"{root} holds no category of MVTec AD: no folder with train/good"
            )
        names = _wanted(settings, names, str(root))
        options = {"image_size": settings.image_size, "image_channels": 3}
        found = [
            _place(
                name,
                settings,
                DataConfig("mvtec", str(root), {**options, "category": name}),
                MVTec(root, name, "test", image_size=settings.image_size, image_channels=3),
            )
            for name in names
        ]
    other: Padding = "corner" if settings.padding == "black" else "black"
    otherwise = replace(settings, padding=other)
    twice = [
        _place(place.name, otherwise, place.normal, place.test)
        for place in found
        if place.name == settings.twice
    ]
    return [*found, *twice]


def _wanted(settings: MVTecSettings, names: Sequence[str], where: str) -> list[str]:
    """The categories that the settings name, of those that there are; all where they name none."""
    missing = [name for name in settings.categories if name not in names]
    if missing:
        raise ValueError(
            f"category is {', '.join(missing)}, which {where} does not hold; wanted some of "
            f"{', '.join(names)}"
        )
    return [name for name in names if not settings.categories or name in settings.categories]


def _place(name: str, settings: MVTecSettings, normal: DataConfig, test: SampleDataset) -> Place:
    augment = {
        "length": settings.augmented,
        "rotation": settings.rotation,
        "mirror": settings.mirror,
        "padding": settings.padding,
    }
    title = f"{name}, corners {settings.padding}"
    training = replace(normal, augment=augment)
    return Place(name, training, normal, test, title, title, variant=settings.padding)


def _rendered(texture: str, settings: MVTecSettings, seed: int) -> Place:
    name = "captum_vae.experiments.mvtec_rendered:RenderedTexture"
    options = {
        "texture": texture,
        "length": settings.rendered,
        "image_size": settings.image_size,
    }
    shown = build_dataset(DataConfig(name, options={**options, "split": "test"}))
    test = SyntheticDefects(cast(SampleDataset, shown), defect_rate=0.75, seed=seed)
    normal = DataConfig(name, options={**options, "split": "train"})
    return _place(texture, settings, normal, test)


def _data(settings: MVTecSettings, parts: Sequence[MeasuredPlace]) -> str:
    found = [part for part in parts if part.variant == settings.padding]
    name = "MVTec AD" if found[0].place.normal.root else "rendered textures"
    counts = [f"{c.name}: {c.training} training, {len(c.place.test)} test images" for c in found]
    return f"{name} ({'; '.join(counts)})"


def _values(settings: MVTecSettings, parts: Sequence[MeasuredPlace]) -> dict[str, Any]:
    return {
        "steps": parts[0].steps,
        "epochs": parts[0].steps * settings.batch_size / settings.augmented,
        "chosen": "; ".join(
            f"{part.name}: {part.chosen[0].variant}"
            for part in parts
            if part.variant == settings.padding
        ),
    }


def result_tables(parts: Sequence[MeasuredPlace]) -> list[ResultTable]:
    """The tables of the page."""
    found = [part for part in parts if part.variant == parts[0].variant]
    maps: dict[str, Callable[[tuple[MeasuredPlace, str]], Cell]] = {
        "category": lambda row: row[0].name,
        "map": lambda row: row[1],
        **{title: partial(_level, metric, ALL_IMAGES) for metric, title in METRICS.items()},
        f"pixel AUROC, {DEFECTIVE}": partial(_level, "auroc", DEFECTIVE),
    }
    return [
        like_for_like(parts),
        _beside(found, "auroc"),
        _beside(found, "best_iou"),
        SPECIFICATION.table("maps", [(part, name) for part in found for name in part.maps], maps),
        *(
            _paddings(first, second)
            for second in parts
            for first in found
            if first.name == second.name and first is not second
        ),
        choice_table(SPECIFICATION, {part.name: part.chosen[0] for part in found}),
    ]


def _level(metric: str, images: str, row: tuple[MeasuredPlace, str]) -> Estimate:
    part, name = row
    return part.level(name, metric, images)


def _beside(found: Sequence[MeasuredPlace], metric: BesideMetric) -> ResultTable:
    def published(source: str, part: MeasuredPlace, rectifier: str = "") -> float | None:
        wanted = {"source": source, "category": part.name, "rectifier": rectifier}
        return published_number("mvtec_ad", _COLUMNS[metric], **wanted)

    def as_published(part: MeasuredPlace) -> str:
        return best(part, "best of all", metric, DEFECTIVE)

    def level(part: MeasuredPlace, name: str) -> Estimate:
        return part.level(name, metric, DEFECTIVE)

    def minus_paper(part: MeasuredPlace, name: str) -> float | None:
        return minus(level(part, name), published("paper", part))

    cells: dict[str, Callable[[MeasuredPlace], Cell]] = {
        "category": lambda part: part.name,
        "paper": lambda part: published("paper", part),
        "replication a": lambda part: None,
        "replication b, relu": lambda part: published("replication-b", part, "relu"),
        "replication b, abs": lambda part: published("replication-b", part, "abs"),
        "ours, reconstruction error": lambda part: level(part, RECONSTRUCTION),
        "best published map": as_published,
        "ours as published": lambda part: level(part, as_published(part)),
        "minus paper": lambda part: minus_paper(part, as_published(part)),
        "ours, chosen without labels": lambda part: level(part, CHOSEN),
        "minus paper (chosen)": lambda part: minus_paper(part, CHOSEN),
    }
    return SPECIFICATION.table(metric, found, cells)


def like_for_like(parts: Sequence[MeasuredPlace]) -> ResultTable:
    """Method 2 at the last convolution, as replication b took them, beside its two columns.

    Its leather was trained on images whose corners were filled with their own colour, all others
    on black corners; ours is that of the run on the same corners.
    """
    wanted = [part for part in parts if part.variant == _padding_of_b(part.name)]

    def published(metric: BesideMetric, rectifier: str, part: MeasuredPlace) -> float | None:
        return published_number(
            "mvtec_ad",
            _COLUMNS[metric],
            source="replication-b",
            category=part.name,
            rectifier=rectifier,
        )

    def ours(metric: BesideMetric, rectifier: str, part: MeasuredPlace) -> Estimate:
        return part.level(published_name(LAST, "2", rectifier), metric, DEFECTIVE)

    cells: dict[str, Callable[[MeasuredPlace], Cell]] = {
        "category": lambda part: part.name,
        "corners": lambda part: part.variant,
    }
    for metric, words in _WORDS.items():
        for rectifier in RECTIFIERS:
            cells[f"replication b, {words}, {rectifier}"] = partial(published, metric, rectifier)
            cells[f"ours, {words}, {rectifier}"] = partial(ours, metric, rectifier)
    return SPECIFICATION.table("like_for_like", wanted, cells)


def _padding_of_b(category: str) -> Padding:
    return "corner" if category == "leather" else "black"


def _paddings(first: MeasuredPlace, second: MeasuredPlace) -> ResultTable:
    cells: dict[str, Callable[[str], Cell]] = {"map": lambda name: name}
    for metric, words in _WORDS.items():
        for part in (first, second):
            cells[f"{words}, {part.variant}"] = partial(part.level, quantity=metric)
    return SPECIFICATION.table("padding", first.maps, cells, category=first.name)


STUDY = AnomalyStudy(
    specification=SPECIFICATION,
    settings=SETTINGS,
    layers=LAYERS,
    published_layers=PUBLISHED_LAYERS,
    tried_layers={LAST: PUBLISHED_LAYERS[LAST]},
    tried_methods=("2",),
    protocols={ALL_IMAGES: "with_masks", DEFECTIVE: "anomalous"},
    units="images",
    batch_size=8,
    examples=tuple(published_name(LAST, "2", rectifier) for rectifier in RECTIFIERS),
    shown=3,
    file="mvtec_{place}.png",
    stand_in="rendered textures, not on MVTec AD",
    places=find_categories,
    data=_data,
    tables=result_tables,
    values=_values,
    published_images=lambda training: SETTINGS["paper"].epochs * SETTINGS["paper"].augmented,
)

EXPERIMENT = Experiment(SPECIFICATION, SETTINGS, STUDY.run, {**PARTS, "category": "categories"})
