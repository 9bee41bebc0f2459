"""One map of many latent dimensions, a few of them and a few images at a time.

Aggregating (B, D, *size) maps to (B, 1, *size) needs no more than the result and a slice of the
maps: 8 MB instead of 1,088 MB for two images of 1024 x 1024 pixels and 128 dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from captum_vae.attr.options import MapOptions

_SLICE = 16 * 2**20
"""Bytes of maps that exist at once."""

Compose = Callable[[Tensor, Tensor], Tensor]
"""Weights (b, t, K, ...) and features (b, K, *spatial) -> maps (b, t, ...)."""


class Accumulation:
    """The aggregate of the maps that came so far, without a graph."""

    def __init__(self, compose: Compose, options: MapOptions, values: int) -> None:
        """Nothing came yet.

        Args:
            compose: Makes the maps that are aggregated, which it hands over.
            options: With ``aggregate`` other than ``none``.
            values: Numbers in the map of one image and one dimension.
        """
        self._compose = compose
        self._options = options
        self._values = values
        self._aggregate: Tensor | None = None
        self._dims = 0

    def add(self, weights: Tensor, features: Tensor) -> None:
        """Take the maps of the next dimensions.

        Args:
            weights: (B, t, K), or (B, t, K, *spatial).
            features: A, or A minus its baseline, (B, K, *spatial).
        """
        batch, dims = weights.shape[:2]
        one = max(1, self._values * weights.element_size())
        images = min(batch, max(1, _SLICE // one))
        at_once = min(dims, max(1, _SLICE // (one * images)))
        for begin in range(0, batch, images):
            here = slice(begin, begin + images)
            for dim in range(0, dims, at_once):
                some = weights[here, dim : dim + at_once]
                first = self._dims == dim == 0
                # No name holds the maps, so that they are gone before the next are made.
                self._take(self._compose(some, features[here]), here, batch, first)
        self._dims += dims

    def result(self) -> Tensor:
        """The aggregate, (B, 1, ...)."""
        assert self._aggregate is not None
        if self._options.aggregate == "mean":
            self._aggregate /= self._dims
        return self._aggregate

    def _take(self, maps: Tensor, images: slice, batch: int, first: bool) -> None:
        largest = self._options.aggregate == "max"
        part = maps
        if maps.shape[1] > 1:
            part = maps.amax(1, keepdim=True) if largest else maps.sum(1, keepdim=True)
        del maps
        if self._aggregate is None:
            if part.shape[0] == batch:
                self._aggregate = part
                return
            self._aggregate = part.new_empty((batch, *part.shape[1:]))
        whole = self._aggregate[images]
        if first:
            whole.copy_(part)
        elif largest:
            torch.maximum(whole, part, out=whole)
        else:
            whole += part


def values_of_map(features: Tensor, size: tuple[int, ...] | None, options: MapOptions) -> int:
    """Numbers in the map of one image and one dimension before it is aggregated.

    Args:
        features: (B, K, *spatial).
        size: Spatial size wanted, or None for the features' own.
        options: Order and reduction.
    """
    own = math.prod(features.shape[2:])
    resized = options.order == "after_upsampling" and size is not None
    positions = own + math.prod(size or ()) if resized else own
    return positions * (features.shape[1] if options.reduction == "none" else 1)
