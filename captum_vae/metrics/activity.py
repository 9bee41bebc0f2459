"""Which latent dimensions a VAE uses: per-dimension KL and the spread of the posterior means.

A dimension that ignores its input has KL 0 and a constant mean. Attention on such a dimension is
noise, so the number of active ones belongs to every report.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_vae.checks import real_number
from captum_vae.losses.elbo import kl_per_dimension
from captum_vae.posterior import CollapsedPosteriorWarning
from captum_vae.posterior.usage import ACTIVE_KL, ACTIVE_STD, is_active

SHORT = 1000
"""Steps below which a posterior without an active dimension is not called collapsed."""


@dataclass(frozen=True)
class ActiveDimensions:
    """Per-dimension statistics of a posterior over a data set.

    Attributes:
        kl: (D,) mean KL to the prior in nats.
        std: (D,) standard deviation of the posterior mean over the data.
        images: How many images were seen.
        kl_threshold: The KL in nats that an active dimension exceeds.
        std_threshold: The standard deviation that an active dimension exceeds too.
    """

    kl: Tensor
    std: Tensor
    images: int
    kl_threshold: float = ACTIVE_KL
    std_threshold: float = ACTIVE_STD

    @property
    def active(self) -> Tensor:
        """(D,) bool: KL and standard deviation both above their thresholds."""
        return is_active(
            self.kl,
            self.std,
            kl_threshold=self.kl_threshold,
            std_threshold=self.std_threshold,
        )

    @property
    def count(self) -> int:
        """Number of active dimensions."""
        return int(self.active.sum())

    def to_dict(self) -> dict[str, Any]:
        """The numbers and lists for JSON."""
        return {
            "active": self.count,
            "dimensions": self.kl.numel(),
            "images": self.images,
            "kl_threshold": self.kl_threshold,
            "std_threshold": self.std_threshold,
            "kl": [round(value, 6) for value in self.kl.tolist()],
            "std": [round(value, 6) for value in self.std.tolist()],
            "active_dimensions": self.active.nonzero().flatten().tolist(),
        }

    def table(self) -> str:
        """One line per dimension, most informative first, under a summary line."""
        lines = [
            f"{self.count} of {self.kl.numel()} latent dimensions active over {self.images} images "
            f"(KL > {self.kl_threshold:g} nats and std of the mean > {self.std_threshold:g})",
            "  dim   KL [nats]   std of mean   active",
        ]
        active = self.active
        for dimension in self.kl.argsort(descending=True).tolist():
            mark = "yes" if active[dimension] else "-"
            lines.append(
                f"{dimension:5d}{self.kl[dimension]:12.4f}{self.std[dimension]:14.4f}   {mark:>6}"
            )
        return "\n".join(lines)

    def warn_if_collapsed(self, steps: int | None = None) -> None:
        """Warn with :class:`CollapsedPosteriorWarning` when no dimension is active.

        Args:
            steps: Optimisation steps that the model has had, if known. Under 1,000 of them nothing
                tells a collapsed posterior from one that has not learned yet, and a UserWarning
                says so instead.
        """
        if self.count:
            return
        if steps is not None and steps < SHORT:
            warnings.warn(
                f"no latent dimension is active after {steps} steps, too few to tell whether the "
                "posterior collapses or has not learned yet; attention maps of this model are "
                "noise: train longer",
                stacklevel=2,
            )
        else:
            warnings.warn(
                f"none of the {self.kl.numel()} latent dimensions is active: the posterior "
                f"collapsed (largest KL {self.kl.max():.4f} nats, largest std of the mean "
                f"{self.std.max():.4f}), so attention maps of this model are noise. Train with "
                "likelihood='optimal_gaussian', data-dependent initialization, or a smaller beta",
                CollapsedPosteriorWarning,
                stacklevel=2,
            )


def active_dimensions(
    mean: Tensor,
    log_variance: Tensor,
    *,
    kl_threshold: float = ACTIVE_KL,
    std_threshold: float = ACTIVE_STD,
) -> ActiveDimensions:
    """Per-dimension KL and spread of a posterior over N images.

    Args:
        mean: (N, D) or (N, D, *positions) posterior means.
        log_variance: Logarithms of the posterior variances, of the same shape.
        kl_threshold: Nats that the KL of an active dimension exceeds.
        std_threshold: Standard deviation that an active dimension exceeds, in units of the latent.

    Returns:
        The statistics; the standard deviation is the population's (divided by N), and for a
        spatial latent the root of the variance averaged over positions.

    Raises:
        TypeError: An input is no tensor of floats, or a threshold no number.
        ValueError: The shapes differ, a value is not finite, or no image was given.
    """
    accumulator = ActiveDimensionAccumulator(kl_threshold=kl_threshold, std_threshold=std_threshold)
    accumulator.update(mean, log_variance)
    return accumulator.compute()


class ActiveDimensionAccumulator:
    """:func:`active_dimensions` over batches, in bounded memory.

    The state is sums over images in float64, so states of several processes are merged by adding
    them: see :attr:`sums`.
    """

    def __init__(
        self, *, kl_threshold: float = ACTIVE_KL, std_threshold: float = ACTIVE_STD
    ) -> None:
        """Start empty.

        Args:
            kl_threshold: Nats that the KL of an active dimension exceeds.
            std_threshold: Standard deviation that an active dimension exceeds.

        Raises:
            TypeError: A threshold is no number.
            ValueError: A threshold is not finite or below 0.
        """
        self.kl_threshold = real_number("kl_threshold", kl_threshold, least=0)
        self.std_threshold = real_number("std_threshold", std_threshold, least=0)
        self.sums: Tensor | None = None
        """(2 + 2 P, D) for P positions: image count, KL, then means and squared means."""

    def update(self, mean: Tensor, log_variance: Tensor) -> None:
        """Add a batch of posteriors.

        Args:
            mean: (B, D) or (B, D, *positions) posterior means.
            log_variance: Logarithms of the posterior variances, of the same shape.

        Raises:
            TypeError: An input is no tensor of floats.
            ValueError: The shapes differ, also from those of earlier batches, or a value is not
                finite.
        """
        _check_finite("mean", mean)
        _check_finite("log_variance", log_variance)
        mean, log_variance = mean.detach().double(), log_variance.detach().double()
        kl = kl_per_dimension(mean, log_variance).sum(0)
        positions = mean.flatten(2) if mean.ndim > 2 else mean.unsqueeze(2)
        first, second = positions.sum(0).T, positions.square().sum(0).T
        count = torch.full_like(kl, mean.shape[0])
        sums = torch.cat([count[None], kl[None], first, second])
        if self.sums is not None and self.sums.shape != sums.shape:
            raise ValueError(
                f"mean has shape {tuple(mean.shape)}; wanted the dimensions and positions of the "
                "batches before"
            )
        self.sums = sums if self.sums is None else self.sums + sums

    def compute(self) -> ActiveDimensions:
        """The statistics of everything seen.

        Raises:
            ValueError: Nothing was seen.
        """
        if self.sums is None or self.sums[0, 0] == 0:
            raise ValueError("no image was given, so no dimension can be called active or not")
        count, kl = self.sums[0, 0], self.sums[1]
        first, second = (self.sums[2:] / count).chunk(2)
        variance = (second - first.square()).clamp(min=0).mean(0)
        return ActiveDimensions(
            kl=(kl / count).cpu(),
            std=variance.sqrt().cpu(),
            images=int(count),
            kl_threshold=self.kl_threshold,
            std_threshold=self.std_threshold,
        )


def _check_finite(name: str, values: Tensor) -> None:
    if not isinstance(values, Tensor) or not values.is_floating_point():
        kind = values.dtype if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise TypeError(f"{name} is {kind}; wanted a tensor of floats")
    if not values.isfinite().all():
        raise ValueError(
            f"{name} has values that are NaN or infinite: the model diverged, or its input is not "
            "finite"
        )
