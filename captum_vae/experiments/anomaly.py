"""Anomaly experiments: one design, of which UCSD and MVTec AD are two values.

A VAE is trained on normal images; every map is measured under every protocol in one pass over the
test images; the claims are judged by the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torch import nn

from captum_vae.checks import check_choice, whole_number
from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.experiments.anomaly_maps import (
    METHODS,
    OURS,
    RECTIFIERS,
    SMOOTHED,
    AnomalyMap,
    ChoiceNames,
    ChosenMaps,
    baseline_maps,
    choose_maps,
    pixel_maps,
    published_maps,
    published_name,
    row_name,
    tried_maps,
)
from captum_vae.experiments.judging import compared, judge
from captum_vae.experiments.map_figures import draw_examples, draw_layers
from captum_vae.experiments.measured_maps import METRICS, MeasuredMaps, measured
from captum_vae.experiments.results import Cell, Findings, Illustration, ResultTable
from captum_vae.experiments.specification import Budget, Specification
from captum_vae.experiments.training_variant import OBJECTIVES, TrainingVariant
from captum_vae.experiments.verdicts import doubted
from captum_vae.experiments.work import Training, Work, check_epochs, steps_of
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.model_pass import ModelPass
from captum_vae.localization.options import Frames, ScoreScale
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.samples import SampleSubset, evenly_spaced
from captum_vae.localization.scorer import Scorer
from captum_vae.metrics.localization.pixel_counts import Units
from captum_vae.posterior import as_adapter
from captum_vae.progress import stage
from captum_vae.report.estimate import Estimate
from captum_vae.training.building import build_dataset
from captum_vae.training.configuration import DataConfig, ModelConfig, ObjectiveConfig, Precision
from captum_vae.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class AnomalySettings:
    """What a budget chooses in every anomaly experiment.

    Attributes:
        model: The name of the VAE.
        options: The VAE's arguments.
        training: The loss and the initialisation, ``published`` or ``ours``; see
            :data:`~captum_vae.experiments.training_variant.OBJECTIVES`.
        steps: Optimizer steps of each training; 0 trains for ``epochs``.
        epochs: Passes over the training images, augmented ones included.
        warmup_steps: Steps over which the KL's weight climbs, in the variant ``ours``.
        batch_size: Images per step.
        learning_rate: The learning rate of Adam.
        precision: The precision of the training.
        every: Every n-th test image is scored.
        normal_images: How many training images scorers are fitted on.
        painted: How many training images synthetic defects are painted on.
        smoothing: The sigmas to choose from, in pixels of the mask.
        scales: The scales of the maps to choose from.
        resamples: Resamples of the bootstrap.
        workers: Processes that load the training images; they do not change the result.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.
    """

    model: str
    options: Mapping[str, Any]
    training: TrainingVariant = "ours"
    steps: int
    epochs: float = 0
    warmup_steps: int
    batch_size: int
    learning_rate: float
    precision: Precision = "float32"
    every: int = 1
    normal_images: int
    painted: int
    smoothing: tuple[float, ...]
    scales: tuple[ScoreScale, ...] = ("none", "location")
    resamples: int = 1000
    workers: int = 0

    def __post_init__(self) -> None:
        """Check what a command line may replace."""
        check_choice("training", self.training, get_args(TrainingVariant))
        whole_number("workers", self.workers, least=0)
        check_epochs(self.epochs, self.steps)

    def objective(self) -> ObjectiveConfig:
        """What a VAE is trained to minimise."""
        return OBJECTIVES[self.training].objective(self.learning_rate, self.warmup_steps)


@dataclass(frozen=True)
class Place:
    """What one VAE is trained and measured on: a scene, or a category of objects.

    Attributes:
        name: What it is called in tables and verdicts.
        training: The images that the VAE is trained on.
        normal: The same images without augmentation.
        test: The images with masks.
        title: What is measured, in words.
        training_title: What the training is called.
        variant: How the VAE is trained, where it is trained in several ways; else empty.
    """

    name: str
    training: DataConfig
    normal: DataConfig
    test: SampleDataset
    title: str
    training_title: str
    variant: str = ""

    @property
    def cell(self) -> str:
        """What its cells are called among the stored ones."""
        return "-".join(filter(None, (self.name, self.variant))).replace(" ", "_")


@dataclass(frozen=True, kw_only=True)
class MeasuredPlace(MeasuredMaps):
    """A place with what was measured there.

    Attributes:
        place: The place.
        chosen: What was chosen without labels.
        maps: The names of all maps, in the order of the tables.
        training: The number of normal training images.
        steps: The optimizer steps of the training.
    """

    place: Place
    chosen: Sequence[ChosenMaps]
    maps: Sequence[str]
    training: int
    steps: int

    def cells(self) -> dict[str, Callable[[str], Cell]]:
        """The columns of a map's metrics under the protocol of the verdicts, by their titles."""
        return {title: partial(self.level, quantity=metric) for metric, title in METRICS.items()}


@dataclass(frozen=True)
class AnomalyStudy:
    """What sets one anomaly experiment apart from another.

    Attributes:
        specification: The claims and the words of the page.
        settings: The settings per budget, which may have attributes of the experiment's own.
        layers: The layers of the maps with a baseline, by their names in the tables.
        published_layers: The layers of the maps as published.
        protocols: The frames of each protocol by its label; the first is that of the verdicts.
        shrunk: The same of protocols under which masks are shrunk to the features' size.
        choices: What is chosen without labels.
        units: What intervals resample.
        batch_size: Images per pass of a measurement.
        tried_layers: The layers of the maps that replication b tried besides.
        tried_methods: The methods of those maps.
        examples: The published maps that are drawn.
        figure: Whether all layers and methods are drawn besides, as in replication b's Figure 3.
        shown: How many test images are drawn, each of another clip or kind of defect.
        shown_of_each: Which image of a clip or kind of defect is drawn.
        file: The name of the picture, a template that may hold ``{place}``.
        stand_in: What is measured on where no data are at hand, in words.
        places: What there is to train and measure on, from the settings, the folder of data sets
            and the seed. Places of another variant than the first only serve the comparison.
        data: What was measured on, in words.
        tables: The tables of the page.
        values: What the templates of protocol and charts hold.
        published_images: Images seen in training as published, from the number of training images.
    """

    specification: Specification
    settings: Mapping[Budget, AnomalySettings]
    layers: Mapping[str, str]
    published_layers: Mapping[str, str]
    protocols: Mapping[str, Frames]
    units: Units
    batch_size: int
    tried_layers: Mapping[str, str]
    tried_methods: Sequence[str]
    examples: Sequence[str]
    shown: int
    file: str
    stand_in: str
    places: Callable[[Any, Path | None, int], list[Place]]
    data: Callable[[Any, Sequence[MeasuredPlace]], str]
    tables: Callable[[Sequence[MeasuredPlace]], list[ResultTable]]
    values: Callable[[Any, Sequence[MeasuredPlace]], dict[str, Any]]
    published_images: Callable[[int], float]
    shrunk: Mapping[str, Frames] = field(default_factory=dict)
    choices: Sequence[ChoiceNames] = (OURS,)
    shown_of_each: Literal["first", "middle"] = "first"
    figure: bool = False

    def run(
        self, settings: AnomalySettings, data_root: Path | None, work: Work
    ) -> Iterator[Findings]:
        """Train a VAE per place, measure every map there, and judge the claims after each."""
        places = self.places(settings, data_root, work.seed)
        trainings = [self._training(settings, place) for place in places]
        work.announce(trainings)
        parts: list[MeasuredPlace] = []
        figures: list[Illustration] = []
        for place, planned in zip(places, trainings, strict=True):
            part, draw = self._measured(settings, place, planned, work)
            parts.append(part)
            if part.variant == parts[0].variant:
                figures += draw()
            yield self._findings(settings, data_root, parts, figures, len(places), work)

    def _findings(
        self,
        settings: AnomalySettings,
        data_root: Path | None,
        parts: Sequence[MeasuredPlace],
        figures: Sequence[Illustration],
        planned: int,
        work: Work,
    ) -> Findings:
        share = min(
            part.steps * settings.batch_size / self.published_images(part.training)
            for part in parts
        )
        doubts = work.doubts(rendered=self.stand_in if data_root is None else "", share=share)
        training = OBJECTIVES[settings.training].words.format(s=settings)
        values = {
            "s": settings,
            "paper": self.settings["paper"],
            "loss": training,
            "other_training": "; ".join(
                f"--training {name}: {other.words.format(s=settings)}"
                for name, other in OBJECTIVES.items()
            ),
            **self.values(settings, parts),
        }
        return Findings(
            data=self.data(settings, parts),
            verdicts=doubted(judge(self.specification, parts), doubts),
            tables=self.tables(parts),
            figures=[*figures],
            protocol=self.specification.protocol_words(**values),
            charts=self.specification.drawn(**values),
            training_share=share,
            training=training,
            doubts=doubts,
            finished=(len(parts), planned),
        )

    def _measured(
        self, settings: AnomalySettings, place: Place, planned: Training, work: Work
    ) -> tuple[MeasuredPlace, Callable[[], list[Illustration]]]:
        """Train, choose without labels, measure every map, and draw some of them."""
        training = cast(SampleDataset, build_dataset(place.normal))
        vae = work.trained(planned)
        chosen = self._chosen(settings, place, vae, training, work)
        maps = self.maps(vae, chosen)
        rows = self.rows(vae, maps, training)
        normal = SampleSubset(training, evenly_spaced(range(len(training)), settings.normal_images))
        test = SampleSubset(place.test, range(0, len(place.test), settings.every))
        primary = next(iter(self.protocols))
        pairs = [
            (row_name(first, primary), row_name(second, primary))
            for first, second in compared(self.specification, self.published)
        ]

        def measure() -> dict[str, Any]:
            stage(f"measuring {len(rows)} rows on {len(test)} images: {place.title}")
            return measured(
                rows,
                normal,
                test,
                device=work.device,
                against=pairs,
                units=self.units,
                batch_size=self.batch_size,
                resamples=settings.resamples,
                seed=work.seed,
            )

        variants = [choice.variant for choice in chosen]
        # A cell of a part of the categories is one of the whole, too.
        plain = {k: v for k, v in asdict(settings).items() if k not in ("categories", "workers")}
        part = MeasuredPlace(
            name=place.name,
            cell=work.stored(
                f"maps-{place.cell}",
                [work.trainings[-1]["model"], plain, variants, len(test), pairs],
                measure,
            ),
            published=self.published,
            primary=primary,
            variant=place.variant,
            place=place,
            chosen=chosen,
            maps=[anomaly_map.name for anomaly_map in maps],
            training=len(training),
            steps=planned.trainer.steps,
        )
        return part, partial(self._drawn, place, maps, chosen[0], normal, work)

    def _training(self, settings: AnomalySettings, place: Place) -> Training:
        images = len(cast(SampleDataset, build_dataset(place.training)))
        return Training(
            place.training_title,
            ModelConfig(
                settings.model,
                dict(settings.options),
                OBJECTIVES[settings.training].initialization,
            ),
            place.training,
            settings.objective(),
            Trainer(
                steps=steps_of(settings.steps, settings.epochs, settings.batch_size, images),
                batch_size=settings.batch_size,
                precision=settings.precision,
                workers=settings.workers,
            ),
        )

    def _chosen(
        self,
        settings: AnomalySettings,
        place: Place,
        vae: nn.Module,
        training: SampleDataset,
        work: Work,
    ) -> list[ChosenMaps]:
        candidates = Candidates(
            list(self.layers.values()),
            scales=list(settings.scales),
            smoothing=list(settings.smoothing),
            images=settings.painted,
            seed=work.seed,
        )
        return [
            choose_maps(
                vae,
                candidates,
                training,
                work,
                name=place.cell,
                normal_images=settings.normal_images,
                batch_size=self.batch_size,
                names=names,
            )
            for names in self.choices
        ]

    @property
    def published(self) -> list[str]:
        """The names of the maps as published."""
        return [
            published_name(layer, method, rectifier)
            for layer in self.published_layers
            for method in METHODS
            for rectifier in RECTIFIERS
        ]

    def maps(self, vae: nn.Module, chosen: Sequence[ChosenMaps]) -> list[AnomalyMap]:
        """Every map, in the order of the tables."""
        pixel = pixel_maps(vae)
        return [
            *pixel,
            *published_maps(vae, self.published_layers),
            *tried_maps(vae, self.tried_layers, self.tried_methods),
            *baseline_maps(vae, self.layers),
            *(anomaly_map for choice in chosen for anomaly_map in choice.beside(pixel)),
        ]

    def rows(
        self, vae: nn.Module, maps: Sequence[AnomalyMap], images: SampleDataset
    ) -> dict[str, tuple[Scorer, Protocol]]:
        """Every map under every protocol, by the names of rows.

        Where masks are shrunk, it is to the size of the layer's features, as replication b did;
        maps that do not read one layer take the image's size. Nothing is smoothed there, so
        smoothed pixel maps are left out.

        Args:
            vae: The model.
            maps: The maps.
            images: The first one shows the features' sizes.
        """
        rows = {
            row_name(found.name, label): found.under(Protocol(frames=frames, threshold="oracle"))
            for label, frames in self.protocols.items()
            for found in maps
        }
        if not self.shrunk:
            return rows
        first = collate_samples([images[0]]).image
        device = next(vae.parameters()).device
        layers = tuple(self.layers.values())
        shared = ModelPass(first.to(device), vae, as_adapter(vae, None), layers)
        for found in maps:
            if SMOOTHED in found.name:
                continue
            read = found.scorer.layers
            height, width = (shared.features(read[0]) if len(read) == 1 else first).shape[2:]
            for label, frames in self.shrunk.items():
                small = Protocol(frames=frames, threshold="oracle", size=(height, width))
                rows[row_name(found.name, label)] = found.scorer, small
        return rows

    def _drawn(
        self,
        place: Place,
        maps: Sequence[AnomalyMap],
        chosen: ChosenMaps,
        normal: SampleDataset,
        work: Work,
    ) -> list[Illustration]:
        shown = one_of_each(place.test, self.shown, self.shown_of_each)
        file = self.file.format(place=place.name)
        by_name = {m.name: m for m in maps}
        drawn = [
            draw_examples(
                work,
                [*(by_name[name] for name in self.examples), chosen.ours],
                normal,
                place.test,
                shown,
                file=file,
                caption=f"{place.title}: maps as published, and ours with a baseline. Each map has "
                "one colour scale for all images; its two numbers stand underneath.",
            )
        ]
        if self.figure:
            drawn.append(
                draw_layers(
                    work,
                    {
                        layer: [by_name[name] for name in self.published if _is_of(layer, name)]
                        for layer in self.published_layers
                    },
                    place.test,
                    shown[:2],
                    file=file.replace(".png", "_layers.png"),
                    caption=f"{place.title}: maps as published, layers as rows, methods and "
                    "rectifiers as columns, as in replication b's Figure 3. Colours run from the "
                    "lowest to the highest value of the images that stand together; both numbers "
                    "are printed under them.",
                )
            )
        return drawn


PARTS = {"training": "training", "epochs": "epochs", "workers": "workers"}
"""The options of every anomaly experiment, with the settings that they replace."""


def one_of_each(
    images: SampleDataset, count: int, which: Literal["first", "middle"] = "first"
) -> list[int]:
    """The first or the middle defective image of each of the first ``count`` groups with some."""
    defective: dict[str, list[int]] = {}
    for index in range(len(images)):
        sample = images[index]
        if sample.mask is not None and sample.mask.any():
            defective.setdefault(sample.group, []).append(index)
    found = list(defective.values())[:count]
    return [indices[len(indices) // 2 if which == "middle" else 0] for indices in found]


def _is_of(layer: str, name: str) -> bool:
    return name.startswith(f"{layer}, ")


def choice_table(specification: Specification, found: Mapping[str, ChosenMaps]) -> ResultTable:
    """What was chosen without labels, by what it was chosen for."""
    cells: dict[str, Callable[[str], Cell]] = {
        "for": lambda name: name,
        "variant": lambda name: found[name].variant,
        "of": lambda name: found[name].among,
        "painted images": lambda name: found[name].painted,
        "pixel AUROC on synthetic defects": lambda name: found[name].synthetic,
    }
    return specification.table("choice", found, cells)


def minus(ours: Estimate | None, published: float | None) -> float | None:
    """How far ours is above a published figure; None where there is none."""
    if ours is None or ours.value is None or published is None:
        return None
    return ours.value - published
