"""Terms of the evidence lower bound: likelihoods, the KL per latent dimension, and their schedule.

Likelihood terms come back per image in nats with their normalising constants, so that they equal
``-torch.distributions.*.log_prob`` and can be compared between likelihoods of the same kind.
Everything is computed in float32 or wider, also under autocast.
"""

import math
from typing import Any, TypedDict, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_vae.checks import check_choice, floating_tensor, real_number, whole_number
from captum_vae.losses.options import Likelihood, OutputScale
from captum_vae.posterior import standard_normal_kl
from captum_vae.precision import at_least_float32


def bernoulli_nll(
    reconstruction: Tensor, target: Tensor, *, scale: OutputScale = "probabilities"
) -> Tensor:
    """Binary cross-entropy summed over each image, the likelihood of Liu et al. 2020.

    Args:
        reconstruction: Means in [0, 1], or their logits, (B, ...).
        target: Pixels in [0, 1], (B, ...).
        scale: What ``reconstruction`` holds, ``"probabilities"`` or ``"logits"``.

    Returns:
        Nats of each image, (B,).

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ, the batch is empty, values lie outside [0, 1], or ``scale``
            is unknown.
    """
    check_choice("scale", scale, get_args(OutputScale))
    reconstruction, target = _matching(reconstruction, target)
    _check_unit_interval(target, "target")
    if scale == "probabilities":
        _check_unit_interval(reconstruction, "reconstruction")
    # binary_cross_entropy refuses to run inside an autocast region.
    with torch.autocast(target.device.type, enabled=False):
        per_pixel = (
            F.binary_cross_entropy(reconstruction, target, reduction="none")
            if scale == "probabilities"
            else F.binary_cross_entropy_with_logits(reconstruction, target, reduction="none")
        )
    return per_pixel.flatten(1).sum(1)


def gaussian_nll(reconstruction: Tensor, target: Tensor, *, variance: float = 1.0) -> Tensor:
    """Negative log-likelihood of a Gaussian with one fixed variance, summed over each image.

    Args:
        reconstruction: Means of the pixels, (B, ...).
        target: Pixels, (B, ...).
        variance: Variance of a pixel, in squared pixel units.

    Returns:
        Nats of each image, (B,).

    Raises:
        TypeError: An image is no floating-point tensor, or the variance no number.
        ValueError: The shapes differ, the batch is empty, or ``variance`` is not positive and
            finite.
    """
    variance = real_number("variance", variance, above=0)
    reconstruction, target = _matching(reconstruction, target)
    squared_error = (reconstruction - target).square().flatten(1)
    normaliser = 0.5 * squared_error.shape[1] * math.log(2 * math.pi * variance)
    return squared_error.sum(1) / (2 * variance) + normaliser


def optimal_gaussian_nll(
    reconstruction: Tensor, target: Tensor, *, minimum_variance: float = 1e-6
) -> Tensor:
    """Negative log-likelihood of a Gaussian at the variance that minimises it (sigma-VAE).

    The shared variance of a batch has the closed form ``MSE``; the mean over the batch is then
    ``n/2 * (log(2 pi MSE) + 1)`` for images of n values: the gradient of ``n/2 log MSE``.
    Rybkin, Daniilidis, Levine, Simple and effective VAE training with calibrated decoders,
    ICML 2021, section 3.2.

    Args:
        reconstruction: Means of the pixels, (B, ...).
        target: Pixels, (B, ...).
        minimum_variance: Floor of the variance, which keeps a perfect reconstruction finite.

    Returns:
        Nats of each image, (B,).

    Raises:
        TypeError: An image is no floating-point tensor, or the minimum no number.
        ValueError: The shapes differ, the batch is empty, or ``minimum_variance`` is not positive
            and finite.
    """
    minimum_variance = real_number("minimum_variance", minimum_variance, above=0)
    reconstruction, target = _matching(reconstruction, target)
    squared_error = (reconstruction - target).square().flatten(1)
    variance = squared_error.mean().clamp(min=minimum_variance)
    normaliser = 0.5 * squared_error.shape[1] * (2 * math.pi * variance).log()
    return squared_error.sum(1) / (2 * variance) + normaliser


def kl_per_dimension(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of the diagonal Gaussian posterior to the standard normal prior, per latent dimension.

    Args:
        mean: Posterior means, (B, D) or (B, D, *positions).
        log_variance: Logarithms of the posterior variances, in the same shape.

    Returns:
        Nats, (B, D); the positions of a spatial latent are summed.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ, or there are fewer than two axes.
    """
    floating_tensor("mean", mean, wanted="(B, D)")
    floating_tensor("log_variance", log_variance, wanted="(B, D)")
    if mean.ndim < 2 or mean.shape != log_variance.shape:
        raise ValueError(
            "mean and log_variance must both be (B, D) or (B, D, *positions), got "
            f"{tuple(mean.shape)} and {tuple(log_variance.shape)}"
        )
    mean, log_variance = at_least_float32(mean), at_least_float32(log_variance)
    kl = standard_normal_kl(mean, log_variance)
    return kl.flatten(2).sum(2) if kl.ndim > 2 else kl


def free_bits(kl: Tensor, nats: float) -> Tensor:
    """Batch mean of each dimension's KL, not rewarded below ``nats``.

    Kingma et al., Improved variational inference with inverse autoregressive flow, NeurIPS 2016,
    equation 15, with every dimension its own group.

    Args:
        kl: KL of each image and dimension in nats, (B, D).
        nats: Floor per dimension; 0 leaves the means unchanged.

    Returns:
        Nats of each dimension, (D,).

    Raises:
        TypeError: ``kl`` is no floating-point tensor, or ``nats`` no number.
        ValueError: ``kl`` is not (B, D) with an image at least, or ``nats`` is negative.
    """
    floating_tensor("kl", kl, wanted="(B, D)")
    if kl.ndim != 2 or not len(kl):
        raise ValueError(f"kl has shape {tuple(kl.shape)}; wanted (B, D) with B of at least 1")
    nats = real_number("nats", nats, least=0)
    return kl.mean(0).clamp(min=nats)


def linear_warmup(step: int, warmup_steps: int) -> float:
    """Weight that climbs linearly from 0 at step 0 to 1 at ``warmup_steps`` and stays there.

    Raises:
        TypeError: An argument is no whole number.
        ValueError: An argument is negative.
    """
    step = whole_number("step", step, least=0)
    warmup_steps = whole_number("warmup_steps", warmup_steps, least=0)
    return 1.0 if warmup_steps <= 0 else min(1.0, step / warmup_steps)


class ELBOTerms(TypedDict):
    """What :class:`ELBO` returns.

    Attributes:
        loss: ``nll`` + ``beta`` times the KL after free bits: a scalar, nats per image.
        nll: Negative log-likelihood, a scalar, nats per image.
        kl: KL without free bits, a scalar, nats per image.
        beta: The weight in use, a scalar.
    """

    loss: Tensor
    nll: Tensor
    kl: Tensor
    beta: Tensor


class ELBO(nn.Module):
    """Negative evidence lower bound of a batch, its likelihood chosen by name.

    Grey photographs under ``"bernoulli"`` collapse the posterior; ``"optimal_gaussian"`` with a
    warm-up of the KL does not.

    Example::

        elbo = ELBO("optimal_gaussian", warmup_steps=500)
        reconstruction, mean, log_variance = model(images)
        elbo(reconstruction, images, mean, log_variance, step=step)["loss"].backward()
    """

    def __init__(
        self,
        likelihood: Likelihood = "optimal_gaussian",
        *,
        beta: float = 1.0,
        warmup_steps: int = 0,
        free_bits: float = 0.0,
        variance: float = 1.0,
        scale: OutputScale = "probabilities",
    ) -> None:
        """Choose the likelihood and the weight of the KL.

        Args:
            likelihood: ``"bernoulli"``, ``"gaussian"`` or ``"optimal_gaussian"``.
            beta: Final weight of the KL (Higgins et al., beta-VAE, ICLR 2017).
            warmup_steps: Steps over which the weight climbs linearly from 0 to ``beta``.
            free_bits: Nats per dimension below which the KL is not rewarded.
            variance: Variance of a pixel, for ``"gaussian"``, in squared pixel units.
            scale: What the decoder of a ``"bernoulli"`` returns, ``"probabilities"`` or
                ``"logits"``.

        Raises:
            TypeError: A number is none.
            ValueError: A name is unknown, or a number is out of range, NaN or infinite.
        """
        super().__init__()
        check_choice("likelihood", likelihood, get_args(Likelihood))
        check_choice("scale", scale, get_args(OutputScale))
        for name, number in (("beta", beta), ("free_bits", free_bits)):
            real_number(name, number, least=0)
        real_number("variance", variance, above=0)
        self.likelihood = likelihood
        self.beta = beta
        self.warmup_steps = whole_number("warmup_steps", warmup_steps, least=0)
        self.free_bits = free_bits
        self.variance = variance
        self.scale = scale

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that rebuild this object."""
        names = ("likelihood", "beta", "warmup_steps", "free_bits", "variance", "scale")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        """The configuration, as ``print(elbo)`` shows it."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config.items())

    def forward(
        self,
        reconstruction: Tensor,
        target: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        *,
        step: int | None = None,
    ) -> ELBOTerms:
        """The loss of a batch and its parts, averaged over images.

        Args:
            reconstruction: What the decoder put out, (B, ...).
            target: The images, (B, ...).
            mean: Posterior means, (B, D) or (B, D, *positions).
            log_variance: Logarithms of the posterior variances, in the shape of ``mean``.
            step: Training step, for the warm-up; None means that the warm-up is over.

        Returns:
            The loss and its parts, see :class:`ELBOTerms`.

        Raises:
            TypeError: An argument is no floating-point tensor, or ``step`` no whole number.
            ValueError: Shapes do not fit, or the batch is empty.
        """
        nll = self.negative_log_likelihood(reconstruction, target).mean()
        kl = kl_per_dimension(mean, log_variance)
        beta = self.beta * (1.0 if step is None else linear_warmup(step, self.warmup_steps))
        penalty = free_bits(kl, self.free_bits).sum()
        return ELBOTerms(
            loss=nll + beta * penalty,
            nll=nll,
            kl=kl.sum(1).mean(),
            beta=torch.tensor(beta, device=kl.device),
        )

    def negative_log_likelihood(self, reconstruction: Tensor, target: Tensor) -> Tensor:
        """The chosen likelihood's term per image, (B,) nats."""
        if self.likelihood == "bernoulli":
            return bernoulli_nll(reconstruction, target, scale=self.scale)
        if self.likelihood == "gaussian":
            return gaussian_nll(reconstruction, target, variance=self.variance)
        return optimal_gaussian_nll(reconstruction, target)


def _matching(reconstruction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    floating_tensor("reconstruction", reconstruction, wanted="(B, ...)")
    floating_tensor("target", target, wanted="(B, ...)")
    if not target.numel():
        raise ValueError(f"target has shape {tuple(target.shape)}: the batch is empty")
    if reconstruction.shape != target.shape or reconstruction.ndim < 2:
        raise ValueError(
            "reconstruction and target must have the same shape (B, ...), got "
            f"{tuple(reconstruction.shape)} and {tuple(target.shape)}"
        )
    return at_least_float32(reconstruction), at_least_float32(target)


def _check_unit_interval(values: Tensor, name: str) -> None:
    # A NaN must pass: a diverged model is the trainer's to report, with the step. The check reads
    # the values back, so on an accelerator it would stall every step and the kernel asserts anyway.
    if values.device.type != "cpu":
        return
    low, high = values.detach().aminmax()
    if low < 0 or high > 1:
        raise ValueError(
            f"{name} must lie in [0, 1] for a Bernoulli likelihood, got [{low:g}, {high:g}]; "
            "scale the images, or choose likelihood='gaussian' or 'optimal_gaussian'"
        )
