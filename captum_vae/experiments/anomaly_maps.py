"""The maps that the anomaly experiments compare: as published, with baselines, and chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae.attr.options import Order, Rectifier
from captum_vae.data.sample import SampleDataset
from captum_vae.experiments.work import Work
from captum_vae.localization.candidates import Candidates
from captum_vae.localization.choosing import candidate_scorers, choose
from captum_vae.localization.feature_scorers import FeatureDifference
from captum_vae.localization.layer_scorers import LatentAttention, Method
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.options import ScoreScale
from captum_vae.localization.pixel_scorers import MeanImageDifference, ReconstructionError
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import Fitting, Scorer
from captum_vae.progress import stage

METHODS: dict[str, Method] = {"1": "per_dimension", "2": "mean_sum"}
"""The paper's two methods by the replications' numbers."""

RECTIFIERS: tuple[Rectifier, ...] = ("relu", "abs")
"""The paper's rectifier, and that of the authors' code."""

RECONSTRUCTION = "reconstruction error"
MEAN_IMAGE = "mean image"
CHOSEN = "ours, chosen without labels"
SMOOTHED = ", smoothed like ours"
CHANNELWISE = ", per channel"
NORMALISED = ", normalised"
_ORDERS: tuple[Order, ...] = ("after_sum", "channelwise")


@dataclass(frozen=True)
class ChoiceNames:
    """A choice without labels: what its maps are called in the tables, and what it is made from.

    Attributes:
        ours: The name of the chosen map.
        control: The name of the same map without latent weights.
        smoothed: What the names of pixel maps under the same smoothing end in.
        scales: Only variants so scaled may be chosen; None allows all.
    """

    ours: str = CHOSEN
    control: str = "control: ours without latent weights"
    smoothed: str = SMOOTHED
    scales: Sequence[ScoreScale] | None = None


OURS = ChoiceNames()


@dataclass(frozen=True)
class AnomalyMap:
    """A scorer with its name in the tables.

    Attributes:
        name: The name in the tables.
        scorer: The scorer, which need not be fitted.
        smoothing: The sigma of its smoothing, in pixels of the mask.
    """

    name: str
    scorer: Scorer
    smoothing: float = 0.0

    def under(self, protocol: Protocol) -> tuple[Scorer, Protocol]:
        """The scorer under a protocol, whose smoothing is replaced by the map's own."""
        return self.scorer, replace(protocol, smoothing=self.smoothing)


def row_name(map_name: str, label: str) -> str:
    """A map's name under the protocol of that label; its own where the label is empty."""
    return f"{map_name} [{label}]" if label else map_name


def published_name(layer: str, method: str, rectifier: str) -> str:
    """The name of a published map, such as ``conv2, method 1, relu``."""
    return f"{layer}, method {method}, {rectifier}"


def published_maps(vae: nn.Module, layers: Mapping[str, str]) -> list[AnomalyMap]:
    """Latent attention by the paper's formula: every layer, both methods, both rectifiers.

    Channels are summed before the rectifier, weights are pooled gradients, nothing is smoothed or
    normalised (paper section 3.1; method 2 is that of its anomaly section).

    Args:
        vae: The model.
        layers: The dotted names of encoder layers by their names in the tables.
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


def tried_maps(
    vae: nn.Module, layers: Mapping[str, str], methods: Sequence[str] = tuple(METHODS)
) -> list[AnomalyMap]:
    """What replication b tried besides: rectified per channel before the sum, and normalised.

    Its code rectifies per channel; the normalisation (section 4.2: it did not improve the scores)
    is that of the authors' code, to 0..1 over each image by itself.

    Args:
        vae: The model.
        layers: The dotted names of encoder layers by their names in the tables.
        methods: The methods, by the replications' numbers.
    """
    maps = []
    for name, layer in layers.items():
        for number in methods:
            for rectifier in RECTIFIERS:
                title = published_name(name, number, rectifier)
                plain, per_channel = (
                    LatentAttention(
                        vae, layer, method=METHODS[number], rectifier=rectifier, order=order
                    )
                    for order in _ORDERS
                )
                maps.append(AnomalyMap(title + CHANNELWISE, per_channel))
                maps.append(AnomalyMap(title + NORMALISED, NormalisedMap(plain)))
    return maps


class NormalisedMap(Scorer):
    """Another scorer's maps, each brought to 0..1 by its own lowest and highest value.

    Scores of two images are then no longer comparable, which is why replication b left it out. A
    constant map becomes 0.
    """

    def __init__(self, scorer: Scorer) -> None:
        """Take the maps of a scorer that learns nothing from normal images."""
        super().__init__(scorer.model, posterior=scorer.adapter)
        self.scorer = scorer
        self.layers = scorer.layers

    def fit_normal(self, normal: NormalImages) -> Fitting | None:
        """Learn what the other scorer learns."""
        return self.scorer.fit_normal(normal)

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """Maps (B, h, w) in [0, 1]."""
        maps = self.scorer.score_pass(shared)
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        return torch.where(high > low, (maps - low) / (high - low), torch.zeros_like(maps))


def baseline_maps(vae: nn.Module, layers: Mapping[str, str]) -> list[AnomalyMap]:
    """Weights times the features' distance to a baseline, and the distance without weights.

    Args:
        vae: The model.
        layers: The dotted names of encoder layers by their names in the tables.
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


def pixel_maps(vae: nn.Module) -> list[AnomalyMap]:
    """The absolute differences of an image to its reconstruction and to the mean image."""
    return [
        AnomalyMap(RECONSTRUCTION, ReconstructionError(vae, distance="absolute")),
        AnomalyMap(MEAN_IMAGE, MeanImageDifference(vae, distance="absolute")),
    ]


@dataclass(frozen=True)
class ChosenMaps:
    """What was chosen without test labels.

    Attributes:
        names: What the maps are called in the tables.
        scorer: The chosen variant.
        smoothing: The sigma of the chosen variant, in pixels of the mask.
        variant: The options of the chosen variant, in words.
        synthetic: Its pixel AUROC on the synthetic defects.
        among: How many variants there were to choose from.
        painted: How many images synthetic defects were painted on.
    """

    names: ChoiceNames
    scorer: LatentAttention
    smoothing: float
    variant: str
    synthetic: float
    among: int
    painted: int

    @property
    def ours(self) -> AnomalyMap:
        """The chosen map."""
        return AnomalyMap(self.names.ours, self.scorer, self.smoothing)

    def beside(self, pixel: Sequence[AnomalyMap]) -> list[AnomalyMap]:
        """Pixel maps under the same smoothing, the chosen map, and its control.

        A smoothed pixel map shares its scorer with the map as it is, so that an image is scored
        once.
        """
        own = self.scorer
        control = FeatureDifference(own.model, own.layers, baselines=own.baselines, scale=own.scale)
        return [
            *(AnomalyMap(m.name + self.names.smoothed, m.scorer, self.smoothing) for m in pixel),
            self.ours,
            AnomalyMap(self.names.control, control, self.smoothing),
        ]


def choose_maps(
    vae: nn.Module,
    candidates: Candidates,
    normal: SampleDataset,
    work: Work,
    *,
    name: str,
    normal_images: int,
    batch_size: int,
    names: ChoiceNames = OURS,
) -> ChosenMaps:
    """Choose a variant on synthetic defects painted on normal images; no test image is read.

    Args:
        vae: The model that ``work`` trained last.
        candidates: The variants.
        normal: The normal training images.
        work: It keeps how all variants did.
        name: What the choice is called among the kept cells.
        normal_images: How many images the variants are fitted on at most.
        batch_size: Images per pass.
        names: What the maps are called, and which variants may be chosen.
    """
    # As when the experiments were set up: among attention's variants, by one defect painted
    # anywhere on each image.
    candidates = replace(
        candidates, families=["latent_attention"], varying=1.0, seeds=1, area=(0.01, 0.1)
    )
    variants = candidate_scorers(candidates, vae, protocol=Protocol(threshold="oracle"))

    def look() -> dict[str, Any]:
        stage(f"choosing among {len(variants)} variants on synthetic defects: {name}")
        return choose(
            variants,
            normal,
            candidates,
            batch_size=batch_size,
            device=work.device,
            normal_images=normal_images,
            progress="auto",
        ).to_dict()

    key = [work.trainings[-1]["model"], asdict(candidates), len(normal), normal_images]
    found = work.stored(f"choice-{name}", key, look)
    # Best first.
    allowed = [
        variant
        for variant in found["synthetic"]
        if names.scales is None or getattr(variants[variant][0], "scale", None) in names.scales
    ]
    scorer, protocol = variants[allowed[0]]
    assert isinstance(scorer, LatentAttention)
    return ChosenMaps(
        names=names,
        scorer=scorer,
        smoothing=protocol.smoothing,
        variant=allowed[0],
        synthetic=found["synthetic"][allowed[0]],
        among=len(allowed),
        painted=found["painted"],
    )
