"""Scorers that compare pixels: with the reconstruction, and with the mean normal image."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from captum_vae.checks import check_choice
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.scorer import Fitting, Scale, Scorer

Distance = Literal["squared", "absolute"]


def pixel_distance(images: Tensor, others: Tensor, distance: Distance) -> Tensor:
    """Mean over channels of the squared or absolute difference.

    Args:
        images: (B, C, H, W).
        others: (B or 1, C, H, W).
        distance: ``squared`` or ``absolute``.

    Returns:
        (B, H, W).
    """
    difference = images - others
    return (difference.square() if distance == "squared" else difference.abs()).mean(1)


class ReconstructionError(Scorer):
    """How far a pixel is from the VAE's reconstruction; nothing is learned from normal images."""

    def __init__(
        self,
        model: Any,
        *,
        distance: Distance = "squared",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Choose the distance, ``squared`` or ``absolute``."""
        super().__init__(model, posterior=posterior, scale=scale)
        check_choice("distance", distance, get_args(Distance))
        self.distance = distance

    def fit_normal(self, normal: NormalImages) -> None:
        """Nothing to learn."""

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """Distance to the reconstruction, (B, H, W)."""
        return pixel_distance(shared.images, shared.reconstruction, self.distance).detach()


class MeanImageDifference(Scorer):
    """How far a pixel is from the mean normal image: a VAE has to beat this to be of use."""

    FITTED: ClassVar[tuple[str, ...]] = (*Scorer.FITTED, "_mean")

    def __init__(
        self,
        model: Any,
        *,
        distance: Distance = "squared",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Choose the distance, ``squared`` or ``absolute``; the model is not used."""
        super().__init__(model, posterior=posterior, scale=scale)
        check_choice("distance", distance, get_args(Distance))
        self.distance = distance
        self._mean: Tensor | None = None

    def fit_normal(self, normal: NormalImages) -> None:
        """Take the mean image."""
        self._mean = normal.mean_image()

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """Distance to the mean normal image, (B, H, W)."""
        return pixel_distance(shared.images, self._fitted(self._mean), self.distance).detach()


class ConstantMap(Scorer):
    """The standard deviation of normal pixels at each place: a floor that sees no test image.

    Where defects lie on an object and the object is always in the same place, this map finds them
    without looking. A result that does not beat it says nothing about defects.
    """

    FITTED: ClassVar[tuple[str, ...]] = (*Scorer.FITTED, "_deviation")

    def __init__(self, model: Any, *, posterior: Any = None) -> None:
        """Take the model like other scorers; it is not used."""
        super().__init__(model, posterior=posterior)
        self._deviation: Tensor | None = None

    def fit_normal(self, normal: NormalImages) -> Fitting:
        """Take the root of the variance of normal pixels, averaged over colour channels."""
        squares, count = torch.zeros(()), 0
        center = normal.mean_image()

        def add(shared: ModelPass) -> None:
            nonlocal squares, count
            squares = squares.to(center.device) + (shared.images - center).double().square().sum(0)
            count += len(shared.images)

        yield add
        self._deviation = (squares / count).mean(0).sqrt().to(center.dtype)

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """The same map for every image, (B, H, W)."""
        deviation = self._fitted(self._deviation)
        if deviation.shape != shared.images.shape[2:]:
            raise ValueError(
                f"images are {tuple(shared.images.shape[2:])} and the normal images were "
                f"{tuple(deviation.shape)}; wanted one size"
            )
        return deviation.expand(len(shared.images), *deviation.shape)
