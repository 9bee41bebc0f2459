"""Latent attention of encoder layers as an anomaly score."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from captum_vae.attr.engine.gradients import PassSettings
from captum_vae.attr.engine.maps import compose_maps
from captum_vae.attr.latent_grad_cam import LatentGradCAM, MeanSumGradCAM
from captum_vae.attr.normal_difference import Difference, NormalDifferenceGradCAM
from captum_vae.attr.options import (
    Aggregate,
    Order,
    Preset,
    Rectifier,
    Reduction,
    Weighting,
    resolve_options,
)
from captum_vae.checks import check_choice, checked_seed, whole_number
from captum_vae.localization.explained import LatentDim
from captum_vae.localization.layer_scorer import LayerScorer
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.options import Baseline, Weights
from captum_vae.localization.scorer import Fitting, Scale

Method = Literal["per_dimension", "mean_sum", "normal_difference"]


class LatentAttention(LayerScorer):
    """Latent Grad-CAM as an anomaly score, in every variant of ``captum_vae.attr``.

    Example::

        >>> scorer = LatentAttention(vae, "encoder.conv3", rectifier="abs", order="channelwise")
        >>> maps = scorer.fit(loader_of_normal_images).score(images)
    """

    FITTED: ClassVar[tuple[str, ...]] = (
        *LayerScorer.FITTED,
        "_posterior_mean",
        "_posterior_variance",
    )

    def __init__(
        self,
        model: Any,
        layers: str | Sequence[str],
        *,
        method: Method = "per_dimension",
        difference: Difference = "mean",
        preset: Preset = "paper",
        rectifier: Rectifier | None = None,
        order: Order | None = None,
        reduction: Reduction | None = None,
        weighting: Weighting | None = None,
        aggregate: Aggregate = "mean",
        baselines: Baseline = "none",
        latent_dim: LatentDim = "auto",
        weights: Weights = "latent",
        n_steps: int = 4,
        seed: int = 0,
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Choose the variant.

        Args:
            model: The VAE.
            layers: Dotted name of an encoder layer, or several to be fused.
            method: ``per_dimension`` (the paper's method 1), ``mean_sum`` (method 2) or
                ``normal_difference`` (Eq. 4).
            difference: Which normal difference: ``mean``, ``sample`` or ``mahalanobis``.
            preset: ``paper``, ``authors``, ``replication_a`` or ``replication_b``; each option that
                follows replaces the preset's own.
            rectifier: ``relu``, ``abs``, ``sigmoid`` or ``none``.
            order: ``after_sum``, ``channelwise`` or ``after_upsampling``.
            reduction: What becomes of the channels: their ``sum`` or their ``mean``.
            weighting: ``pooled``, ``elementwise`` or ``integrated``.
            aggregate: What becomes of the latent dimensions' maps: their ``mean``, ``max`` or
                ``sum``.
            baselines: What features are compared with: ``none``, ``reconstruction``,
                ``mean_activation``, ``mean_image`` or ``explained``, see :class:`LayerScorer`.
            latent_dim: Dimensions of the linear latent of ``explained``, or ``auto``.
            weights: ``latent``, or ``shuffled``: each channel gets the weights of another one, the
                same for all images and dimensions. That is the random-weights control: what
                attention gains over it, the latent's weights have earned, not their spread.
            n_steps: Points on the path of ``weighting="integrated"``.
            seed: Seed of the shuffling.
            posterior: How to read the posterior.
            scale: ``none``, or what maps are divided by, ``location`` or ``shrunk``; see
                :class:`captum_vae.localization.Scorer`.

        Raises:
            ValueError: An unknown option, or one that does not give one map per image.
        """
        super().__init__(
            model,
            layers,
            baselines=baselines,
            latent_dim=latent_dim,
            posterior=posterior,
            scale=scale,
        )
        check_choice("method", method, get_args(Method))
        self.options = resolve_options(
            preset,
            rectifier=rectifier,
            order=order,
            reduction=reduction,
            weighting=weighting,
            aggregate=aggregate,
        )
        if self.options.reduction == "none" or self.options.aggregate == "none":
            raise ValueError(
                "a scorer gives one map per image: choose reduction 'sum' or 'mean' and aggregate "
                "'mean', 'max' or 'sum'"
            )
        check_choice("weights", weights, get_args(Weights))
        self.method = method
        self.weights = weights
        self.seed = checked_seed(seed)
        self.n_steps = whole_number("n_steps", n_steps, least=1)
        names = list(self.layers)
        self._cam: LatentGradCAM
        if method == "normal_difference":
            self._cam = NormalDifferenceGradCAM(
                self.model, names, posterior=self.adapter, difference=difference
            )
        else:
            kind = LatentGradCAM if method == "per_dimension" else MeanSumGradCAM
            self._cam = kind(self.model, names, posterior=self.adapter)
        self._posterior_mean: Tensor | None = None
        self._posterior_variance: Tensor | None = None

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what another scorer has learned, see :meth:`Scorer.load_state_dict`."""
        super().load_state_dict(state)
        if isinstance(self._cam, NormalDifferenceGradCAM):
            self._cam.normal_mean = self._posterior_mean
            self._cam.normal_variance = self._posterior_variance

    def fit_normal(self, normal: NormalImages) -> Fitting:
        """Also take the normal class's posterior, for the normal difference."""
        if isinstance(self._cam, NormalDifferenceGradCAM):
            self._cam.fit(normal)
            self._posterior_mean = self._cam.normal_mean
            self._posterior_variance = self._cam.normal_variance
        yield from super().fit_normal(normal)

    def map_options(self) -> tuple[Hashable, ...]:
        """Method and variant; a normal difference has statistics of its own."""
        own = self if self.method == "normal_difference" else None
        return self.method, own, self.options, self.n_steps, self.weights, self.seed

    def layer_map(self, shared: ModelPass, layer: str) -> Tensor:
        """The aggregated attention map of one layer at the images' size, (B, H, W)."""
        # Pooled weights serve every variant of a method. Those of a normal difference, which has
        # statistics of its own, serve this scorer alone.
        share = self if self.method == "normal_difference" else self.method
        origin = self.origin(shared, layer)
        parts = []
        for images, block in shared.blocks:
            run = block.explaining(
                lambda posterior: self._cam.codes(posterior, None), shared.place(layer)
            )
            own = origin if origin is None or len(origin) == 1 else origin[images]
            (maps,) = compose_maps(
                run,
                self.options,
                PassSettings(n_steps=self.n_steps),
                origins=[own],
                size="input",
                share=share,
                shuffle=self.seed if self.weights == "shuffled" else None,
            )
            parts.append(maps[:, 0])
        return parts[0] if len(parts) == 1 else torch.cat(parts)
