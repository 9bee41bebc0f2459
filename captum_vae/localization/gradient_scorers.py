"""Scorers from the gradient of the VAE's own loss with respect to the image."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from captum_vae.attr.reconstruction import reconstruct
from captum_vae.checks import check_choice, real_number, whole_number
from captum_vae.localization.model_pass import ModelPass, NormalImages
from captum_vae.localization.pixel_scorers import Distance, pixel_distance
from captum_vae.localization.scorer import Fitting, Scale, Scorer
from captum_vae.losses.elbo import bernoulli_nll, kl_per_dimension
from captum_vae.posterior import Posterior


class ELBOGradient(Scorer):
    r"""How strongly each pixel pulls on the evidence lower bound: abs(d ELBO / d x), channel mean.

    With z at the posterior mean. The Gaussian's variance is the mean squared reconstruction error
    of the normal images (fitted), so that a map does not depend on its batch.
    Zimmerer et al., Unsupervised anomaly localization using variational auto-encoders, MICCAI 2019.
    """

    FITTED: ClassVar[tuple[str, ...]] = (*Scorer.FITTED, "_variance")

    def __init__(
        self,
        model: Any,
        *,
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Choose the likelihood, ``gaussian`` or ``bernoulli`` (images in [0, 1])."""
        super().__init__(model, posterior=posterior, scale=scale)
        check_choice("likelihood", likelihood, ("gaussian", "bernoulli"))
        self.likelihood = likelihood
        self._variance: Tensor | None = None

    def fit_normal(self, normal: NormalImages) -> Fitting:
        """Take the mean squared reconstruction error of a pixel."""
        if self.likelihood == "bernoulli":
            return
        total, count = torch.zeros((), dtype=torch.float64), 0

        def add(shared: ModelPass) -> None:
            nonlocal total, count
            error = (shared.images - shared.reconstruction).double()
            total = total + error.square().sum().cpu()
            count += error.numel()

        yield add
        self._variance = (total / count).clamp(min=1e-6)

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """Magnitude of the gradient, (B, H, W)."""
        with torch.enable_grad():
            images = shared.images.detach().clone().requires_grad_()
            posterior = self.adapter.look(images)
            reconstruction = reconstruct(self.adapter, (images,), posterior, keep_graph=True)
            loss = self._negative_log_likelihood(reconstruction, images)
            (gradient,) = torch.autograd.grad(loss + self._kl(posterior), images)
        return gradient.abs().mean(1)

    def _negative_log_likelihood(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        if self.likelihood == "bernoulli":
            return bernoulli_nll(reconstruction, images).sum()
        variance = float(self._fitted(self._variance))
        return (reconstruction - images).square().sum() / (2 * variance)

    def _kl(self, posterior: Posterior) -> Tensor:
        mean, log_variance = posterior.unpooled or (posterior.mean, posterior.log_variance)
        if log_variance is None:
            raise ValueError(
                "the ELBO needs the posterior's log-variance, which cannot be read here; name it: "
                "posterior='MEAN,LOGVAR'"
            )
        return kl_per_dimension(mean, log_variance).sum()


class GradientProjection(Scorer):
    r"""How far a pixel moves when the image is projected onto what the VAE takes for normal.

    Gradient descent on the image, from x0, of the energy

        E(x) = sum (x - f(x))^2 + sparsity * sum abs(x - x0),   f the reconstruction,
        x <- x - step_size * dE/dx * (x - f(x))^2,

    whose second factor keeps well-reconstructed pixels in place. The score is the distance of the
    image from x after the last step.
    Dehaene, Frigo, Combrexelle, Eline, Iterative energy-based projection on a normal data manifold
    for anomaly localization, ICLR 2020: the strongest published VAE-gradient peer.
    """

    def __init__(
        self,
        model: Any,
        *,
        steps: int = 50,
        step_size: float = 0.5,
        sparsity: float = 0.05,
        distance: Distance = "squared",
        posterior: Any = None,
        scale: Scale = "none",
    ) -> None:
        """Choose the descent.

        Args:
            model: The VAE.
            steps: Number of steps of gradient descent.
            step_size: Factor of the gradient.
            sparsity: Weight of the distance to the image as it came.
            distance: Distance of the image from its projection, ``squared`` or ``absolute``.
            posterior: How to read the posterior.
            scale: ``none``, or what maps are divided by, ``location`` or ``shrunk``; see
                :class:`captum_vae.localization.Scorer`.

        Raises:
            ValueError: A number out of range,.
        """
        super().__init__(model, posterior=posterior, scale=scale)
        check_choice("distance", distance, get_args(Distance))
        steps = whole_number("steps", steps, least=1)
        step_size = real_number("step_size", step_size)
        sparsity = real_number("sparsity", sparsity)
        if step_size <= 0 or sparsity < 0:
            raise ValueError(
                f"step_size={step_size}, sparsity={sparsity}; wanted a positive step_size and a "
                "sparsity of 0 or more"
            )
        self.steps, self.step_size, self.sparsity = steps, step_size, sparsity
        self.distance = distance

    def fit_normal(self, normal: NormalImages) -> None:
        """Nothing to learn."""

    def project(self, images: Tensor) -> Tensor:
        """The projected images (B, C, H, W), clamped to [0, 1]."""
        moved = images.detach().clone()
        for _ in range(self.steps):
            with torch.enable_grad():
                moved.requires_grad_()
                error = moved - reconstruct(self.adapter, (moved,), keep_graph=True)
                energy = error.square().sum() + self.sparsity * (moved - images).abs().sum()
                (gradient,) = torch.autograd.grad(energy, moved)
            moved = (moved - self.step_size * gradient * error.square()).detach().clamp(0, 1)
        return moved

    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """Distance of the images from their projection, (B, H, W)."""
        moved = self.project(shared.images)
        return pixel_distance(shared.images, moved, self.distance).detach()
