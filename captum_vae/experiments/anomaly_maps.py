"""The maps that the anomaly experiments compare: as published, with baselines, and chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from captum_vae.attr.options import Rectifier
from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.experiments.localizing import METRICS
from captum_vae.experiments.results import Figure
from captum_vae.experiments.verdicts import Estimate, Verdict, not_testable
from captum_vae.experiments.work import Work
from captum_vae.localization.choosing import Candidates, choose, load
from captum_vae.localization.evaluation import Row, fit_rows, layers_of, score_all
from captum_vae.localization.layer_scorers import FeatureDifference, LatentAttention, Method
from captum_vae.localization.model_pass import NormalImages
from captum_vae.localization.pixel_scorers import MeanImageDifference, ReconstructionError
from captum_vae.localization.protocol import Protocol, resize_maps
from captum_vae.localization.scorer import Scorer
from captum_vae.posterior import as_adapter
from captum_vae.report import (
    ColorScale,
    GridRow,
    Picture,
    Strip,
    draw_map_grid,
    save_picture,
)

METHODS: dict[str, Method] = {"1": "per_dimension", "2": "mean_sum"}
"""The paper's two methods by the replications' numbers."""

RECTIFIERS: tuple[Rectifier, ...] = ("relu", "abs")
"""Of the paper, and of the authors' code."""

RECONSTRUCTION = "reconstruction error"
MEAN_IMAGE = "mean image"
CHOSEN = "ours, chosen without labels"
CONTROL = "control: ours without latent weights"
SMOOTHED = ", smoothed like ours"


@dataclass(frozen=True)
class AnomalyMap:
    """A scorer with its name in the tables.

    Attributes:
        name: in the tables.
        scorer: fitted or not.
        smoothing: sigma in pixels of the mask.
    """

    name: str
    scorer: Scorer
    smoothing: float = 0.0

    def row(self, label: str, protocol: Protocol) -> Row:
        """Under a protocol, whose smoothing is replaced; see :func:`row_name`."""
        return Row(
            row_name(self.name, label), self.scorer, replace(protocol, smoothing=self.smoothing)
        )


def row_name(map_name: str, label: str) -> str:
    """A map's name under the protocol of that label, unique in a table."""
    return f"{map_name} [{label}]"


def published_name(layer: str, method: str, rectifier: str) -> str:
    """The name of a published map, such as ``conv2, method 1, relu``."""
    return f"{layer}, method {method}, {rectifier}"


def published_maps(vae: nn.Module, layers: Mapping[str, str]) -> list[AnomalyMap]:
    """Latent attention by the paper's formula: every layer, both methods, both rectifiers.

    Channels are summed before the rectifier, weights are pooled gradients, nothing is smoothed or
    normalised (paper section 3.1; method 2 is that of its anomaly section).

    Args:
        vae: the model.
        layers: dotted names of encoder layers by their names in the tables.
    """
    return [
        AnomalyMap(
            published_name(name, number, rectifier),
            LatentAttention(vae, layer, method=method, rectifier=rectifier),
        )
        for name, layer in layers.items()
        for number, method in METHODS.items()
        for rectifier in RECTIFIERS
    ]


def baseline_maps(vae: nn.Module, layers: Mapping[str, str]) -> list[AnomalyMap]:
    """Weights times the features' distance to a baseline, and the distance without weights.

    Args:
        vae: the model.
        layers: as for :func:`published_maps`.
    """
    maps = []
    for name, layer in layers.items():
        maps += [
            AnomalyMap(
                f"{name}, method 1, abs, baseline {baseline.replace('_', ' ')}",
                LatentAttention(
                    vae, layer, rectifier="abs", order="channelwise", baselines=baseline
                ),
            )
            for baseline in ("reconstruction", "mean_activation")
        ]
        control = FeatureDifference(vae, layer, baselines="mean_activation")
        maps.append(AnomalyMap(f"{name}, control without latent weights", control))
    return maps


def pixel_maps(vae: nn.Module, sigma: float) -> list[AnomalyMap]:
    """Reconstruction error and mean-image difference, raw and smoothed by ``sigma``."""
    reconstruction = ReconstructionError(vae, distance="absolute")
    mean_image = MeanImageDifference(vae, distance="absolute")
    return [
        AnomalyMap(RECONSTRUCTION, reconstruction),
        AnomalyMap(MEAN_IMAGE, mean_image),
        AnomalyMap(RECONSTRUCTION + SMOOTHED, reconstruction, sigma),
        AnomalyMap(MEAN_IMAGE + SMOOTHED, mean_image, sigma),
    ]


@dataclass(frozen=True)
class ChosenMaps:
    """What was chosen without test labels.

    Attributes:
        ours: the chosen variant.
        control: the same without latent weights.
        variant: its options in words.
        synthetic: its pixel AUROC on the synthetic defects.
        among: number of variants.
        painted: number of images with synthetic defects.
    """

    ours: AnomalyMap
    control: AnomalyMap
    variant: str
    synthetic: float
    among: int
    painted: int


def choose_maps(
    vae: nn.Module,
    candidates: Candidates,
    normal: SampleDataset,
    work: Work,
    *,
    name: str,
    normal_images: int,
    batch_size: int,
) -> ChosenMaps:
    """Choose a variant on synthetic defects painted on normal images; no test image is read.

    Args:
        vae: trained last by ``work``.
        candidates: the variants.
        normal: normal training images.
        work: keeps the choice.
        name: of the choice among the kept cells.
        normal_images: how many images the variants are fitted on at most.
        batch_size: images per pass.
    """
    adapter = as_adapter(vae, None)
    rows = candidates.rows(vae, adapter, Protocol(threshold="oracle"))

    def look() -> dict[str, Any]:
        work.say(f"choosing among {len(rows)} variants on synthetic defects: {name}")
        return choose(
            rows,
            normal,
            candidates,
            model=vae,
            adapter=adapter,
            batch_size=batch_size,
            device=work.device,
            normal_images=normal_images,
        ).to_dict()

    key = [work.trainings[-1]["model"], asdict(candidates), len(normal), normal_images]
    choice = work.stored(f"choice-{name}", key, look)
    chosen = next(row for row in rows if row.name == choice["name"])
    scorer, sigma = chosen.scorer, chosen.protocol.smoothing
    assert isinstance(scorer, LatentAttention)
    control = FeatureDifference(vae, scorer.layers, baselines=scorer.baselines, scale=scorer.scale)
    return ChosenMaps(
        AnomalyMap(CHOSEN, scorer, sigma),
        AnomalyMap(CONTROL, control, sigma),
        choice["name"],
        choice["synthetic"][choice["name"]],
        len(rows),
        choice["painted"],
    )


def metric_row(cell: Mapping[str, Any], name: str) -> list[Estimate]:
    """A row's metrics out of a measured cell, in the order of ``localizing.METRICS``."""
    return [Estimate.from_dict(cell["rows"][name][metric]) for metric in METRICS]


def apart(first: Estimate, second: Estimate) -> Estimate:
    """First minus second where no paired test exists.

    The ends of its interval are those that both intervals allow, so it is wider than a paired one.
    """
    if first.value is None or second.value is None:
        return Estimate(None)
    value = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(value)
    return Estimate(value, first.low - second.high, first.high - second.low)


def negated(difference: Estimate) -> Estimate:
    """The same difference, second minus first."""
    value, low, high = (
        None if x is None else -x for x in (difference.value, difference.high, difference.low)
    )
    return Estimate(value, low, high)


def doubted(verdicts: Mapping[str, Verdict], doubts: Sequence[str]) -> dict[str, Verdict]:
    """The verdicts, or that nothing can be tested where there are doubts about what was measured.

    Args:
        verdicts: by claim.
        doubts: such as "measured on rendered scenes, not on UCSD"; none leaves the verdicts.
    """
    return {
        name: not_testable(verdict, "; ".join(doubts))
        if doubts and verdict.outcome != "not testable here"
        else verdict
        for name, verdict in verdicts.items()
    }


def doubts_of(work: Work, *, rendered: str = "") -> list[str]:
    """Why verdicts would mean nothing: rendered data, or a VAE without an active dimension."""
    doubts = [f"measured on {rendered}"] if rendered else []
    if work.collapsed:
        doubts.append(f"no dimension is active in the VAE of {', '.join(work.collapsed)}")
    return doubts


def best_of(found: Mapping[str, Estimate]) -> str:
    """The name with the highest value; of equals, and where none is defined, the first."""
    return max(found, key=lambda name: _or_lowest(found[name].value))


def draw_examples(
    work: Work,
    vae: nn.Module,
    maps: Sequence[AnomalyMap],
    normal: SampleDataset,
    test: SampleDataset,
    indices: Sequence[int],
    *,
    file: str,
    caption: str,
) -> Figure:
    """A picture of test images with their ground truth and maps, a colour scale per map.

    Args:
        work: gives folder and device.
        vae: the model.
        maps: fitted here on ``normal``.
        normal: normal images.
        test: test images with masks.
        indices: of the images shown.
        file: of the picture, below the work's folder.
        caption: of the picture.
    """
    protocol = Protocol(threshold="oracle")
    rows = [anomaly_map.row("", protocol) for anomaly_map in maps]
    adapter = as_adapter(vae, None)
    fit_rows(
        rows, NormalImages(load(normal, 16), vae, adapter, layers_of(rows), device=work.device)
    )
    labels, truths, found = [], [], []
    for index in indices:
        batch = collate_samples([test[index]])
        mask = batch.mask[0]
        assert mask is not None
        size = (mask.shape[0], mask.shape[1])
        scored = {
            id(scorer): scores
            for scorer, scores, _ in score_all(
                [row.scorer for row in rows], batch.image.to(work.device)
            )
        }
        prepared = [row.protocol.transform(scored[id(row.scorer)], size)[0].cpu() for row in rows]
        labels.append("\n".join(batch.name[0].split("/")[-2:]))
        truths.append((resize_maps(batch.image[0], size).clamp(0, 1), mask.float()))
        found.append(prepared)
    scales = [ColorScale.of([prepared[place] for prepared in found]) for place in range(len(maps))]
    grid = [
        GridRow(
            label,
            [
                Strip([image, truth]),
                *(Strip([image], [m], scale) for m, scale in zip(prepared, scales, strict=True)),
            ],
        )
        for label, (image, truth), prepared in zip(labels, truths, found, strict=True)
    ]
    drawn = draw_map_grid(
        grid,
        column_titles=[("image", "truth"), *((_folded(m.name),) for m in maps)],
        bar_label="anomaly score",
    )
    picture = Picture(
        save_picture(drawn, work.out / file),
        "test images, their ground truth and their anomaly maps side by side",
        caption,
    )
    return work.figure(picture)


def _folded(name: str) -> str:
    return name.replace(", ", ",\n")


def _or_lowest(value: float | None) -> float:
    return float("-inf") if value is None else value
