"""What the MNIST experiment measures: the published maps, ours, baselines and controls."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from captum_vae.attr.options import Rectifier
from captum_vae.experiments.anomaly_maps import MEAN_IMAGE, METHODS, RECONSTRUCTION
from captum_vae.localization import (
    AnomalyScorer,
    FeatureDifference,
    LatentAttention,
    MeanImageDifference,
    Protocol,
    ReconstructionError,
)
from captum_vae.localization.options import Baseline
from captum_vae.models import GaussianVAE

LAYERS = ("encoder.conv1", "encoder.conv2")
HEADLINE_LAYER = "encoder.conv2"
RECTIFIERS: tuple[Rectifier, ...] = ("relu", "abs", "sigmoid")
BASELINES: tuple[Baseline, ...] = ("reconstruction", "mean_activation")
PROTOCOL = Protocol(threshold="oracle")

EXPLORED_SCORERS = (
    "method 1, abs per channel, relative to reconstruction, conv2",
    "method 1, relu, conv2",
    "method 2, abs, conv2",
    "control: feature difference to reconstruction, conv2",
    RECONSTRUCTION,
)
"""The scorers whose maps are browsed image by image."""


class Ink:
    """The control without any model: how white a pixel is."""

    def fit(self, normal: Iterable[Tensor]) -> Ink:
        """Learn nothing from the normal images."""
        return self

    def score(self, images: Tensor) -> Tensor:
        """(B, H, W): the mean of the channels of (B, C, H, W)."""
        return images.mean(1)


def attention_scorers(vae: GaussianVAE) -> dict[str, AnomalyScorer]:
    """All scorers by their names: pixel baselines, the maps as published, ours, and controls."""
    scorers: dict[str, AnomalyScorer] = {
        RECONSTRUCTION: ReconstructionError(vae),
        MEAN_IMAGE: MeanImageDifference(vae),
        "control: the ink itself": Ink(),
    }
    short = {layer: layer.removeprefix("encoder.") for layer in LAYERS}
    for layer, name in short.items():
        for number, method in METHODS.items():
            for rectifier in RECTIFIERS:
                scorers[f"method {number}, {rectifier}, {name}"] = LatentAttention(
                    vae, layer, method=method, rectifier=rectifier
                )
    for layer, name in short.items():
        for baseline in BASELINES:
            to = f"{baseline.replace('_', ' ')}, {name}"
            scorers[f"method 1, abs per channel, relative to {to}"] = LatentAttention(
                vae, layer, rectifier="abs", order="channelwise", baselines=baseline
            )
            scorers[f"control: feature difference to {to}"] = FeatureDifference(
                vae, layer, baselines=baseline
            )
    return scorers
