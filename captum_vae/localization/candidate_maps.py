"""The scorers of all candidates for a choice, the default first."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from captum_vae.localization.candidates import Candidates, Family
from captum_vae.localization.feature_scorers import FeatureDifference, Mahalanobis
from captum_vae.localization.layer_scorers import LatentAttention
from captum_vae.localization.options import (
    RESIDUAL_DISTANCE,
    Baseline,
    FeatureDistance,
    ScoreScale,
)
from captum_vae.localization.pixel_scorers import MeanImageDifference, ReconstructionError
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.models.feature_space import FeatureSpaceVAE
from captum_vae.posterior import PosteriorAdapter, as_adapter

Variants = Mapping[str, tuple[AnomalyScorer, Protocol]]
"""Candidates by their options in words, each with its scorer and its protocol; the first is the
default."""


def candidate_scorers(
    candidates: Candidates, model: Any, *, posterior: Any = None, protocol: Protocol | None = None
) -> dict[str, tuple[AnomalyScorer, Protocol]]:
    """Build the scorer of every candidate; those that differ in smoothing alone share one.

    Args:
        candidates: The options to combine.
        model: The VAE.
        posterior: How to read its posterior, see :class:`~captum_vae.posterior.PosteriorAdapter`.
        protocol: How maps are compared with masks, its smoothing replaced by the candidate's.

    Returns:
        Scorer and protocol by the candidate's options in words, as :func:`benchmark` takes them.
        The first is the default: of the first family, with the middle one of the smoothings, the
        reconstruction as baseline if it is one, and the scale that is chosen among.

    Raises:
        ValueError: The model has no such layer, a candidate is named twice, or no family suits the
            model.
    """
    adapter = as_adapter(model, posterior)
    scorers: list[tuple[str, AnomalyScorer]] = []
    for family in dict.fromkeys(candidates.families):
        # A VAE of features decodes features: there is no image to compare with.
        if family == "reconstruction_error" and isinstance(model, FeatureSpaceVAE):
            continue
        scorers += _FAMILY_SCORERS[family](candidates, model, adapter)
    if not scorers:
        raise ValueError(
            f"choose_among.families holds {', '.join(candidates.families)}, none of which suits "
            f"a {type(model).__name__}; add another"
        )
    middle = candidates.smoothing[len(candidates.smoothing) // 2]
    order = sorted(dict.fromkeys(candidates.smoothing), key=lambda sigma: sigma != middle)
    named = [
        (words, scorer, order if n == 0 else candidates.smoothing)
        for n, (words, scorer) in enumerate(scorers)
    ]
    found: dict[str, tuple[AnomalyScorer, Protocol]] = {}
    for words, scorer, sigmas in named:
        for sigma in sigmas:
            name = f"{words}, sigma {sigma:g}"
            if name in found:
                raise ValueError(f"choose_among gives the variant {name!r} twice")
            found[name] = (scorer, replace(protocol or Protocol(), smoothing=sigma))
    return found


Scorers = list[tuple[str, AnomalyScorer]]

_RESIDUALS: tuple[FeatureDistance, ...] = (RESIDUAL_DISTANCE, "l2", "mahalanobis", "l1")
"""Distances of the explained residual, the default first."""


def _fused(candidates: Candidates) -> list[list[str]]:
    """The layers that a family reads: all of them fused, or one after another."""
    if candidates.fused or len(candidates.layers) == 1:
        return [list(candidates.layers)]
    return [[layer] for layer in candidates.layers]


def _explained_residual(candidates: Candidates, model: Any, adapter: PosteriorAdapter) -> Scorers:
    # The larger of both first. L2 and Mahalanobis distances fail on different sets. The larger,
    # each on the scale of normal images, was near the better one on all sets looked at, which
    # docs/localization.md names; the mean was not on features trained from scratch.
    return [
        (
            f"explained residual {distance}, {'+'.join(layers)}",
            FeatureDifference(
                model, layers, baselines="explained", distance=distance, posterior=adapter
            ),
        )
        for layers in _fused(candidates)
        for distance in _RESIDUALS
    ]


def _feature_difference(candidates: Candidates, model: Any, adapter: PosteriorAdapter) -> Scorers:
    found: Scorers = []
    for layers in _fused(candidates):
        for baseline in _baselines(candidates, model):
            if baseline != "none":
                build = partial(
                    FeatureDifference, model, layers, baselines=baseline, posterior=adapter
                )
                words = f"feature difference, {'+'.join(layers)}, {baseline}"
                found += _scaled(words, candidates, build)
    return found


def _mahalanobis(candidates: Candidates, model: Any, adapter: PosteriorAdapter) -> Scorers:
    found: Scorers = []
    for layers in _fused(candidates):
        build = partial(Mahalanobis, model, layers, posterior=adapter)
        found += _scaled(f"mahalanobis, {'+'.join(layers)}", candidates, build)
    return found


def _latent_attention(candidates: Candidates, model: Any, adapter: PosteriorAdapter) -> Scorers:
    layers: list[str | list[str]] = [*candidates.layers]
    if candidates.fused and len(candidates.layers) > 1:
        layers.append(list(candidates.layers))
    return [
        (
            f"{layer if isinstance(layer, str) else '+'.join(layer)}, {rectifier}, {weighting}, "
            f"{baseline}, scale {scale}",
            LatentAttention(
                model,
                layer,
                rectifier=rectifier,
                order="channelwise",
                weighting=weighting,
                baselines=baseline,
                scale=scale,
                posterior=adapter,
            ),
        )
        for layer, rectifier, weighting, baseline, scale in itertools.product(
            layers,
            candidates.rectifiers,
            candidates.weightings,
            _baselines(candidates, model),
            candidates.offered_scales,
        )
    ]


def _baselines(candidates: Candidates, model: Any) -> list[Baseline]:
    """The baselines that the model has, first the reconstruction, which follows what moves.

    A VAE of features reconstructs no image.
    """
    given = sorted(candidates.baselines, key=lambda baseline: baseline != "reconstruction")
    if isinstance(model, FeatureSpaceVAE):
        return [baseline for baseline in given if baseline != "reconstruction"]
    return given


def _scaled(words: str, candidates: Candidates, build: Callable[..., AnomalyScorer]) -> Scorers:
    """A kind of map in each scale where there is no explained residual, else unscaled."""
    residual = "explained_residual" in candidates.families
    scales: list[ScoreScale] = ["none"] if residual else candidates.offered_scales
    return [
        (words if scale == "none" else f"{words}, scale {scale}", build(scale=scale))
        for scale in scales
    ]


def _mean_image(candidates: Candidates, model: Any, adapter: PosteriorAdapter) -> Scorers:
    build = partial(MeanImageDifference, model, distance="absolute", posterior=adapter)
    return _scaled("mean image", candidates, build)


def _reconstruction_error(candidates: Candidates, model: Any, adapter: PosteriorAdapter) -> Scorers:
    build = partial(ReconstructionError, model, distance="absolute", posterior=adapter)
    return _scaled("reconstruction error", candidates, build)


_FAMILY_SCORERS: dict[Family, Callable[[Candidates, Any, PosteriorAdapter], Scorers]] = {
    "explained_residual": _explained_residual,
    "feature_difference": _feature_difference,
    "mahalanobis": _mahalanobis,
    "latent_attention": _latent_attention,
    "mean_image": _mean_image,
    "reconstruction_error": _reconstruction_error,
}
