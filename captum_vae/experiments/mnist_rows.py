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
BASELINES: dict[Baseline, str] = {
    "reconstruction": "reconstruction",
    "mean_activation": "mean activation",
}

BRIGHTNESS = "control: the ink itself"
PROTOCOL = Protocol(threshold="oracle")


class Ink:
    """The control without any model: how white a pixel is."""

    def fit(self, normal: Iterable[Tensor]) -> Ink:
        """Nothing to learn."""
        return self

    def score(self, images: Tensor) -> Tensor:
        """(B, H, W): the mean of the channels of (B, C, H, W)."""
        return images.mean(1)


def published_name(method: str, rectifier: str, layer: str) -> str:
    """Name of the row of a map as published."""
    return f"method {method}, {rectifier}, {layer.removeprefix('encoder.')}"


def relative_name(baseline: Baseline, layer: str) -> str:
    """Name of the row of a map relative to a baseline."""
    words = f"method 1, abs per channel, relative to {BASELINES[baseline]}"
    return f"{words}, {layer.removeprefix('encoder.')}"


def control_name(baseline: Baseline, layer: str) -> str:
    """Name of the row of a feature difference without latent weights."""
    words = f"control: feature difference to {BASELINES[baseline]}"
    return f"{words}, {layer.removeprefix('encoder.')}"


def attention_scorers(vae: GaussianVAE) -> dict[str, AnomalyScorer]:
    """All scorers by their names: pixel baselines, the maps as published, ours, and controls."""
    scorers: dict[str, AnomalyScorer] = {
        RECONSTRUCTION: ReconstructionError(vae),
        MEAN_IMAGE: MeanImageDifference(vae),
        BRIGHTNESS: Ink(),
    }
    for layer in LAYERS:
        for method, kind in METHODS.items():
            for rectifier in RECTIFIERS:
                scorers[published_name(method, rectifier, layer)] = LatentAttention(
                    vae, layer, method=kind, rectifier=rectifier
                )
    for layer in LAYERS:
        for baseline in BASELINES:
            scorers[relative_name(baseline, layer)] = LatentAttention(
                vae, layer, rectifier="abs", order="channelwise", baselines=baseline
            )
            scorers[control_name(baseline, layer)] = FeatureDifference(
                vae, layer, baselines=baseline
            )
    return scorers
