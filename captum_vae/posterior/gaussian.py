"""The posterior q(z|x) as the rest of the package sees it: one mean and log-variance per dimension.

Letters: B images, D latent dimensions, C latent channels, h x w (or more, or fewer) positions.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from captum_vae.checks import checked_seed, floating_tensor, whole_number
from captum_vae.posterior.recorded import unrecorded

Spatial = Literal["mean", "flatten"] | tuple[int, ...]


class CollapsedPosteriorWarning(UserWarning):
    """The posterior does not depend on the input, so its attention maps are noise."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """A diagonal Gaussian posterior over D latent dimensions.

    Attributes:
        mean: Posterior means, (B, D).
        log_variance: Logarithms of the posterior variances, (B, D); None when the model's second
            output is unknown or absent.
        latent_shape: Shape of the latent itself without the batch: (D,), or (C, h, w) when it has
            positions.
        unpooled: Mean and log-variance (or None), each (B, C, h, w), when the D dimensions are
            channels averaged over positions; None otherwise.
    """

    mean: Tensor
    log_variance: Tensor | None
    latent_shape: tuple[int, ...]
    unpooled: tuple[Tensor, Tensor | None] | None = field(default=None, repr=False)

    def kl(self) -> Tensor:
        """KL divergence to N(0, 1) per dimension, in nats: (B, D).

        For a spatial latent averaged over positions it is the channel's share of the model's KL
        term, so the sum over its positions (the averaged latent's own prior is not N(0, 1)).

        Raises:
            ValueError: The log-variance is unknown.
        """
        log_variance = self._known_log_variance("kl")
        if self.unpooled is not None and self.unpooled[1] is not None:
            return standard_normal_kl(self.unpooled[0], self.unpooled[1]).flatten(2).sum(2)
        return standard_normal_kl(self.mean, log_variance)

    def sample(
        self, *, generator: torch.Generator | None = None, seed: int | None = None
    ) -> Tensor:
        """Draw z = mean + std * noise, reparametrised so that gradients reach both: (B, D).

        Args:
            generator: Source of independent noise for every image; PyTorch's own when None.
            seed: Seed of one noise vector for all images, so that an image's sample does not
                depend on its place in the batch; None draws for each image.

        Raises:
            TypeError: The generator or the seed is of another kind.
            ValueError: The log-variance is unknown, or both arguments are given.
        """
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator is a {type(generator).__name__}; wanted a torch.Generator")
        if seed is not None:
            seed = checked_seed(seed)
        std = torch.exp(0.5 * self._known_log_variance("sample"))
        if seed is not None and generator is not None:
            raise ValueError("sample() takes a generator or a seed, not both")
        shape = tuple(self.mean.shape)
        if seed is not None:
            generator = torch.Generator(self.mean.device).manual_seed(seed)
            shape = (1, *shape[1:])
        with unrecorded() if seed is not None else nullcontext():
            noise = torch.randn(
                shape, generator=generator, dtype=self.mean.dtype, device=self.mean.device
            )
        return self.mean + std * noise

    def std(self) -> Tensor:
        """Standard deviation per dimension: (B, D).

        Raises:
            ValueError: The log-variance is unknown.
        """
        return torch.exp(0.5 * self._known_log_variance("std"))

    def at(self, location: Sequence[int]) -> "Posterior":
        """The posterior at one location of a spatial latent: D = C, its channels there.

        Args:
            location: One index per position axis, such as (i, j); negative ones count from the
                end.

        Raises:
            TypeError: The location is no sequence of whole numbers.
            ValueError: The latent has no positions, was read at one only, or has none such.
        """
        if isinstance(location, str) or not isinstance(location, Sequence):
            raise TypeError(f"location={location!r} must be one index per axis, such as (0, 1)")
        location = tuple(whole_number("location", index) for index in location)
        if self.unpooled is None:
            shape = ", ".join(map(str, self.latent_shape))
            raise ValueError(
                f"location={tuple(location)} needs a spatial latent (B, C, h, w) read per channel "
                f"(spatial='mean'); this one has shape (B, {shape})"
            )
        mean, log_variance = self.unpooled
        return Posterior(
            _at(mean, tuple(location), "location"),
            None if log_variance is None else _at(log_variance, tuple(location), "location"),
            self.latent_shape,
        )

    def _known_log_variance(self, wanted_by: str) -> Tensor:
        if self.log_variance is None:
            raise ValueError(
                f"{wanted_by}() needs the posterior's log-variance, which is unknown here: "
                "name it with the words posterior='MEAN,LOGVAR' (--posterior on the command line), "
                "or say what the second output is, PosteriorAdapter(model, read='MEAN,SECOND', "
                "spread='std')"
            )
        return self.log_variance


def standard_normal_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL( N(mean, exp(log_variance)) || N(0, 1) ) of each element, in nats.

    Args:
        mean: Posterior means, of any shape.
        log_variance: Logarithms of the posterior variances, in the same shape.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ.
    """
    _check_moments(mean, log_variance)
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)


def posterior_of_latent(
    mean: Tensor, log_variance: Tensor | None, *, spatial: Spatial = "mean"
) -> Posterior:
    """Turn a latent of any shape (B, C, ...) into a `Posterior` over D dimensions.

    Args:
        mean: Means (B, D) or (B, C, h, w), with one, two, three or more position axes.
        log_variance: Logarithms of the variances in the same shape, or None.
        spatial: How positions become dimensions. "mean" averages over positions, D = C: the
            posterior is then exactly that of the averaged latent (positions being independent, its
            variance is mean(variance) / (h*w)); "flatten" makes each element a dimension,
            D = C*h*w; a tuple (i, j) reads one position.

    Raises:
        TypeError: A tensor or the option is of another kind.
        ValueError: The shapes differ, or the position does not exist.
    """
    _check_moments(mean, log_variance)
    check_spatial(spatial)
    if mean.ndim < 2:
        raise ValueError(f"mean has shape {tuple(mean.shape)}; wanted (B, D) or (B, C, h, w)")
    latent_shape = tuple(mean.shape[1:])
    if isinstance(spatial, tuple):
        return Posterior(
            _at(mean, spatial),
            None if log_variance is None else _at(log_variance, spatial),
            latent_shape,
        )
    if mean.ndim == 2:
        return Posterior(mean, log_variance, latent_shape)
    if spatial == "flatten":
        flat = None if log_variance is None else log_variance.flatten(1)
        return Posterior(mean.flatten(1), flat, latent_shape)
    pooled = mean.flatten(2).mean(2)
    if log_variance is None:
        return Posterior(pooled, None, latent_shape, unpooled=(mean, None))
    positions = math.prod(latent_shape[1:])
    pooled_log_variance = log_variance.flatten(2).logsumexp(2) - 2 * math.log(positions)
    return Posterior(pooled, pooled_log_variance, latent_shape, unpooled=(mean, log_variance))


def check_spatial(spatial: object) -> None:
    """Refuse what is neither "mean", "flatten" nor a tuple of whole numbers.

    Raises:
        TypeError: It is of another kind.
        ValueError: It is another word.
    """
    wanted = "want 'mean', 'flatten' or a position (i, j)"
    if isinstance(spatial, str):
        if spatial not in ("mean", "flatten"):
            raise ValueError(f"spatial={spatial!r}: {wanted}")
    elif isinstance(spatial, tuple) and spatial:
        for index in spatial:
            whole_number("spatial", index, hint=wanted)
    else:
        raise TypeError(f"spatial={spatial!r}: {wanted}")


def _check_moments(mean: Tensor, log_variance: Tensor | None) -> None:
    floating_tensor("mean", mean, wanted="(B, D)")
    if log_variance is None:
        return
    floating_tensor("log_variance", log_variance, wanted="(B, D)")
    if mean.shape != log_variance.shape:
        raise ValueError(
            f"mean and log_variance must have one shape, got {tuple(mean.shape)} and "
            f"{tuple(log_variance.shape)}"
        )


def _at(latent: Tensor, position: tuple[int, ...], argument: str = "spatial") -> Tensor:
    sizes = tuple(latent.shape[2:])
    inside = len(position) == len(sizes) and all(
        -size <= index < size for index, size in zip(position, sizes, strict=True)
    )
    if not inside:
        raise ValueError(
            f"{argument}={position} is not a position of the latent {tuple(latent.shape)} "
            + (f"with positions {sizes}" if sizes else "(B, D), which has no positions")
        )
    for index in position:
        latent = latent[:, :, index]
    return latent
