"""MVTec AD: how well does latent attention of a ResNet18 VAE localize defects?

Liu et al. 2020, as quoted in section 4.3 of replication b; replication a's public code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from captum_vae.data import MVTec, SyntheticDefects, mvtec_categories
from captum_vae.data.augment import Padding
from captum_vae.data.sample import SampleDataset
from captum_vae.experiments.anomaly_charts import mvtec_charts
from captum_vae.experiments.anomaly_maps import AnomalyMap, choose_maps
from captum_vae.experiments.map_comparison import MapComparison
from captum_vae.experiments.mvtec_findings import (
    ALL_IMAGES,
    ANOMALOUS,
    CLAIMS,
    FIGURE_MAP,
    LAYERS,
    PAIRS,
    PUBLISHED_LAYERS,
    CategoryFindings,
    result_tables,
    verdicts,
)
from captum_vae.experiments.results import Experiment, Figure, Findings
from captum_vae.experiments.verdicts import doubted
from captum_vae.experiments.work import Work, images_seen
from captum_vae.localization.choosing import Candidates, Chosen, spaced
from captum_vae.localization.evaluation import Row
from captum_vae.localization.protocol import Frames, Protocol
from captum_vae.models import GaussianVAE
from captum_vae.training.building import build_dataset
from captum_vae.training.configuration import DataConfig, ModelConfig, ObjectiveConfig, Precision
from captum_vae.training.trainer import Trainer

_IMAGES: dict[str, Frames] = {ALL_IMAGES: "with_masks", ANOMALOUS: "anomalous"}


@dataclass(frozen=True)
class MVTecSettings:
    """What a scale chooses.

    Attributes:
        image_size: h = w of the images.
        augmented: images in the augmented training set.
        steps: of training, for each category.
        warmup_steps: of the KL's weight.
        batch_size: of training.
        learning_rate: of Adam.
        precision: of training.
        padding: what fills the corners of rotated images.
        twice: category that is trained with both paddings, black and corner.
        normal_images: training images that scorers are fitted on.
        painted: training images that synthetic defects are painted on.
        smoothing: sigmas to choose from, in pixels of the mask.
        scales: of the maps, to choose from.
        resamples: of the bootstrap over images.
        rendered: images of a rendered texture, in training and in test.
        rotation: largest angle in degrees.
        mirror: probability of a mirror image.
        model: name of the VAE, whose encoder is a ResNet18.
        options: its arguments.
    """

    image_size: int
    augmented: int
    steps: int
    warmup_steps: int
    normal_images: int
    painted: int
    batch_size: int = 8
    learning_rate: float = 1e-4
    precision: Precision = "float32"
    padding: Padding = "black"
    twice: str = "leather"
    smoothing: tuple[float, ...] = (0.0, 4.0, 8.0)
    scales: tuple[Literal["none", "location"], ...] = ("none", "location")
    resamples: int = 1000
    rendered: int = 24
    rotation: float = 30.0
    mirror: float = 0.5
    model: str = "resnet18"
    options: Mapping[str, Any] = field(default_factory=lambda: {"latent_dims": 32})


SETTINGS: dict[Literal["smoke", "cpu", "paper"], MVTecSettings] = {
    "smoke": MVTecSettings(
        image_size=64,
        augmented=64,
        steps=16,
        warmup_steps=8,
        learning_rate=1e-3,
        normal_images=16,
        painted=4,
        twice="grain",
        smoothing=(0.0, 2.0),
        scales=("none",),
        resamples=100,
        rendered=12,
        model="timm",
        options={"latent_dims": 8, "hidden": 32, "decoder_channels": [64, 32, 16, 8]},
    ),
    "cpu": MVTecSettings(
        image_size=128,
        augmented=10_000,
        steps=1000,
        warmup_steps=300,
        learning_rate=1e-3,
        precision="bfloat16",
        normal_images=40,
        painted=32,
    ),
    "paper": MVTecSettings(
        image_size=256,
        augmented=10_000,
        steps=125_000,
        warmup_steps=1250,
        normal_images=200,
        painted=100,
        smoothing=(0.0, 4.0, 8.0, 12.0),
    ),
}


@dataclass(frozen=True)
class Category:
    """A category that was found.

    Attributes:
        name: of the category.
        training: normal images, not augmented.
        test: images with masks.
    """

    name: str
    training: DataConfig
    test: SampleDataset


def find_categories(settings: MVTecSettings, data_root: Path | None, seed: int) -> list[Category]:
    """Every category below the folder; two rendered textures without one.

    Args:
        settings: give the images' size and the number of rendered ones.
        data_root: holds ``mvtec_ad``.
        seed: of the defects painted on rendered textures.

    Raises:
        FileNotFoundError: no such folder, or no category in it.
    """
    size = settings.image_size
    if data_root is None:
        return [_rendered(texture, settings, seed) for texture in ("grain", "weave")]
    root = data_root / "mvtec_ad"
    names = mvtec_categories(root)
    if not names:
        raise FileNotFoundError(f"{root} holds no category of MVTec AD: no folder with train/good")
    options = {"image_size": size, "image_channels": 3}
    return [
        Category(
            name,
            DataConfig("mvtec", str(root), {**options, "category": name}),
            MVTec(root, name, "test", image_size=size, image_channels=3),
        )
        for name in names
    ]


def run(settings: MVTecSettings, data_root: Path | None, work: Work) -> Findings:
    """Train a VAE per category, and measure every map on its test images in one pass."""
    categories = find_categories(settings, data_root, work.seed)
    found, figures = [], []
    for category in categories:
        findings, figure = _measure(settings, category, settings.padding, work, draws=True)
        found.append(findings)
        figures += figure
    padded = None
    for category in categories:
        if category.name == settings.twice:
            other: Padding = "corner" if settings.padding == "black" else "black"
            padded = _measure(settings, category, other, work, draws=False)[0]
    rendered = "rendered textures, not on MVTec AD" if data_root is None else ""
    return Findings(
        data=_data_words(found, "MVTec AD" if data_root else "rendered textures"),
        verdicts=doubted(verdicts(found, padded), work.doubts(rendered=rendered)),
        tables=result_tables(found, padded),
        figures=figures,
        protocol=_protocol_words(settings, found),
        charts=mvtec_charts(),
        training_share=images_seen(settings) / images_seen(SETTINGS["paper"]),
    )


def _measure(
    settings: MVTecSettings, category: Category, padding: Padding, work: Work, *, draws: bool
) -> tuple[CategoryFindings, list[Figure]]:
    """Train on one category with a padding, choose a variant, measure all maps."""
    title = f"{category.name}, corners {padding}"
    vae = _trained(settings, category, padding, title, work)
    training = cast(SampleDataset, build_dataset(category.training))
    normal = Chosen(training, spaced(range(len(training)), settings.normal_images))
    candidates = Candidates(
        list(LAYERS.values()),
        scales=list(settings.scales),
        smoothing=list(settings.smoothing),
        images=settings.painted,
        seed=work.seed,
    )
    chosen = choose_maps(
        vae,
        candidates,
        training,
        work,
        name=f"{category.name}-{padding}",
        normal_images=settings.normal_images,
        batch_size=8,
    )
    compared = MapComparison(
        vae, work, title, PUBLISHED_LAYERS, LAYERS, [chosen], normal, category.test
    )
    cell = compared.measure(
        _rows,
        name=f"maps-{category.name}-{padding}",
        settings=settings,
        pairs=PAIRS,
        units="images",
        batch_size=8,
        resamples=settings.resamples,
    )
    findings = CategoryFindings(
        category.name,
        padding,
        cell,
        chosen,
        tuple(m.name for m in compared.maps),
        len(training),
        len(category.test),
    )
    if not draws:
        return findings, []
    shown = one_image_per_defect(category.test, 3)
    file = f"mvtec_{category.name}.png"
    return findings, [compared.draw(FIGURE_MAP, category.test, shown, file=file)]


def _rows(maps: Sequence[AnomalyMap]) -> list[Row]:
    return [
        anomaly_map.row(label, Protocol(frames=frames, threshold="oracle"))
        for label, frames in _IMAGES.items()
        for anomaly_map in maps
    ]


def _trained(
    settings: MVTecSettings, category: Category, padding: Padding, title: str, work: Work
) -> GaussianVAE:
    augment = {
        "length": settings.augmented,
        "rotation": settings.rotation,
        "mirror": settings.mirror,
        "padding": padding,
    }
    return work.trained(
        title,
        ModelConfig(settings.model, dict(settings.options), "data"),
        replace(category.training, augment=augment),
        ObjectiveConfig(warmup_steps=settings.warmup_steps, learning_rate=settings.learning_rate),
        Trainer(steps=settings.steps, batch_size=settings.batch_size, precision=settings.precision),
    )


def one_image_per_defect(images: SampleDataset, count: int) -> list[int]:
    """The first image of each of the first kinds of defect."""
    first: dict[str, int] = {}
    for index in range(len(images)):
        sample = images[index]
        if sample.mask is not None and sample.mask.any():
            first.setdefault(sample.group, index)
    return list(first.values())[:count]


def _rendered(texture: str, settings: MVTecSettings, seed: int) -> Category:
    options = {
        "texture": texture,
        "length": settings.rendered,
        "image_size": settings.image_size,
    }
    name = "captum_vae.experiments.mvtec_rendered:RenderedTexture"
    normal = build_dataset(DataConfig(name, options={**options, "split": "test"}))
    test = SyntheticDefects(cast(SampleDataset, normal), defect_rate=0.75, seed=seed)
    return Category(texture, DataConfig(name, options={**options, "split": "train"}), test)


def _data_words(found: list[CategoryFindings], name: str) -> str:
    counts = "; ".join(f"{c.name}: {c.training} training, {c.test} test images" for c in found)
    return f"{name} ({counts})"


def _protocol_words(settings: MVTecSettings, found: list[CategoryFindings]) -> Mapping[str, str]:
    paper = SETTINGS["paper"]
    epochs = settings.steps * settings.batch_size / settings.augmented
    return {
        "training": f"ResNet18 VAE per category, {settings.steps} steps of {settings.batch_size} "
        f"images of {settings.image_size} x {settings.image_size} pixels, drawn from "
        f"{settings.augmented} augmented ones ({epochs:.3g} epochs: rotation up to "
        f"{settings.rotation:g} degrees, mirror {settings.mirror:g}, corners {settings.padding}), "
        f"Adam at {settings.learning_rate:g} in {settings.precision}, variance of the Gaussian "
        "learned in closed form. "
        f"Scale paper: {paper.image_size} pixels, {paper.augmented} augmented images, "
        f"{paper.steps * paper.batch_size / paper.augmented:g} epochs, batch {paper.batch_size}, "
        f"Adam at {paper.learning_rate:g}.",
        "layers": "encoder.backbone.layer2.1.conv1 as in replication a's code, and the last "
        "convolution, layer4.1.conv2, as in replication b; layer3 is ours.",
        "as published": "Channels are summed before the rectifier, weights are pooled gradients; "
        "nothing is smoothed or normalised.",
        ALL_IMAGES: "Every test image with known truth, good ones included.",
        ANOMALOUS: "Images with a defect only.",
        "size": "Maps are resized to the mask's size.",
        "best IoU": "The best threshold on the test labels, over all thresholds.",
        "intervals": f"95%, bootstrap over images, {settings.resamples} resamples; differences "
        "resample the same images for both maps.",
        "ours": "Chosen on synthetic defects painted on normal images, without test labels (how "
        "they fade was settled after results on bottle were seen, so bottle is no test of the "
        "choice): " + "; ".join(f"{c.name}: {c.chosen.variant}" for c in found) + ".",
    }


EXPERIMENT = Experiment(
    name="mvtec",
    title="MVTec AD",
    about="A ResNet18 VAE per category, trained on rotated and mirrored normal images; defects of "
    "the test images are to be localized. The paper's latent attention at the layers that the "
    "replications took, by both methods and both rectifiers, beside its baselines.",
    claims=CLAIMS,
    settings=SETTINGS,
    run=run,
)
