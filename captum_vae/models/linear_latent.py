"""A linear VAE of feature tensors: probabilistic principal components, fitted in closed form.

Tipping & Bishop, Probabilistic principal component analysis, JRSS B 1999; Lucas et al., Don't blame
the ELBO, NeurIPS 2019, for its being the optimum of a linear VAE. With Delta = A - mean,
C = W W' + s2 I and the eigenvalues lambda_d and unit directions u_d of the covariance of A:

    W = U (Lambda - s2 I)^(1/2)            what the decoder multiplies z with
    mu_d = sqrt(lambda_d - s2) / lambda_d  u_d . Delta      the posterior mean
    sigma_d^2 = s2 / lambda_d              the posterior variance, the same for every image

so with e_d = d mu_d / d A the squared difference from the mean is the Mahalanobis distance, which
is the negative log-likelihood up to a constant, plus what the latent reads:

    |Delta|^2 / s2 = Delta' C^-1 Delta + sum_d (e_d . Delta / sigma_d)^2
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_vae.checks import floating_tensor, real_number, whole_number
from captum_vae.models.feature_scatter import FeatureScatter
from captum_vae.models.latent_choice import held_out_latent_dim


class LinearLatent(nn.Module):
    """Probabilistic principal components of feature tensors, with a posterior and a decoder.

    :func:`fit_linear_latent` makes one. Everything it knows is in buffers, so ``state_dict``,
    ``to``, ``double`` and ``half`` work as on any module; nothing is trained by gradients.

    Args:
        feature_shape: (K, h, w), or any other shape of a feature tensor without the batch.
        latent_dims: D, the number of latent dimensions.

    Attributes:
        mean: Mean of the features, (K, h, w).
        directions: U, (D, K*h*w): orthonormal rows, of falling eigenvalue.
        eigenvalues: Variance lambda_d of the features along each direction, (D,).
        noise: Variance s2 of the features along every other direction, a tensor without axes; no
            eigenvalue is smaller.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: A number is below 1.

    Example::

        >>> latent = fit_linear_latent(torch.randn(40, 4, 4, 4).split(8), latent_dim=3)
        >>> mean, variance = latent.encode(torch.randn(2, 4, 4, 4))
        >>> latent.decode(mean).shape
        torch.Size([2, 4, 4, 4])
    """

    mean: Tensor
    directions: Tensor
    eigenvalues: Tensor
    noise: Tensor

    def __init__(self, feature_shape: Sequence[int], latent_dims: int) -> None:
        """Hold buffers of the right shapes: a standard Gaussian, until something is loaded."""
        super().__init__()
        if isinstance(feature_shape, str | bytes) or not isinstance(feature_shape, Sequence):
            raise TypeError(f"feature_shape={feature_shape!r} must be a shape, such as (K, h, w)")
        shape = tuple(whole_number("feature_shape", side, least=1) for side in feature_shape)
        width = int(torch.tensor(shape).prod())
        latent_dims = whole_number("latent_dims", latent_dims, least=1, most=width)
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("directions", torch.eye(latent_dims, width))
        self.register_buffer("eigenvalues", torch.ones(latent_dims))
        self.register_buffer("noise", torch.tensor(0.5))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> LinearLatent:
        """The linear VAE whose ``state_dict()`` this is; shapes and type are read from it.

        Raises:
            ValueError: An entry is missing, or the shapes do not fit each other.
        """
        try:
            mean, directions = state["mean"], state["directions"]
            latent = cls(mean.shape, len(directions)).to(mean.device, mean.dtype)
            latent.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the state is none of a LinearLatent: {reason}") from error
        return latent

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """Shape of a feature tensor without the batch, (K, h, w)."""
        return tuple(self.mean.shape)

    @property
    def latent_dims(self) -> int:
        """D, the number of latent dimensions."""
        return len(self.eigenvalues)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable."""
        return {"feature_shape": list(self.feature_shape), "latent_dims": self.latent_dims}

    def encode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of a batch of features.

        Args:
            features: A, (B, K, h, w), floating point.

        Returns:
            Mean and variance of q(z|A), each (B, D); the variance is the same for every image.

        Raises:
            TypeError: The features are no floating-point tensor.
            ValueError: They have another shape than :attr:`feature_shape`.
        """
        self._check_features(features)
        # U A - U mean, so that the features reach a Linear through nothing but flatten: then the
        # channel weights of all dimensions are known without a backward pass.
        origin = self.directions @ self.mean.flatten()
        coordinates = F.linear(features.flatten(1), self.directions, -origin)
        mean = coordinates * (self._scales() / self.eigenvalues)
        return mean, (self.noise / self.eigenvalues).expand_as(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Features of a batch of latents: ``mean + W z``.

        Args:
            z: Latents, (B, D).

        Returns:
            Features (B, K, h, w).

        Raises:
            TypeError: The latents are no floating-point tensor.
            ValueError: They have another shape.
        """
        floating_tensor("z", z, wanted=f"(B, {self.latent_dims})")
        if z.ndim != 2 or z.shape[1] != self.latent_dims:
            raise ValueError(f"z has shape {tuple(z.shape)}; wanted (B, {self.latent_dims})")
        difference = (z * self._scales()) @ self.directions
        return self.mean + difference.reshape(-1, *self.feature_shape)

    def explained(self, features: Tensor) -> Tensor:
        """What the latent explains of features: the features decoded from their posterior mean.

        That is ``mean + U S U' (A - mean)`` with the shrinkage ``S = 1 - s2 / lambda_d`` of each
        direction, which is close to 1 where a direction varies by more than noise.

        Args:
            features: A, (B, K, h, w), floating point.

        Returns:
            Features (B, K, h, w).

        Raises:
            TypeError: The features are no floating-point tensor.
            ValueError: They have another shape than :attr:`feature_shape`.
        """
        return self.decode(self.encode(features)[0])

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Explained features (B, K, h, w), posterior mean and log-variance, each (B, D)."""
        mean, variance = self.encode(features)
        return self.decode(mean), mean, variance.log()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # D is chosen when the model is fitted, so a state may hold another number than was built.
        for name in ("directions", "eigenvalues"):
            held, given = self.get_buffer(name), state_dict.get(f"{prefix}{name}")
            if isinstance(given, Tensor) and given.shape[1:] == held.shape[1:]:
                setattr(self, name, held.new_empty(given.shape))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _scales(self) -> Tensor:
        """Square roots of ``lambda - s2``, (D,): the lengths of the columns of W."""
        return (self.eigenvalues - self.noise).clamp_min(0).sqrt()

    def _check_features(self, features: Tensor) -> None:
        wanted = f"(B, {', '.join(map(str, self.feature_shape))})"
        floating_tensor("features", features, wanted=wanted)
        if tuple(features.shape[1:]) != self.feature_shape:
            raise ValueError(f"features have shape {tuple(features.shape)}; wanted {wanted}")


def fit_linear_latent(
    batches: Iterable[Tensor],
    latent_dim: int | Literal["auto"] = "auto",
    *,
    memory_gb: float = 1.0,
) -> LinearLatent:
    """The maximum-likelihood linear VAE of features, in closed form.

    One pass over the batches. As long as the features of all images fit in ``memory_gb``, up to
    2,048 images, the result is the exact optimum, from the N x N Gram matrix of the N images;
    beyond that the leading half of the principal axes that fit is kept (incremental SVD).

    With ``latent_dim="auto"`` D has the largest likelihood on images left out, over five folds of
    consecutive images: too few dimensions leave differences between normal images unexplained, too
    many fit the images at hand. Where the features do not fit in memory, D is chosen on images
    evenly spaced over the data, and a second pass fits.

    Args:
        batches: Features of normal images, (B, K, h, w) each, floating point; a list, a
            DataLoader, or anything else that can be gone through, more than once for "auto" on
            features beyond memory.
        latent_dim: D, at most N - 2; or "auto".
        memory_gb: Memory in 10^9 bytes for the features. Work space comes on top, mostly D features
            in float64 a few times.

    Returns:
        The linear VAE, on the device of the features, in their type; half-precision features give
        float32.

    Raises:
        TypeError: A batch is no floating-point tensor, ``latent_dim`` is of another kind, or
            batches that give each tensor only once are needed twice.
        ValueError: There are too few images, the batches differ in shape, a number is not finite,
            the images vary in fewer directions than ``latent_dim``, or the memory is too small.

    Example::

        >>> latent = fit_linear_latent(torch.randn(40, 4, 4, 4).split(8), latent_dim=3)
        >>> latent.explained(torch.randn(2, 4, 4, 4)).shape
        torch.Size([2, 4, 4, 4])
    """
    memory = real_number("memory_gb", memory_gb, above=0) * 1e9
    if latent_dim == "auto":
        sample, shape = _gathered(batches, memory, when_full="thin")
        chosen = held_out_latent_dim(sample.gram(), sample.rows.shape[1])
        if sample.exact:
            return _maximum_likelihood(sample, shape, chosen)
        if isinstance(batches, Iterator):
            raise TypeError(
                f"the features of {sample.count} images take more than memory_gb={memory_gb:g}, so "
                f"that batches are needed twice, and {type(batches).__name__} gives each only "
                "once; pass a list or a DataLoader, latent_dim as a number, or more memory_gb"
            )
        del sample
    else:
        chosen = whole_number("latent_dim", latent_dim, least=1, hint='or "auto"')
    scatter, shape = _gathered(batches, memory, when_full="compress")
    return _maximum_likelihood(scatter, shape, chosen)


def _gathered(
    batches: Iterable[Tensor], memory: float, *, when_full: Literal["compress", "thin"]
) -> tuple[FeatureScatter, tuple[int, ...]]:
    """The scatter of all features, in ``memory`` bytes, and the shape of one image's."""
    scatter: FeatureScatter | None = None
    shape: tuple[int, ...] = ()
    for number, features in enumerate(batches):
        floating_tensor(f"batch {number}", features, wanted="(B, K, h, w)")
        if features.ndim < 2:
            raise ValueError(
                f"batch {number} has shape {tuple(features.shape)}; wanted (B, K, h, w)"
            )
        vectors = features.detach().flatten(1)
        if vectors.dtype not in (torch.float32, torch.float64):
            vectors = vectors.float()
        if scatter is None:
            shape = tuple(features.shape[1:])
            width = vectors.shape[1]
            rows = int(memory // (width * vectors.element_size()))
            if rows < _FEWEST_ROWS:
                raise ValueError(
                    f"memory_gb={memory / 1e9:g} holds the features {shape} of {rows} images; "
                    f"wanted room for at least {_FEWEST_ROWS}: "
                    f"{_FEWEST_ROWS * width * vectors.element_size() / 1e9:.2g}"
                )
            rows = min(rows, MOST_ROWS)
            scatter = FeatureScatter(width, rows, when_full=when_full, like=vectors)
        if tuple(features.shape[1:]) != shape:
            raise ValueError(
                f"batch {number} has features of shape {tuple(features.shape[1:])}, the first "
                f"batch {shape}; they must be equal"
            )
        scatter.add(vectors)
        if not scatter.total.isfinite():
            raise ValueError(f"batch {number} has features that are not finite")
    if scatter is None or scatter.count < 3:
        count = scatter.count if scatter else 0
        raise ValueError(f"batches hold {count} images; wanted at least 3 normal images")
    if not scatter.total > 0:
        raise ValueError("the features of all images are the same; wanted images that differ")
    return scatter, shape


def _maximum_likelihood(
    scatter: FeatureScatter, shape: tuple[int, ...], latent_dim: int
) -> LinearLatent:
    """Tipping & Bishop, equations 7 and 8."""
    count, width = scatter.count, scatter.rows.shape[1]
    most = min(count - 2, width - 1)
    if latent_dim > most:
        raise ValueError(
            f"latent_dim={latent_dim} is too many for {count} images of {width} features each; "
            f"wanted at most {most}, or more images"
        )
    if not scatter.exact and latent_dim > len(scatter.rows) // 2:
        raise ValueError(
            f"memory_gb is too small for latent_dim={latent_dim} of {count} images' features: it "
            f"holds {len(scatter.rows)} axes; wanted memory for {2 * latent_dim} or more"
        )
    directions, eigenvalues = scatter.principal(latent_dim)
    rest = scatter.total - eigenvalues.sum()
    rounding = max(torch.finfo(scatter.rows.dtype).eps, 1e-12)
    if not rest > rounding * scatter.total:
        raise ValueError(
            f"the features of {count} images vary in no more than latent_dim={latent_dim} "
            "directions, which leaves no variance for noise; wanted fewer dimensions, or images "
            "that differ more"
        )
    latent = LinearLatent(shape, latent_dim).to(scatter.rows.device, scatter.rows.dtype)
    latent.mean.copy_(scatter.mean.reshape(shape))
    latent.directions.copy_(directions)
    latent.eigenvalues.copy_(eigenvalues / count)
    latent.noise.copy_(rest / count / (width - latent_dim))
    return latent


MOST_ROWS = 2048
"""Images whose features are kept for the exact optimum, if they fit in memory: the eigenvectors of
a Gram matrix of this size take a few seconds."""

_FEWEST_ROWS = 16
