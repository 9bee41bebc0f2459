"""What a linear latent explains of a layer's features, with fits that leave images out.

The residual of normal images that a latent was fitted on is smaller than that of new ones, so
scales taken from it would be too small. Fits on two thirds of the normal images give each image of
the other third a residual like a new image's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from captum_vae.models.feature_space import FeatureSpaceVAE
from captum_vae.models.linear_feature_vae import LinearFeatureVAE
from captum_vae.models.linear_latent import LinearLatent, fit_linear_latent

Self = TypeVar("Self", bound="ExplainedFeatures")

LatentDim = int | Literal["auto"]
"""Dimensions of a linear latent; "auto" takes those under which left out images are likeliest."""

FOLDS = 3
"""Parts that normal images are split into, in their order: frames of a video stay together."""

OWN_LAYER = "features"
"""The layer of a VAE of features that its own latent explains."""


class ExplainedFeatures:
    """A linear latent of one layer's features, each channel divided by its standard deviation.

    Attributes:
        latent: The latent, of the divided features.
        channel_std: Standard deviation of each channel, (K, 1, 1).
    """

    def __init__(self, latent: LinearLatent, channel_std: Tensor) -> None:
        """Hold both."""
        self.latent = latent
        self.channel_std = channel_std

    @classmethod
    def fit(
        cls: type[Self], batches: Iterable[Tensor], channel_std: Tensor, latent_dim: LatentDim
    ) -> Self:
        """Fit the latent.

        Args:
            batches: Features (B, K, h, w), to be gone through more than once.
            channel_std: Standard deviation of each channel, (K, 1, 1); zero where one is constant.
            latent_dim: D, or "auto".
        """
        divisor = torch.where(channel_std > 0, channel_std, 1.0)
        latent = fit_linear_latent(_Divided(batches, divisor), latent_dim)
        return cls(latent, divisor)

    def explain(self, features: Tensor) -> Tensor:
        """What the latent explains of features (B, K, h, w): features of the same shape."""
        divided = (features / self.channel_std).to(self.latent.mean.dtype)
        return self.latent.explained(divided).to(features.dtype) * self.channel_std

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as tensors by name."""
        return {**self.latent.state_dict(), "channel_std": self.channel_std}

    @classmethod
    def from_state_dict(cls: type[Self], state: Mapping[str, Tensor]) -> Self:
        """What :meth:`state_dict` gave.

        Raises:
            ValueError: Something is missing or does not fit.
        """
        held = dict(state)
        if "channel_std" not in held:
            raise ValueError("the state of explained features holds no channel_std")
        channel_std = held.pop("channel_std")
        return cls(LinearLatent.from_state_dict(held), channel_std)


Explain = Callable[[Tensor], Tensor]
"""From features (B, K, h, w) to what a latent explains of them."""


class HeldOutFits:
    """A latent of all normal images' features, and one for each fold, fitted on the others.

    Attributes:
        own: The latent of all normal images; None where the model has its own.
        folds: What explains the images of each fold; all one where nothing can be fitted again.
        images: How many normal images there are.
    """

    def __init__(self, own: ExplainedFeatures | None, folds: list[Explain], images: int) -> None:
        """Hold the fits."""
        self.own = own
        self.folds = folds
        self.images = images

    def explain(self, features: Tensor, first: int) -> Tensor:
        """What is explained of normal images' features by the fits without them.

        Args:
            features: (B, K, h, w).
            first: Place of the first among the normal images.
        """
        places = range(first, first + len(features))
        parts = [self.folds[fold_of(place, self.images)] for place in places]
        explained = torch.empty_like(features)
        for explain in dict.fromkeys(parts):
            rows = [row for row, part in enumerate(parts) if part == explain]
            explained[rows] = explain(features[rows])
        return explained


def fit_held_out(
    model: Any,
    layer: str,
    batches: Callable[[Callable[[int], bool]], Iterable[Tensor]],
    channel_std: Tensor,
    images: int,
    latent_dim: LatentDim,
) -> HeldOutFits:
    """Fit a layer's latent on all normal images, and on all but each fold.

    Args:
        model: The VAE, whose own latent is taken where it is one of the features of ``layer``.
        layer: The layer's name.
        batches: Gives the features of the normal images of which a function of their place says
            so, (B, K, h, w) each, again on every call.
        channel_std: Standard deviation of each channel over the normal images, (K, 1, 1).
        images: How many normal images there are.
        latent_dim: D, or "auto"; that of the model where its own latent is taken.

    Raises:
        ValueError: There are too few images, or they vary too little.
    """
    own: ExplainedFeatures | None = None
    of_model = own_latent(model, layer)
    if of_model is not None:
        if not isinstance(model, LinearFeatureVAE):
            # Nobody can train a network three more times here.
            return HeldOutFits(None, [of_model] * FOLDS, images)
        dims = int(model.latent_dims)
        channel_std = torch.ones_like(channel_std)
    if images < 3 * FOLDS:
        raise ValueError(
            f"baselines='explained' fits a latent on {images} normal images, and again without "
            f"each third of them; wanted at least {3 * FOLDS}"
        )
    if of_model is None:
        own = ExplainedFeatures.fit(batches(lambda place: True), channel_std, latent_dim)
        dims = own.latent.latent_dims
    folds: list[Explain] = []
    for fold in range(FOLDS):

        def others(place: int, fold: int = fold) -> bool:
            return fold_of(place, images) != fold

        most = sum(map(others, range(images))) - 2
        fitted = ExplainedFeatures.fit(batches(others), channel_std, min(dims, most))
        folds.append(fitted.explain)
    return HeldOutFits(own, folds, images)


def own_latent(model: Any, layer: str) -> Explain | None:
    """What the model's own latent explains of a layer, if it is a VAE of that layer's features."""
    return model.explained if isinstance(model, FeatureSpaceVAE) and layer == OWN_LAYER else None


def stacked_channels(module: nn.Module) -> tuple[int, ...]:
    """How many channels come from which layer, of a module that stacks several; else empty."""
    channels = getattr(module, "channels", ())
    return tuple(channels) if isinstance(channels, tuple) else ()


def fold_of(place: int, images: int) -> int:
    """The fold of the normal image at a place."""
    return place * FOLDS // images


class _Divided:
    """Batches divided by the channels' standard deviations, to be gone through several times."""

    def __init__(self, batches: Iterable[Tensor], divisor: Tensor) -> None:
        self._batches = batches
        self._divisor = divisor

    def __iter__(self) -> Iterator[Tensor]:
        return (features / self._divisor for features in self._batches)
