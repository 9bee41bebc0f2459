"""What scorers that read encoder layers share: baselines, and layers fused on one scale."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor

from captum_vae.attr.engine.layers import find_layers
from captum_vae.checks import check_choice, whole_number
from captum_vae.localization.explained import ExplainedFeatures, LatentDim, own_latent
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.options import Baseline
from captum_vae.localization.scorer import Fitting, Scale, Scorer

_EXPLAINED = "explained_"
"""Prefix of a state's entries about what a latent explains."""


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
        latent_dim: LatentDim = "auto",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Check the layers' names and the baseline's.

        Args:
            model: The VAE.
            layers: Dotted name of an encoder layer, such as ``encoder.conv3``, or several.
            baselines: What features are compared with: ``none``, those of the VAE's own
                ``reconstruction`` of the image, the ``mean_activation`` of normal images at each
                location, the features of the ``mean_image`` of normal images, or what a linear
                latent has ``explained`` of the image's own features, so that what is left is what
                it does not explain. That latent is the model's own where the model is a VAE of the
                features of this layer, and otherwise fitted to the layer's features of normal
                images in closed form; see :class:`captum_vae.models.LinearLatent`.
            latent_dim: Dimensions of the linear latent that is fitted for ``explained``; ``auto``
                takes those under which normal images that were left out are likeliest.
            posterior: How to read the posterior.
            scale: ``none``, or what maps are divided by, ``location`` or ``shrunk``; see
                :class:`captum_vae.localization.Scorer`.

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
        if latent_dim != "auto":
            whole_number("latent_dim", latent_dim, least=1, hint='or "auto"')
        self.baselines = baselines
        self.latent_dim: LatentDim = latent_dim
        self._explained: dict[str, ExplainedFeatures] = {}
        self._normal_features: dict[str, Tensor] = {}
        self._scales: dict[str, Tensor] = {}

    @abstractmethod
    def layer_map(self, shared: ModelPass, layer: str) -> Tensor:
        """The map of one layer, (B, H, W) at the images' size."""

    @abstractmethod
    def map_options(self) -> tuple[Hashable, ...]:
        """What a layer's map depends on beside class, batch, layer and baseline."""

    def fit_layers(self, normal: NormalImages) -> Fitting:
        """Learn what the map of one layer takes beside the baseline; nothing, unless overridden."""
        yield from ()

    def fit_normal(self, normal: NormalImages) -> Fitting:
        """Take the baseline's features, and each layer's scale if there are several."""
        if self.baselines == "mean_activation":
            self._normal_features = {layer: normal.mean_features(layer) for layer in self.layers}
        elif self.baselines == "mean_image":
            mean = ModelPass(normal.mean_image(), self.model, self.adapter, self.layers)
            self._normal_features = {x: mean.features(x).detach() for x in self.layers}
        elif self.baselines == "explained":
            fits = {layer: normal.explained(layer, self.latent_dim) for layer in self.layers}
            self._explained = {x: fit.own for x, fit in fits.items() if fit.own is not None}
        yield from self.fit_layers(normal)
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
        maps = [self._layer_map(shared, x) / self._fitted(self._scales.get(x)) for x in self.layers]
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
        if self.baselines == "explained":
            return self._explained_features(shared, layer)
        return self._fitted(self._normal_features.get(layer))

    def _explained_features(self, shared: ModelPass, layer: str) -> Tensor:
        """What the latent explains; of normal images, the latent that was fitted without them."""
        batch = shared.normal
        if batch is not None:
            fits = batch.images.explained(layer, self.latent_dim)
            return shared.once(
                (_EXPLAINED, layer, self.latent_dim),
                lambda: fits.explain(shared.features(layer), batch.first),
            )
        explain = own_latent(self.model, layer)
        if explain is None:
            if layer not in self._explained:
                self._fitted(None)
            explain = self._explained[layer].explain
        with torch.no_grad():
            return shared.once(
                (_EXPLAINED, layer, explain), lambda: explain(shared.features(layer))
            )

    def state_dict(self) -> dict[str, Tensor]:
        """What was learned, with the latents of ``explained``; see :meth:`Scorer.state_dict`."""
        state = super().state_dict()
        for layer, explained in self._explained.items():
            for name, tensor in explained.state_dict().items():
                state[f"{_EXPLAINED}{name}.{layer}"] = tensor
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what another scorer has learned, see :meth:`Scorer.load_state_dict`."""
        latents: dict[str, dict[str, Tensor]] = {}
        rest: dict[str, Tensor] = {}
        for key, tensor in state.items():
            name, _, layer = key.partition(".")
            if name.startswith(_EXPLAINED) and layer in self.layers:
                entries = latents.setdefault(layer, {})
                entries[name.removeprefix(_EXPLAINED)] = self._on_device(tensor)
            else:
                rest[key] = tensor
        super().load_state_dict(rest)
        found = {x: ExplainedFeatures.from_state_dict(held) for x, held in latents.items()}
        self._explained = found
