"""Statistics of channels over all places of normal images: scales, covariance, Mahalanobis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_vae.localization.model_pass import ModelPass

_RIDGE = 1e-6
"""Share of the mean variance that is added to every channel's, so that none is zero."""


class PassSums:
    """Means over all places of normal images, summed batch by batch."""

    def __init__(self, values: Callable[[ModelPass, str], Tensor]) -> None:
        """Name what gives the mean over the places of a batch, for a pass and a layer."""
        self._values = values
        self._sums: dict[str, Tensor] = {}
        self._images = 0

    def adding(self, layers: Sequence[str]) -> Callable[[ModelPass], None]:
        """What adds a batch, for :meth:`Scorer.fit_normal` to yield."""

        def add(shared: ModelPass) -> None:
            count = len(shared.images)
            with torch.no_grad():
                for layer in layers:
                    found = self._values(shared, layer).double() * count
                    known = layer in self._sums
                    self._sums[layer] = self._sums[layer] + found if known else found
            self._images += count

        return add

    def mean(self, layer: str) -> Tensor:
        """The mean over all images, in float64."""
        return self._sums[layer] / self._images


def mean_squares(values: Tensor) -> Tensor:
    """Mean square of each channel of (B, K, h, w) over images and places, (K, 1, 1)."""
    return values.double().square().mean((0, 2, 3))[:, None, None]


def channel_products(values: Tensor) -> Tensor:
    """Mean products (K, K) of the channels of (B, K, h, w) over images and places."""
    vectors = values.double().transpose(0, 1).flatten(1)
    return vectors @ vectors.T / vectors.shape[1]


def nonzero_root(squares: Tensor) -> Tensor:
    """Root of each mean square (K, 1, 1), in float32; 1 where it is zero, which divides nothing."""
    roots = squares.sqrt().float()
    return torch.where(roots > 0, roots, 1.0)


def whitening(covariance: Tensor) -> Tensor:
    """W (K, K) with W' W the inverse of a covariance (K, K), in float32.

    A millionth of the mean variance is added to each channel's.

    Raises:
        ValueError: The channels do not vary, or a number is not finite.
    """
    channels = len(covariance)
    mean = covariance.diagonal().mean()
    if not (mean > 0 and mean.isfinite()):
        raise ValueError(
            "the features of the normal images equal the baseline's everywhere, or are not "
            "finite, so that they have no covariance; wanted normal images that differ"
        )
    unit = torch.eye(channels, dtype=covariance.dtype, device=covariance.device)
    lower = torch.linalg.cholesky(covariance + _RIDGE * mean * unit)
    inverse: Tensor = torch.linalg.solve_triangular(lower, unit, upper=False)
    return inverse.float()


def mahalanobis(difference: Tensor, whitening: Tensor) -> Tensor:
    """Root of the mean over channels of the whitened squares, (B, 1, h, w).

    That is the Mahalanobis distance over the root of K, which is about 1 on normal images.

    Args:
        difference: (B, K, h, w).
        whitening: W (K, K).
    """
    batch, channels, height, width = difference.shape
    vectors = whitening.to(difference.dtype) @ difference.flatten(2)
    return vectors.square().mean(1).sqrt().reshape(batch, 1, height, width)
