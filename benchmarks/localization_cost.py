"""What anomaly maps of frozen features cost: processor time of fitting, and of one image's map.

    python -m benchmarks.localization_cost --weights lite0.safetensors --out cost_features.json

One thread, random images of 256 x 256 pixels (no map's cost depends on what is on them). The
encoder's pass over a batch is timed by itself; each map's time is what it takes after that, up to a
map of the image's size, unsmoothed. Fitting is timed after the features too. Ratios are to the
default map's, timed in turn with each in every round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.pairing import spread, timed
from benchmarks.peers import PaDiM, PatchCore
from captum_vae.files import write_json
from captum_vae.localization import (
    ConstantMap,
    FeatureDifference,
    LatentAttention,
    Mahalanobis,
    Scorer,
)
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.models import LinearFeatureVAE
from captum_vae.provenance import run_record

BATCH = 16
DEFAULT = "unexplained features, L2"


def makers(vae: LinearFeatureVAE) -> dict[str, Callable[[], Scorer]]:
    """The scorers of ``*_features.yaml`` by their titles, and the peers."""
    attention: Any = {"rectifier": "abs", "order": "channelwise", "baselines": "mean_activation"}
    return {
        DEFAULT: lambda: FeatureDifference(vae, "features", baselines="explained", distance="l2"),
        "unexplained features, L1": lambda: FeatureDifference(
            vae, "features", baselines="explained"
        ),
        "unexplained features, Mahalanobis": lambda: Mahalanobis(
            vae, "features", baselines="explained"
        ),
        "Mahalanobis": lambda: Mahalanobis(vae, "features"),
        "control: feature difference": lambda: FeatureDifference(
            vae, "features", channel_scale="normal"
        ),
        "latent attention": lambda: LatentAttention(vae, "features", **attention),
        "floor: constant map": lambda: ConstantMap(vae),
        "PaDiM": lambda: PaDiM(vae),
        "PatchCore": lambda: PatchCore(vae),
    }


cpu_seconds = partial(timed, clock="cpu")
"""Processor time of one call."""


def fit_seconds(make: Callable[[], Scorer], normal: NormalImages) -> tuple[Scorer, float]:
    """A scorer fitted on normal images whose features are known, and the time it took."""
    scorer = make()
    return scorer, cpu_seconds(lambda: scorer.fit(normal))


def pass_of(vae: LinearFeatureVAE, scorer: Scorer, images: Tensor) -> ModelPass:
    """A pass whose features are computed."""
    shared = ModelPass(images, vae, scorer.adapter, ("features",))
    shared.features("features")
    return shared


def again(shared: ModelPass) -> ModelPass:
    """A pass with the same features, of which nothing else is known."""
    fresh = ModelPass(shared.images, shared.model, shared.adapter, shared.layers)
    vars(fresh)["blocks"] = [(some, replace(run, kept={})) for some, run in shared.blocks]
    return fresh


def with_features(known: NormalImages, vae: LinearFeatureVAE, scorer: Scorer) -> NormalImages:
    """The same normal images with their features and means, of which nothing else is known."""
    fresh = NormalImages(known._batches, vae, scorer.adapter, known.layers)
    vars(fresh)["_statistics"] = known._statistics
    fresh._features = known._features
    return fresh


def measure(vae: LinearFeatureVAE, normal: Tensor, rounds: int) -> dict[str, Any]:
    """Rows of fitting and scoring times, and the encoder's time per image."""
    images = torch.rand(BATCH, *normal.shape[1:], generator=torch.Generator().manual_seed(1))
    fitted: dict[str, Scorer] = {}
    fits: dict[str, float] = {}
    some = makers(vae)[DEFAULT]()
    known = NormalImages(normal.split(BATCH), vae, some.adapter, ("features",))
    known.mean_image()
    known._features = known._keep_features()
    for title, make in makers(vae).items():
        fitted[title], fits[title] = fit_seconds(make, with_features(known, vae, make()))
    first = fitted[DEFAULT]
    times: dict[str, list[float]] = {title: [] for title in fitted}
    ratios: dict[str, list[float]] = {title: [] for title in fitted}
    encoder = []
    for _ in range(rounds):
        encoder.append(cpu_seconds(lambda: pass_of(vae, first, images)) / BATCH)
        shared = pass_of(vae, first, images)
        for title, scorer in fitted.items():
            passes = again(shared), again(shared)
            default = cpu_seconds(lambda passes=passes: first.score_pass(passes[0]))
            own = cpu_seconds(lambda s=scorer, passes=passes: s.score_pass(passes[1]))
            times[title].append(own / BATCH)
            ratios[title].append(own / default)
    rows = [
        {
            "map": title,
            "CPU ms per image": round(1000 * spread(times[title])["median"], 2),
            "times the default": {k: round(v, 2) for k, v in spread(ratios[title]).items()},
            "CPU s of fitting": round(fits[title], 2),
        }
        for title in fitted
    ]
    return {"encoder CPU ms per image": round(1000 * spread(encoder)["median"], 1), "rows": rows}


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a local file; without it the weights are random")
    parser.add_argument("--images", type=int, default=209)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    normal = torch.rand(options.images, 3, 256, 256, generator=generator)
    vae = LinearFeatureVAE("tf_efficientnet_lite0", weights=options.weights, latent_dims=32).eval()
    vae_fit = cpu_seconds(lambda: vae.fit_closed_form(normal, batch_size=BATCH))
    result = {
        **run_record(torch.device("cpu"), seed=0),
        "encoder": "tf_efficientnet_lite0, strides 4, 8 and 16 on a 32 x 32 grid, 256 pixels",
        "latent dimensions": vae.latent_dims,
        "normal images": options.images,
        "CPU s of fitting the linear VAE, encoder included": round(vae_fit, 1),
        **measure(vae, normal, options.rounds),
    }
    write_json(options.out, result)


if __name__ == "__main__":
    main()
