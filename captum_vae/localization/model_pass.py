"""One batch through a VAE, and a set of normal images: computed once for every scorer that asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae.attr.arguments import image_batches
from captum_vae.attr.decoding import reconstruct
from captum_vae.attr.engine.forward_pass import (
    ForwardPass,
    look_at_layers,
    run_layers,
)
from captum_vae.attr.engine.layers import find_layers
from captum_vae.posterior import Posterior, PosteriorAdapter

_IMAGE = ""
"""Key of the mean image; no layer has an empty name."""

_WEIGHTS_KEPT = 64 * 2**20
"""Bytes of channel weights of normal images that are kept between passes over them."""


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
        weights: dict[Any, Tensor] | None = None,
    ) -> None:
        """Name the batch and the layers; nothing runs yet.

        Args:
            images: (B, C, H, W).
            model: The VAE.
            adapter: Reads its posterior.
            layers: Dotted names of the layers whose features are kept.
            weights: Channel weights of these images from an earlier pass, to which those found
                now are added; None keeps them for this pass alone.
        """
        self.images = images
        self.model = model
        self.adapter = adapter
        self.layers = tuple(layers)
        self._weights = weights
        self._found: dict[Hashable, Tensor] = {}

    @cached_property
    def run(self) -> ForwardPass:
        """The encoder's call, with the graph from the features of ``layers`` on."""
        layers = find_layers(self.model, list(self.layers))
        run = run_layers(self.adapter, layers, (self.images,))
        return run if self._weights is None else replace(run, kept=self._weights)

    @cached_property
    def posterior(self) -> Posterior:
        """The posterior of the images; with a graph if ``layers`` are kept."""
        if self.layers:
            assert self.run.posterior is not None
            return self.run.posterior
        with torch.no_grad():
            return self.adapter.look(self.images)

    @cached_property
    def reconstruction(self) -> Tensor:
        """(B, C, H, W) from the posterior mean, on the images' scale, detached."""
        return reconstruct(self.adapter, (self.images,), self.posterior)

    def features(self, layer: str) -> Tensor:
        """A (B, K, h, w) of one of ``layers``, in the graph of ``posterior``."""
        return self.run.features[self.place(layer)]

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
        self._weights: list[dict[Any, Tensor]] = []

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
        size = sum(_bytes(weights) for weights in self._weights)
        for number, images in enumerate(self):
            known = number < len(self._weights)
            weights = self._weights[number] if known else {}
            yield ModelPass(images, self.model, self.adapter, self.layers, weights=weights)
            if not known and size < _WEIGHTS_KEPT:
                self._weights.append(weights)
                size += _bytes(weights)

    def mean_image(self) -> Tensor:
        """(1, C, H, W), the mean of the normal images."""
        return self._means[_IMAGE]

    def mean_features(self, layer: str) -> Tensor:
        """(1, K, h, w), the mean features at each location of one of ``layers``."""
        return self._means[layer]

    @cached_property
    def _means(self) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        count = 0
        for images in self:
            found = dict(
                zip(
                    self.layers,
                    _look(self.model, self.adapter, self.layers, images),
                    strict=True,
                )
            )
            for name, values in {_IMAGE: images, **found}.items():
                total = values.double().sum(0, keepdim=True)
                sums[name] = sums[name] + total if name in sums else total
            count += len(images)
            dtype = images.dtype
        return {name: (total / count).to(dtype) for name, total in sums.items()}


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
