"""Distances of features from what is normal, or from what a latent explains of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_vae.attr.engine.layers import find_layers
from captum_vae.checks import check_choice
from captum_vae.localization.channel_statistics import (
    PassSums,
    channel_products,
    mahalanobis,
    mean_squares,
    nonzero_root,
    whitening,
)
from captum_vae.localization.explained import LatentDim, stacked_channels
from captum_vae.localization.layer_scorer import LayerScorer
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.options import Baseline, ChannelScale, FeatureDistance
from captum_vae.localization.scorer import Fitting, Scale


class FeatureDifference(LayerScorer):
    """How far features are from the baseline's, with no latent weight in it.

    Relative to what is normal, as ``mean_activation``, it is the control of latent attention: what
    attention gains over it, the latent may have earned, if it gains it over shuffled weights too.
    With ``baselines="explained"`` it is what a linear latent does not explain of the features, the
    strongest map that this package has on features of a frozen pretrained encoder::

        vae = LinearFeatureVAE.fit(encoder, normal_images, layers=["layer1", "layer2"])
        scorer = FeatureDifference(vae, "features", baselines="explained", distance="l2")
        maps = scorer.fit(normal_images).score(images)

    A layer that stacks several of an encoder, as ``features`` there, is measured in as many parts,
    each divided by its root mean square over normal images, like several layers.
    """

    FITTED: ClassVar[tuple[str, ...]] = (
        *LayerScorer.FITTED,
        "_channel_scales",
        "_whitening",
        "_part_scales",
    )

    def __init__(
        self,
        model: Any,
        layers: str | Sequence[str],
        *,
        baselines: Baseline = "mean_activation",
        distance: FeatureDistance = "l1",
        channel_scale: ChannelScale | None = None,
        latent_dim: LatentDim = "auto",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Choose baseline and distance.

        Args:
            model: The VAE.
            layers: Dotted name of a layer, or several to be fused.
            baselines: What features are compared with: ``reconstruction``, ``mean_activation``,
                ``mean_image`` or ``explained``, see :class:`LayerScorer`.
            distance: What is made of the channels' differences at a place: ``l1``, the mean of
                their absolute values; ``l2``, the root of the mean of their squares; or
                ``mahalanobis``, the Mahalanobis distance under one covariance for all places, from
                normal images; or ``l2_or_mahalanobis``, the larger of these two, each divided
                by its root mean square over normal images: what one misses, the other may find.
            channel_scale: ``none``, or ``normal``: each channel's difference is divided by its root
                mean square over normal images, so that channels with large numbers do not decide
                alone. None takes ``normal`` for ``explained``, and ``none`` for other baselines. It
                makes no difference to ``mahalanobis``.
            latent_dim: Dimensions of the linear latent of ``explained``, or ``auto``.
            posterior: How to read the posterior.
            scale: ``none``, or what maps are divided by, ``location`` or ``shrunk``; see
                :class:`captum_vae.localization.Scorer`.

        Raises:
            ValueError: The model has no such layer, an option is unknown, or ``baselines`` is
                ``none``, which leaves nothing to differ from.
        """
        super().__init__(
            model,
            layers,
            baselines=baselines,
            latent_dim=latent_dim,
            posterior=posterior,
            scale=scale,
        )
        if baselines == "none":
            raise ValueError(
                "baselines='none' leaves no difference; choose 'reconstruction', "
                "'mean_activation', 'mean_image' or 'explained'"
            )
        check_choice("distance", distance, get_args(FeatureDistance))
        check_choice("channel_scale", channel_scale, (None, *get_args(ChannelScale)))
        self.distance = distance
        self._whitened = distance in ("mahalanobis", "l2_or_mahalanobis")
        self._lengths = distance != "mahalanobis"
        self.channel_scale: ChannelScale = channel_scale or (
            "normal" if baselines == "explained" else "none"
        )
        self._channel_scales: dict[str, Tensor] = {}
        self._whitening: dict[str, Tensor] = {}
        self._part_scales: dict[str, Tensor] = {}
        self._parts = {
            layer: stacked_channels(module) if self._lengths else ()
            for layer, module in zip(
                self.layers, find_layers(self.model, list(self.layers)), strict=True
            )
        }

    def map_options(self) -> tuple[Hashable, ...]:
        """The options, and what was fitted for them."""
        fitted = (self._channel_scales, self._whitening, self._part_scales)
        return self.distance, *(id(tensor) for held in fitted for tensor in held.values())

    def fit_layers(self, normal: NormalImages) -> Fitting:
        """Take the channels' scales or covariance, and the scales of a layer's parts."""
        self._channel_scales, self._whitening, self._part_scales = {}, {}, {}
        scaled = self._lengths and self.channel_scale == "normal"
        if self._whitened:
            covariances = PassSums(
                lambda shared, layer: channel_products(self._difference(shared, layer))
            )
            yield covariances.adding(self.layers)
            self._whitening = {x: whitening(covariances.mean(x)) for x in self.layers}
            # The squares of the channels are the diagonal of their products.
            squares = {x: covariances.mean(x).diagonal()[:, None, None] for x in self.layers}
        elif scaled:
            sums = PassSums(lambda shared, layer: mean_squares(self._difference(shared, layer)))
            yield sums.adding(self.layers)
            squares = {x: sums.mean(x) for x in self.layers}
        if scaled:
            self._channel_scales = {x: nonzero_root(squares[x]) for x in self.layers}
        both = self._whitened and self._lengths
        apart = [layer for layer in self.layers if both or len(self._parts[layer]) > 1]
        if apart:
            parts = PassSums(lambda shared, layer: mean_squares(self._distances(shared, layer)))
            yield parts.adding(apart)
            self._part_scales = {x: nonzero_root(parts.mean(x)) for x in apart}

    def layer_map(self, shared: ModelPass, layer: str) -> Tensor:
        """The distance of a layer's features from the baseline's, (B, H, W) at images' size."""
        with torch.no_grad():
            distances = self._distances(shared, layer)
            if layer in self._part_scales:
                distances = distances / self._part_scales[layer]
            if self._whitened and self._lengths:
                distances = distances[:, :-1].mean(1, keepdim=True).maximum(distances[:, -1:])
            distance = distances.mean(1, keepdim=True)
            size = list(shared.images.shape[2:])
            return F.interpolate(distance.float(), size, mode="bilinear", align_corners=False)[:, 0]

    def _distances(self, shared: ModelPass, layer: str) -> Tensor:
        """(B, P, h, w), the distance of each of P parts of the layer, Mahalanobis last."""
        difference = self._difference(shared, layer)
        found = []
        if self._whitened:
            found.append(mahalanobis(difference, self._fitted(self._whitening.get(layer))))
        if not self._lengths:
            return found[0]
        if self.channel_scale == "normal":
            difference = difference / self._fitted(self._channel_scales.get(layer))
        parts = torch.split(difference, list(self._parts[layer]) or difference.shape[1], 1)
        if self.distance == "l1":
            lengths = [part.abs().mean(1, keepdim=True) for part in parts]
        else:
            lengths = [part.square().mean(1, keepdim=True).sqrt() for part in parts]
        return torch.cat([*lengths, *found], 1)

    def _difference(self, shared: ModelPass, layer: str) -> Tensor:
        """A - A(baseline), (B, K, h, w)."""
        origin = self.origin(shared, layer)
        assert origin is not None
        return shared.features(layer) - origin


class Mahalanobis(FeatureDifference):
    """Mahalanobis distance of features under one covariance that all places share.

    At every place the mean of normal images is its own; the covariance of the channels is one, over
    all places of all normal images, so that it is well determined by few of them. That is what
    PaDiM does with a covariance for each place (Defard et al. 2021), at a tenth of the cost. With
    ``baselines="explained"`` the distance is of what a linear latent does not explain.
    """

    def __init__(
        self,
        model: Any,
        layers: str | Sequence[str],
        *,
        baselines: Baseline = "mean_activation",
        latent_dim: LatentDim = "auto",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Name layers and baseline, see :class:`FeatureDifference`.

        Raises:
            ValueError: The model has no such layer, or an option is unknown.
        """
        super().__init__(
            model,
            layers,
            baselines=baselines,
            distance="mahalanobis",
            latent_dim=latent_dim,
            posterior=posterior,
            scale=scale,
        )
