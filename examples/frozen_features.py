"""Localize anomalies with your own frozen encoder: five lines from images to maps.

    python examples/frozen_features.py [--weights FILE] [--backbone tf_efficientnet_lite0]

Without ``--weights`` the encoder is a small network with random weights, and the images are
digits with painted defects, so that the program runs anywhere. With a local file of weights for a
timm backbone, which ``python -m benchmarks.pretrained lite0.safetensors`` writes for one of them,
it is as frozen features are meant.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_vae.data import OneClassDigits, SyntheticDefects
from captum_vae.localization import (
    ConstantMap,
    FeatureDifference,
    LatentAttention,
    Mahalanobis,
    Protocol,
    benchmark,
)
from captum_vae.models import LinearFeatureVAE


class MyEncoder(nn.Module):
    """Stands for an encoder of yours; any module whose layers have names will do."""

    def __init__(self) -> None:
        """Two stages of random filters."""
        super().__init__()
        torch.manual_seed(0)
        self.stage1 = nn.Sequential(nn.Conv2d(3, 24, 5, 2, 2), nn.BatchNorm2d(24), nn.ReLU())
        self.stage2 = nn.Sequential(nn.Conv2d(24, 48, 5, 2, 2), nn.BatchNorm2d(48), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 48, h, w) of images (B, 3, H, W)."""
        features: Tensor = self.stage2(self.stage1(x))
        return features


def localize(encoder: nn.Module, layers: list[str], good: Tensor, new: Tensor) -> Tensor:
    """The five lines: maps (B, H, W) of new images, from an encoder and good images alone."""
    vae = LinearFeatureVAE.fit(encoder, good, layers=layers)
    scorer = FeatureDifference(vae, "features", baselines="explained", distance="l2")
    return scorer.fit(good).score(new)


def compare(vae: LinearFeatureVAE, good: OneClassDigits, test: SyntheticDefects) -> None:
    """The same map beside others on the same features, and beside floor and controls."""
    attention = {"rectifier": "abs", "order": "channelwise", "baselines": "mean_activation"}
    scorers = {
        "unexplained (L2)": FeatureDifference(
            vae, "features", baselines="explained", distance="l2"
        ),
        "unexplained (L1)": FeatureDifference(vae, "features", baselines="explained"),
        "Mahalanobis": Mahalanobis(vae, "features"),
        "control: feature difference": FeatureDifference(vae, "features"),
        "latent attention": LatentAttention(vae, "features", **attention),
        "the same, weights shuffled": LatentAttention(
            vae, "features", weights="shuffled", **attention
        ),
        "floor: constant map": ConstantMap(vae),
    }
    protocol = Protocol(smoothing=1.0)
    print(benchmark(scorers, good, test, protocol=protocol, against="unexplained (L2)"))


def main() -> None:
    """Fit on good digits, score digits with painted defects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    options = parser.parse_args()

    good = OneClassDigits("train", digits=[3], image_size=64, image_channels=3)
    held_out = OneClassDigits("test", digits=[3], image_size=64, image_channels=3)
    test = SyntheticDefects(held_out, area=(0.01, 0.05), seed=0)
    images = torch.stack([sample.image for sample in good])
    new = torch.stack([sample.image for sample in test])

    if options.weights is None:
        encoder = MyEncoder()
        maps = localize(encoder, ["stage1", "stage2"], images, new)
        vae = LinearFeatureVAE.fit(encoder, images, layers=["stage1", "stage2"])
    else:
        vae = LinearFeatureVAE.fit(options.backbone, images, weights=options.weights)
        scorer = FeatureDifference(vae, "features", baselines="explained", distance="l2")
        maps = scorer.fit(images).score(new)
    print(f"{len(maps)} maps of {tuple(maps.shape[1:])} pixels from {vae.latent_dims} dimensions")
    compare(vae, good, test)


if __name__ == "__main__":
    main()
