"""One batch through a VAE, and a set of normal images: computed once for every scorer that asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, cat, nn

from captum_vae.attr.arguments import image_batches
from captum_vae.attr.engine.forward_pass import (
    ForwardPass,
    look_at_layers,
    run_layers,
)
from captum_vae.attr.engine.layers import find_layers
from captum_vae.attr.reconstruction import reconstruct
from captum_vae.localization.explained import HeldOutFits, LatentDim, fit_held_out
from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.read_back import is_traced

_IMAGE = ""
"""Key of the mean image; no layer has an empty name."""

_FEATURES = "features"
"""Key of a layer's features of all images of a pass."""

_WEIGHTS_KEPT = 64 * 2**20
"""Bytes of channel weights of normal images that are kept between passes over them."""

_BLOCK = 2**19
"""Bytes of images on a CPU whose weights are computed at once: what lies between features and
latent takes a hundred times as much for every dimension."""

_FEWEST = 2
"""Images that are computed at once however large they are."""

Weights = dict[int, dict[Any, Tensor]]
"""Channel weights of the images of a pass: by number of the block, by layer and method."""

KeptWeights = dict[Hashable, dict[int, Weights]]
"""Weights of a data set's batches by what tells apart scorers that share no calls, and by the place
of a batch's first image. Passes that share them have the same batches."""

_FEATURES_KEPT = 10**9
"""Bytes of features of normal images that are kept for the fits of a linear latent."""


class ModelPass:
    """What one call of the VAE gives for one batch; each part is computed on first use and kept.

    Scorers that look at the same batch share it: the encoder runs once for all of them, and once
    more for the reconstruction's features.

    Attributes:
        images: (B, C, H, W).
        model: The VAE.
        adapter: Reads its posterior.
        layers: Dotted names of the layers whose features are kept, perhaps none.
    """

    def __init__(
        self,
        images: Tensor,
        model: Any,
        adapter: PosteriorAdapter,
        layers: Sequence[str] = (),
        *,
        weights: Weights | None = None,
        normal: NormalBatch | None = None,
    ) -> None:
        """Name the batch and the layers; nothing runs yet.

        Args:
            images: (B, C, H, W).
            model: The VAE.
            adapter: Reads its posterior.
            layers: Dotted names of the layers whose features are kept.
            weights: Channel weights of these images from an earlier pass, to which those found
                now are added; None keeps them for this pass alone.
            normal: Which of the normal images these are, that scorers are being fitted on.
        """
        self.images = images
        self.model = model
        self.adapter = adapter
        self.layers = tuple(layers)
        self.normal = normal
        self._weights: Weights = {} if weights is None else weights
        self._found: dict[Hashable, Tensor] = {}

    @cached_property
    def run(self) -> ForwardPass:
        """The encoder's call, with the graph from the features of ``layers`` on."""
        layers = find_layers(self.model, list(self.layers))
        run = run_layers(self.adapter, layers, (self.images,))
        return replace(run, kept=self._weights.setdefault(0, {}))

    @cached_property
    def blocks(self) -> list[tuple[slice, ForwardPass]]:
        """The encoder's calls, some images at a time, and which images they are.

        Weights of all latent dimensions take much memory for each image, and computing them is no
        faster for many images than for few on a CPU.
        """
        if self.images.device.type != "cpu" or is_traced():
            return [(slice(None), self.run)]
        count = len(self.images)
        step = max(_FEWEST, _BLOCK * count // max(1, _bytes({0: self.images})))
        if step >= count:
            return [(slice(None), self.run)]
        layers = find_layers(self.model, list(self.layers))
        places = [slice(start, start + step) for start in range(0, count, step)]
        found = []
        for number, some in enumerate(places):
            run = run_layers(self.adapter, layers, (self.images[some],))
            found.append((some, replace(run, kept=self._weights.setdefault(number, {}))))
        return found

    @cached_property
    def posterior(self) -> Posterior:
        """The posterior of the images; with a graph if ``layers`` are kept in one block."""
        if self.layers and len(self.blocks) == 1:
            assert self.run.posterior is not None
            return self.run.posterior
        with torch.no_grad():
            return self.adapter.look(self.images)

    @cached_property
    def reconstruction(self) -> Tensor:
        """(B, C, H, W) from the posterior mean, on the images' scale, detached."""
        return reconstruct(self.adapter, (self.images,), self.posterior)

    def features(self, layer: str) -> Tensor:
        """A (B, K, h, w) of one of ``layers``, detached."""
        if self.normal is not None and layer in self.normal.features:
            return self.normal.features[layer]
        place = self.place(layer)
        parts = [run.features[place].detach() for _, run in self.blocks]
        return parts[0] if len(parts) == 1 else self.once((_FEATURES, layer), lambda: cat(parts))

    def features_of_reconstruction(self, layer: str) -> Tensor:
        """A(reconstruction) (B, K, h, w) of one of ``layers``, detached."""
        return self._reconstruction_features[self.place(layer)]

    def once(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` gives, computed for the first scorer that asks under ``key``.

        Args:
            key: Everything that the result depends on beside this batch.
            compute: Computes it.
        """
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    @cached_property
    def _reconstruction_features(self) -> tuple[Tensor, ...]:
        return _look(self.model, self.adapter, self.layers, self.reconstruction)

    def place(self, layer: str) -> int:
        """Where a layer stands among ``layers``.

        Raises:
            ValueError: It is not among them.
        """
        if layer not in self.layers:
            raise ValueError(
                f"layer {layer!r} is not among the pass's layers {list(self.layers)}; name it in "
                "the scorer's `layers`"
            )
        return self.layers.index(layer)


@dataclass(frozen=True)
class NormalBatch:
    """Which of the normal images a pass is over.

    Attributes:
        images: All of the normal images.
        first: Place of the batch's first image among them.
        features: Features of the batch by layer, as far as they are kept.
    """

    images: NormalImages
    first: int
    features: dict[str, Tensor]


class NormalImages:
    """Normal images to fit scorers on, and the means over them, each taken once.

    Args:
        batches: Normal images (B, C, H, w) or things that begin with them, as a DataLoader gives;
            they are gone through several times.
        model: The VAE.
        adapter: Reads its posterior.
        layers: Dotted names of the layers that scorers will ask for.
        device: Where the images are brought to; None leaves them.
        progress: Wraps the batches, for a progress bar.
        weights: Channel weights of these batches by the place of their first image, to which those
            found now are added; None keeps them here alone.

    Raises:
        TypeError: An iterator, which could be gone through once only.
        ValueError: No images.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        model: Any,
        adapter: PosteriorAdapter,
        layers: Sequence[str] = (),
        *,
        device: torch.device | None = None,
        progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
        weights: dict[int, Weights] | None = None,
    ) -> None:
        """Keep the batches; nothing is read yet."""
        if isinstance(batches, Tensor):
            batches = [batches[start : start + 32] for start in range(0, len(batches), 32)]
        if isinstance(batches, (str, dict)) or not isinstance(batches, Iterable):
            raise TypeError(
                f"normal is a {type(batches).__name__}; wanted batches of normal images (B, C, H, "
                "W) in a list or a DataLoader, or one tensor of them"
            )
        if isinstance(batches, Iterator):
            raise TypeError(
                f"normal is a {type(batches).__name__}, which can be read once only; pass a list "
                "of batches or a DataLoader"
            )
        self.model = model
        self.adapter = adapter
        self.layers = tuple(layers)
        self._batches = batches
        self._device = device
        self._progress = progress
        self._weights: dict[int, Weights] = {} if weights is None else weights
        self._features: list[dict[str, Tensor]] | None = None
        self._fits: dict[tuple[str, LatentDim], HeldOutFits] = {}

    def __iter__(self) -> Iterator[Tensor]:
        """Batches of images (B, C, H, W)."""
        empty = True
        for images in image_batches("normal", self._progress(self._batches)):
            if images.dim() != 4 or not images.is_floating_point():
                raise ValueError(
                    f"normal holds images of shape {tuple(images.shape)} and dtype {images.dtype}; "
                    "wanted floating point (B, C, H, W)"
                )
            empty = empty and not len(images)
            yield images if self._device is None else images.to(self._device)
        if empty:
            raise ValueError("normal is empty: a scorer needs at least one normal image to fit on")

    def passes(self) -> Iterator[ModelPass]:
        """One :class:`ModelPass` per batch, with the channel weights of the pass before.

        Pooled weights depend on the model and the image alone, so the next pass over the same
        batches finds them; those of the first 64 MB are kept.
        """
        first = 0
        for number, images in enumerate(self):
            weights = self._weights.get(first, {})
            features = self._features[number] if self._features else {}
            batch = NormalBatch(self, first, features)
            yield ModelPass(
                images, self.model, self.adapter, self.layers, weights=weights, normal=batch
            )
            keep_weights(self._weights, first, weights)
            first += len(images)

    def mean_image(self) -> Tensor:
        """(1, C, H, W), the mean of the normal images."""
        return self._means[_IMAGE]

    def mean_features(self, layer: str) -> Tensor:
        """(1, K, h, w), the mean features at each location of one of ``layers``."""
        return self._means[layer]

    def channel_std(self, layer: str) -> Tensor:
        """(K, 1, 1), standard deviation of each channel of one of ``layers`` over all places."""
        moments = self._channel_moments[layer]
        variance = (moments[1] - moments[0].square()).clamp_min(0)
        # Rounding leaves a constant channel about 1e-8 of its own size.
        constant = variance <= 1e-12 * moments[1]
        return variance.where(~constant, 0.0).sqrt().reshape(-1, 1, 1).to(self._means[layer].dtype)

    def explained(self, layer: str, latent_dim: LatentDim) -> HeldOutFits:
        """What a linear latent explains of a layer, fitted once for all scorers that ask.

        The features of the normal images are kept for it, if they take less than a gigabyte;
        otherwise each of four fits passes the images through the model again.

        Args:
            layer: One of ``layers``.
            latent_dim: Dimensions of the latent, or "auto".

        Raises:
            ValueError: There are too few images, or they vary too little.
        """
        key = (layer, latent_dim)
        if key not in self._fits:
            if self._features is None:
                self._features = self._keep_features()
            self._fits[key] = fit_held_out(
                self.model,
                layer,
                lambda wanted: _FeaturesOf(self, layer, wanted),
                self.channel_std(layer),
                self._count,
                latent_dim,
            )
        return self._fits[key]

    def _looks(self) -> Iterator[dict[str, Tensor]]:
        """Features of each batch by layer, kept or computed."""
        if self._features:
            yield from self._features
            return
        for images in self:
            yield self._look_by_layer(images)

    def _look_by_layer(self, images: Tensor) -> dict[str, Tensor]:
        """Features of a batch by layer."""
        found = _look(self.model, self.adapter, self.layers, images)
        return dict(zip(self.layers, found, strict=True))

    def _keep_features(self) -> list[dict[str, Tensor]]:
        """The features of all batches; none if they are too large."""
        kept: list[dict[str, Tensor]] = []
        size = 0
        for found in self._looks():
            size += _bytes(found)
            if size > _FEATURES_KEPT:
                return []
            kept.append(found)
        return kept

    @property
    def _count(self) -> int:
        """How many normal images there are."""
        return self._statistics[2]

    @property
    def _means(self) -> dict[str, Tensor]:
        return self._statistics[0]

    @property
    def _channel_moments(self) -> dict[str, Tensor]:
        """Mean and mean square (2, K) of each layer's channels."""
        return self._statistics[1]

    @cached_property
    def _statistics(self) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
        sums: dict[str, Tensor] = {}
        squares: dict[str, Tensor] = {}
        count = 0
        for number, images in enumerate(self):
            found = self._features[number] if self._features else self._look_by_layer(images)
            for name, values in {_IMAGE: images, **found}.items():
                total = values.double().sum(0, keepdim=True)
                sums[name] = sums[name] + total if name in sums else total
                if name != _IMAGE and values.dim() == 4:
                    square = values.double().square().mean((2, 3)).sum(0)
                    squares[name] = squares[name] + square if name in squares else square
            count += len(images)
            dtype = images.dtype
        means = {name: total / count for name, total in sums.items()}
        moments = {
            name: torch.stack([means[name].mean((0, 2, 3)), square / count])
            for name, square in squares.items()
        }
        return {name: mean.to(dtype) for name, mean in means.items()}, moments, count


class _FeaturesOf:
    """Features of some of the normal images at one layer, to be gone through several times."""

    def __init__(self, normal: NormalImages, layer: str, wanted: Callable[[int], bool]) -> None:
        self._normal = normal
        self._layer = layer
        self._wanted = wanted

    def __iter__(self) -> Iterator[Tensor]:
        first = 0
        for found in self._normal._looks():
            features = found[self._layer]
            rows = [row for row in range(len(features)) if self._wanted(first + row)]
            first += len(features)
            if rows:
                yield features if len(rows) == len(features) else features[rows]


def keep_weights(kept: dict[int, Weights], first: int, weights: Weights) -> None:
    """Keep the channel weights of a batch for later passes, unless 64 MB are kept already.

    Args:
        kept: Weights by the place of a batch's first image.
        first: That place.
        weights: The batch's.
    """
    blocks = (block for others in kept.values() for block in others.values())
    if first not in kept and sum(map(_bytes, blocks)) < _WEIGHTS_KEPT:
        kept[first] = weights


def _bytes(weights: dict[Any, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in weights.values())


def _look(
    model: Any, adapter: PosteriorAdapter, layers: Sequence[str], images: Tensor
) -> tuple[Tensor, ...]:
    if not layers:
        return ()
    modules = find_layers(model, list(layers))
    return look_at_layers(adapter.prepare(images), modules, (images,))


def device_of(model: Any) -> torch.device | None:
    """The device of a module's first parameter or buffer; None for what has neither."""
    if not isinstance(model, nn.Module):
        return None
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return None
