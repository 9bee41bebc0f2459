"""Paper Eq. 4: the difference between an image's posterior and that of the normal class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from captum_vae.attr.arguments import Target, image_batches, latent_dims
from captum_vae.attr.engine.layers import Layers
from captum_vae.attr.latent_codes import quantity_name
from captum_vae.attr.latent_grad_cam import LatentGradCAM
from captum_vae.checks import check_choice
from captum_vae.posterior import Posterior
from captum_vae.posterior.recorded import unrecorded

Difference = Literal["mean", "sample", "mahalanobis"]


class NormalDifferenceGradCAM(LatentGradCAM):
    r"""One attention map of how the posterior differs from that of normal images (paper Eq. 4).

    Per dimension, u_d ~ N(mu_d(normal) - mu_d(x), var_d(normal) + var_d(x)); the sum of u over the
    target's dimensions is explained as in method 2. The statistics of the normal class are fitted:
    mu(normal) is the mean of the posterior means, var(normal) the variance of the mixture of the
    normal images' posteriors. Maps are (B, 1, h, w).

    The normal term is constant, so the expected u has the gradient of method 2 with the other
    sign. What can differ is the weighting of the dimensions, chosen by ``difference``.

    Example::

        >>> cam = NormalDifferenceGradCAM(vae, vae.encoder.conv2).fit(loader_of_normal_images)
        >>> maps = cam.attribute(x, rectifier="abs")
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: Layers | None,
        device_ids: list[int] | None = None,
        *,
        difference: Difference = "mean",
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Name the model and the layer; ``fit`` comes next.

        Args:
            forward_func: The VAE, or any callable that gives its posterior.
            layer: Module whose features are explained, its dotted name, or a sequence of either.
            device_ids: Accepted for Captum's signature, and not used.
            difference: ``mean`` explains the sum of the expected u; ``sample`` draws u, with one
                noise vector for all images, so that gradients reach var(x) too; ``mahalanobis``
                explains half the sum of u^2 / (var(normal) + var(x)), which weighs each dimension
                by how unusual it is.
            seed: Seed of the noise for ``sample``.
            **options: The other keywords of ``LatentGradCAM``: ``posterior``, ``location``,
                ``reshape_transform``, ``dims_per_pass`` and ``memory_budget``.
        """
        super().__init__(forward_func, layer, device_ids, seed=seed, **options)
        if self.of != "mean":
            raise ValueError(
                f"of={quantity_name(self.of)}: the normal difference is one of whole posteriors; "
                "choose what counts of it with difference="
            )
        check_choice("difference", difference, ("mean", "sample", "mahalanobis"))
        self.difference = difference
        self.normal_mean: Tensor | None = None
        self.normal_variance: Tensor | None = None

    def fit(self, batches: Iterable[Any]) -> NormalDifferenceGradCAM:
        """Take the statistics of the normal class.

        Args:
            batches: Normal images (B, C, h, w), or tuples that begin with them.

        Raises:
            ValueError: No images, or, unless ``difference="mean"``, a posterior whose variance
                cannot be read.
        """
        means: list[Tensor] = []
        variances: list[Tensor] = []
        with torch.no_grad():
            for images in image_batches("batches", batches):
                posterior = self._located(self.posterior.look(images))
                means.append(posterior.mean.double())
                if self.difference != "mean" or posterior.log_variance is not None:
                    variances.append(self._log_variance(posterior).double().exp())
        if not means:
            raise ValueError("batches is empty: fit needs at least one normal image")
        mean = torch.cat(means)
        self.normal_mean = mean.mean(0)
        if variances:
            self.normal_variance = torch.cat(variances).mean(0) + mean.var(0, correction=0)
        return self

    def codes(self, posterior: Posterior, target: Target) -> tuple[Tensor, tuple[int, ...]]:
        """The difference's score, (B, 1)."""
        if self.normal_mean is None:
            raise ValueError("the normal class is unknown; call fit(loader_of_normal_images) first")
        posterior = self._located(posterior)
        dims = list(latent_dims(target, posterior.mean.shape[1]))
        difference = self.normal_mean.to(posterior.mean)[dims] - posterior.mean[:, dims]
        if self.difference == "mean":
            return difference.sum(1, keepdim=True), (0,)
        assert self.normal_variance is not None
        variance = self.normal_variance.to(posterior.mean)[dims] + (
            self._log_variance(posterior)[:, dims].exp()
        )
        if self.difference == "sample":
            generator = torch.Generator(difference.device).manual_seed(self.seed)
            with unrecorded():
                noise = torch.randn(
                    (1, posterior.mean.shape[1]),
                    generator=generator,
                    dtype=difference.dtype,
                    device=difference.device,
                )
            return (difference + variance.sqrt() * noise[:, dims]).sum(1, keepdim=True), (0,)
        return 0.5 * (difference.square() / variance).sum(1, keepdim=True), (0,)

    def _log_variance(self, posterior: Posterior) -> Tensor:
        if posterior.log_variance is None:
            raise ValueError(
                f"difference={self.difference!r} needs the posterior's log-variance, which "
                f"{self.posterior!r} does not read; name it with posterior='MEAN,LOGVAR', or take "
                "difference='mean'"
            )
        return posterior.log_variance
