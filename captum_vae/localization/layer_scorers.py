"""Scorers that read encoder layers: latent attention, and its control without latent weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_vae.attr.engine.gradients import PassSettings
from captum_vae.attr.engine.layers import find_layers
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
from captum_vae.checks import check_choice, whole_number
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.options import Baseline
from captum_vae.localization.scorer import Fitting, Scale, Scorer

Method = Literal["per_dimension", "mean_sum", "normal_difference"]


class LayerScorer(Scorer):
    """Maps of one layer, or of several fused on a scale learned from normal images.

    With several layers, each one's map is resized to the image, divided by its root mean square
    over the normal images, and the mean is taken; otherwise the layer with the largest numbers
    would decide alone.
    """

    FITTED: ClassVar[tuple[str, ...]] = (*Scorer.FITTED, "_normal_features", "_scales")

    def __init__(
        self,
        model: Any,
        layers: str | Sequence[str],
        *,
        baselines: Baseline = "mean_activation",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Check the layers' names and the baseline's.

        Args:
            model: The VAE.
            layers: Dotted name of an encoder layer, such as ``encoder.conv3``, or several.
            baselines: What features are compared with: ``none``, those of the VAE's own
                ``reconstruction`` of the image, the ``mean_activation`` of normal images at each
                location, or the features of the ``mean_image`` of normal images.
            posterior: How to read the posterior.
            scale: ``none``, or ``location``: divide by the root mean square over normal images.

        Raises:
            ValueError: No such layer, or another baseline.
        """
        super().__init__(model, posterior=posterior, scale=scale)
        given = (layers,) if isinstance(layers, str) else layers
        if not isinstance(given, Sequence) or not all(isinstance(name, str) for name in given):
            raise TypeError(
                f"layers={layers!r} names no layers; give a dotted name such as 'encoder.conv3', "
                "or a list of them"
            )
        self.layers = tuple(given)
        check_choice("baselines", baselines, get_args(Baseline))
        find_layers(self.model, list(self.layers))
        self.baselines = baselines
        self._normal_features: dict[str, Tensor] | None = None
        self._scales: dict[str, Tensor] = {}

    @abstractmethod
    def layer_map(self, shared: ModelPass, layer: str) -> Tensor:
        """The map of one layer, (B, H, W) at the images' size."""

    @abstractmethod
    def map_options(self) -> tuple[Hashable, ...]:
        """What a layer's map depends on beside class, batch, layer and baseline."""

    def fit_normal(self, normal: NormalImages) -> Fitting:
        """Take the baseline's features, and each layer's scale if there are several."""
        if self.baselines == "mean_activation":
            self._normal_features = {layer: normal.mean_features(layer) for layer in self.layers}
        elif self.baselines == "mean_image":
            mean = ModelPass(normal.mean_image(), self.model, self.adapter, self.layers)
            self._normal_features = {x: mean.features(x).detach() for x in self.layers}
        if len(self.layers) == 1:
            return
        squares = dict.fromkeys(self.layers, torch.zeros((), dtype=torch.float64))
        pixels = 0

        def add(shared: ModelPass) -> None:
            nonlocal pixels
            for layer in self.layers:
                found = self._layer_map(shared, layer).double().square().sum()
                squares[layer] = squares[layer] + found.cpu()
            pixels += len(shared.images) * shared.images[0, 0].numel()

        yield add
        self._scales = {x: (total / pixels).sqrt() for x, total in squares.items()}
        silent = [layer for layer, scale in self._scales.items() if scale == 0]
        if silent:
            raise ValueError(
                f"layers {silent} give an all-zero map for every normal image, which has no scale "
                "to fuse on; leave them out"
            )

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """The layer's map, or the mean of several on their common scale."""
        if len(self.layers) == 1:
            return self._layer_map(shared, self.layers[0])
        if not self._scales:
            self._fitted(None)
        maps = [self._layer_map(shared, x) / self._scales[x] for x in self.layers]
        return torch.stack(maps).mean(0)

    def _layer_map(self, shared: ModelPass, layer: str) -> Tensor:
        """The map of one layer, which scorers that differ in scale or other layers share."""
        origin = self.origin(shared, layer)
        # Scorers fitted together hold the same tensors; nobody lets go of one during a pass.
        key = (type(self), *self.map_options(), layer, id(origin))
        return shared.once(key, lambda: self.layer_map(shared, layer))

    def origin(self, shared: ModelPass, layer: str) -> Tensor | None:
        """A(baseline), (B or 1, K, h, w), or None."""
        if self.baselines == "none":
            return None
        if self.baselines == "reconstruction":
            return shared.features_of_reconstruction(layer)
        if self._normal_features is None:
            self._fitted(None)
        assert self._normal_features is not None
        return self._normal_features[layer]


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
        n_steps: int = 4,
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
                ``mean_activation`` or ``mean_image``.
            n_steps: Points on the path of ``weighting="integrated"``.
            posterior: How to read the posterior.
            scale: ``none``, or ``location``: divide by the root mean square over normal images.

        Raises:
            ValueError: An unknown option, or one that does not give one map per image.
        """
        super().__init__(model, layers, baselines=baselines, posterior=posterior, scale=scale)
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
        self.method = method
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
        return self.method, own, self.options, self.n_steps

    def layer_map(self, shared: ModelPass, layer: str) -> Tensor:
        """The aggregated attention map of one layer at the images' size, (B, H, W)."""
        run = shared.run.explaining(
            lambda posterior: self._cam.codes(posterior, None), shared.place(layer)
        )
        # Pooled weights serve every variant of a method. Those of a normal difference, which has
        # statistics of its own, serve this scorer alone.
        share = self if self.method == "normal_difference" else self.method
        (maps,) = compose_maps(
            run,
            self.options,
            PassSettings(n_steps=self.n_steps),
            origins=[self.origin(shared, layer)],
            size="input",
            share=share,
        )
        return maps[:, 0]


class FeatureDifference(LayerScorer):
    """The control: how far features are from the baseline's, with no latent weight in it.

    The mean over channels of abs(A(x) - A(baseline)). What latent attention gains over this, the
    latent has earned; the rest is the feature difference.
    """

    def __init__(
        self,
        model: Any,
        layers: str | Sequence[str],
        *,
        baselines: Baseline = "mean_activation",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Name layers and baseline, see :class:`LayerScorer`.

        Raises:
            ValueError: The model has no such layer, ``scale`` is unknown, or ``baselines`` is
                unknown or ``none``, which leaves nothing to differ from.
        """
        super().__init__(model, layers, baselines=baselines, posterior=posterior, scale=scale)
        if baselines == "none":
            raise ValueError(
                "baselines='none' leaves no difference; choose 'reconstruction', "
                "'mean_activation' or 'mean_image'"
            )

    def map_options(self) -> tuple[Hashable, ...]:
        """None; class, layer and baseline say it all."""
        return ()

    def layer_map(self, shared: ModelPass, layer: str) -> Tensor:
        """Mean over channels of abs(A - A(baseline)) at the images' size, (B, H, W)."""
        origin = self.origin(shared, layer)
        assert origin is not None
        with torch.no_grad():
            distance = (shared.features(layer) - origin).abs().mean(1, keepdim=True)
            size = list(shared.images.shape[2:])
            return F.interpolate(distance.float(), size, mode="bilinear", align_corners=False)[:, 0]
