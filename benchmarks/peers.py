"""PaDiM and PatchCore on the same frozen features as this package's scorers, to compare with.

They are scorers like ours, so that a table holds them beside the others and paired tests are over
the same images::

    captum-vae evaluate --config bottle_features --out runs/bottle --scorers.PaDiM.name
        benchmarks.peers:PaDiM --scorers.PatchCore.name benchmarks.peers:PatchCore

Where anomalib is installed, ``tests/benchmarks/test_peers.py`` holds both to its components.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_vae.checks import checked_seed, whole_number
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.scorer import Fitting, Scorer

REGULARISATION = 0.01
"""What PaDiM adds to every channel's variance (Defard et al. 2021, section 3.2)."""

CANDIDATES = 50_000
"""Patches at most, drawn at random, among which PatchCore's coreset is selected."""


class _Peer(Scorer):
    """A scorer of one layer that keeps its map on the layer's grid until it is resized."""

    def __init__(self, model: Any, layer: str = "features", *, posterior: Any = None) -> None:
        """Name the layer; standardised features of several stages on one grid are meant."""
        super().__init__(model, posterior=posterior)
        self.layers = (layer,)

    def embedding(self, shared: ModelPass) -> Tensor:
        """The features that are compared, (B, K, h, w)."""
        return shared.features(self.layers[0])

    def distances(self, embedding: Tensor) -> Tensor:
        """Distances (B, h, w) of features (B, K, h, w)."""
        raise NotImplementedError

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """The distances at the images' size, (B, H, W)."""
        with torch.no_grad():
            maps = self.distances(self.embedding(shared))[:, None]
            size = list(shared.images.shape[2:])
            return F.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0]


class PaDiM(_Peer):
    """Mahalanobis distance under a mean and a full covariance for each place.

    Defard, Setkov, Loesch, Audigier, PaDiM, ICPR 2021; all channels, none left out at random.
    """

    FITTED: ClassVar[tuple[str, ...]] = ("_mean", "_precision")

    def __init__(self, model: Any, layer: str = "features", *, posterior: Any = None) -> None:
        """Name the layer."""
        super().__init__(model, layer, posterior=posterior)
        self._mean: Tensor | None = None
        self._precision: Tensor | None = None

    def fit_normal(self, normal: NormalImages) -> Fitting:
        """Take mean and covariance of each place."""
        mean = normal.mean_features(self.layers[0])[0].flatten(1)
        products: Tensor | None = None
        count = 0

        def add(shared: ModelPass) -> None:
            nonlocal products, count
            delta = (self.embedding(shared).flatten(2) - mean).permute(2, 1, 0)
            found = delta @ delta.mT
            products = found if products is None else products.add_(found)
            count += len(shared.images)

        yield add
        assert products is not None
        covariance = products / (count - 1)
        covariance.diagonal(dim1=1, dim2=2).add_(REGULARISATION)
        self._mean, self._precision = mean, torch.linalg.inv(covariance)

    def distances(self, embedding: Tensor) -> Tensor:
        """Mahalanobis distances (B, h, w)."""
        delta = (embedding.flatten(2) - self._fitted(self._mean)).permute(2, 0, 1)
        squared = ((delta @ self._fitted(self._precision)) * delta).sum(2).T
        return squared.clamp_min(0).sqrt().reshape(len(embedding), *embedding.shape[2:])


class PatchCore(_Peer):
    """Distance to the nearest of a coreset of normal patches.

    Roth et al., Towards total recall in industrial anomaly detection, CVPR 2022: features averaged
    over 3x3 places, a greedy k-center coreset, Euclidean distance to the nearest neighbour.
    """

    FITTED: ClassVar[tuple[str, ...]] = ("_coreset",)

    def __init__(
        self,
        model: Any,
        layer: str = "features",
        *,
        coreset: int = 1000,
        seed: int = 0,
        posterior: Any = None,
    ) -> None:
        """Choose the size of the coreset and the seed of the patches it is selected among."""
        super().__init__(model, layer, posterior=posterior)
        self.coreset = whole_number("coreset", coreset, least=1)
        self.seed = checked_seed(seed)
        self._coreset: Tensor | None = None

    def embedding(self, shared: ModelPass) -> Tensor:
        """Features averaged over 3x3 places, borders padded by zeros."""
        return F.avg_pool2d(super().embedding(shared), 3, 1, 1)

    def fit_normal(self, normal: NormalImages) -> Fitting:
        """Select the coreset."""
        kept: list[Tensor] = []

        def add(shared: ModelPass) -> None:
            kept.append(self.embedding(shared).permute(0, 2, 3, 1).flatten(0, 2))

        yield add
        patches = torch.cat(kept)
        order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(self.seed))
        self._coreset = k_center(patches[order[:CANDIDATES].to(patches.device)], self.coreset)

    def distances(self, embedding: Tensor) -> Tensor:
        """Distances to the nearest patch of the coreset, (B, h, w)."""
        coreset = self._fitted(self._coreset)
        patches = embedding.permute(0, 2, 3, 1).flatten(0, 2)
        squared = coreset.square().sum(1) - 2 * patches @ coreset.T
        nearest = squared.amin(1) + patches.square().sum(1)
        return nearest.clamp_min(0).sqrt().reshape(len(embedding), *embedding.shape[2:])


def k_center(patches: Tensor, size: int) -> Tensor:
    """A greedy k-center coreset: again and again the patch farthest from those selected.

    Args:
        patches: (N, K); the first is selected first.
        size: How many to select, at most N.
    """
    norms = patches.square().sum(1)
    chosen = [0]
    nearest = torch.full_like(norms, float("inf"))
    for _ in range(min(size, len(patches)) - 1):
        center = patches[chosen[-1]]
        nearest = torch.minimum(nearest, norms - 2 * (patches @ center) + center.square().sum())
        chosen.append(int(nearest.argmax()))
    return patches[chosen]
