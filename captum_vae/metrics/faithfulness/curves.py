"""Removal curves as values: the area under them, its interval, and whether two areas differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from captum_vae.checks import check_choice, whole_number
from captum_vae.metrics.localization.bootstrap import draw_units, without_nan

Direction = Literal["deletion", "insertion"]
Watched = Literal["dimension", "latent"]


@dataclass(frozen=True)
class RemovalCurves:
    """How far the posterior mean is from that of the image while pixels go or come.

    Attributes:
        fractions: (S + 1,) shares of the pixels deleted, or inserted, from 0 to 1.
        dimension: (B, T, S + 1) distance of the map's own latent dimension, in the latent's units.
        latent: (B, T, S + 1) Euclidean distance of the whole posterior mean.
        direction: "deletion": the most important pixels go first; "insertion": they come first,
            into the image without any.
    """

    fractions: Tensor
    dimension: Tensor
    latent: Tensor
    direction: Direction

    def area(self, of: Watched = "dimension", *, resamples: int = 1000, seed: int = 0) -> Area:
        """The area over the whole range, from 0 to 1; the larger, the more faithful the maps.

        For deletion it is the mean over the fractions of the distance reached, as a share of the
        distance with all pixels gone: a faithful map moves the dimension with the first pixels. For
        insertion it is 1 minus that mean: the first pixels bring the dimension back. Sums over
        images and dimensions are divided, not each quotient, so that a dimension that hardly moves
        counts for what it moves. A quotient above 1 says that some fraction moves the dimension
        further than removing everything.

        Args:
            of: "dimension" for the map's own latent dimension, "latent" for the whole mean.
            resamples: How often the images are drawn for the 95% interval.
            seed: Seed of the draws.

        Raises:
            ValueError: A word is unknown or a number is out of range.
        """
        shares, whole = self.sums(of)
        value = _signed(shares.sum() / whole.sum(), self.direction)
        drawn = _resampled(shares, whole, self.direction, resamples, seed)
        return Area(float(value), *_interval(drawn, len(shares)), images=len(shares))

    def sums(self, of: Watched = "dimension") -> tuple[Tensor, Tensor]:
        """Per image, summed over dimensions: the area under the curve, and the whole distance."""
        check_choice("of", of, ("dimension", "latent"))
        curves = (self.dimension if of == "dimension" else self.latent).double()
        areas = torch.trapezoid(curves, self.fractions.double(), dim=2)
        ends = curves[..., -1 if self.direction == "deletion" else 0]
        return areas.sum(1), ends.sum(1)


@dataclass(frozen=True)
class Area:
    """An area, or the difference of two, with its 95% interval over images.

    Attributes:
        value: The area; NaN where removing everything moves nothing.
        low: The lower end; NaN for a single image.
        high: The upper end.
        images: How many images it rests on.
    """

    value: float
    low: float
    high: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, NaN as None."""
        return without_nan(asdict(self))

    def __str__(self) -> str:
        """Three decimals, as ``0.612 [0.580, 0.641]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def compare_areas(
    first: RemovalCurves,
    second: RemovalCurves,
    of: Watched = "dimension",
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Area:
    """The area of the first minus that of the second, over the same draws of the images.

    Args:
        first: Curves of some maps.
        second: Curves of other maps of the same images, in the same direction.
        of: "dimension" for the map's own latent dimension, "latent" for the whole mean.
        resamples: How often the images are drawn.
        seed: Seed of the draws.

    Raises:
        ValueError: The curves are of other images or in another direction.
    """
    if first.direction != second.direction or len(first.dimension) != len(second.dimension):
        raise ValueError(
            f"the first curves are {first.direction} of {len(first.dimension)} images, the second "
            f"{second.direction} of {len(second.dimension)}; wanted the same"
        )
    (a, whole_a), (b, whole_b) = first.sums(of), second.sums(of)
    sign = first.direction
    value = _signed(a.sum() / whole_a.sum(), sign) - _signed(b.sum() / whole_b.sum(), sign)
    drawn = _resampled(a, whole_a, sign, resamples, seed)
    drawn = drawn - _resampled(b, whole_b, sign, resamples, seed)
    return Area(float(value), *_interval(drawn, len(a)), images=len(a))


def _signed(share: Tensor, direction: Direction) -> Tensor:
    return share if direction == "deletion" else 1 - share


def _resampled(
    shares: Tensor, whole: Tensor, direction: Direction, resamples: int, seed: int
) -> Tensor:
    resamples = whole_number("resamples", resamples, least=1)
    weights = draw_units(len(shares), resamples, seed).double().to(shares.device)
    return _signed((weights @ shares) / (weights @ whole), direction)


def _interval(drawn: Tensor, images: int) -> tuple[float, float]:
    if images < 2 or bool(drawn.isnan().any()):
        return float("nan"), float("nan")
    low, high = torch.quantile(drawn.cpu(), torch.tensor([0.025, 0.975], dtype=drawn.dtype))
    return float(low), float(high)
