"""The one rule for which latent dimensions a VAE uses, and so which are collapsed.

A dimension that ignores its input has a posterior equal to the prior, so a KL of 0, or at least a
posterior mean that is the same for every image. Attention on such a dimension is noise. Every part
of the package that calls a dimension active, used, inactive or collapsed asks this module; a
dimension is collapsed exactly when it is not active.
"""

from torch import Tensor

ACTIVE_KL = 0.01
"""Mean KL to the prior, in nats, above which a dimension can be active. Burda et al. (Importance
weighted autoencoders, ICLR 2016, section 5.2) found the statistics of used and unused dimensions
to lie orders of magnitude on either side of .01."""

ACTIVE_STD = 0.1
"""Standard deviation over the images of the posterior mean, in units of the latent, above which a
dimension can be active: the square root of the variance .01 of Burda et al., their threshold."""

IMAGES_FOR_STD = 10
"""Fewest images whose standard deviation is taken for that of the data when the images are the
user's choice: of fewer, the standard error of a standard deviation is above a quarter of it."""

PRUNING_STD = 0.05
"""Standard deviation below which the FactorVAE metric leaves a dimension out of the vote. It is
part of that metric as published (Kim and Mnih 2018; disentanglement_lib), not of the rule of this
module."""


def is_active(
    kl: Tensor,
    std: Tensor | None = None,
    *,
    kl_threshold: float = ACTIVE_KL,
    std_threshold: float = ACTIVE_STD,
) -> Tensor:
    """Which latent dimensions are active, (D,) bool.

    A dimension is active when its KL and the standard deviation of its mean are both above their
    thresholds: the KL alone also counts a dimension whose posterior is the same for every image
    without being the prior, the deviation alone one whose posterior is as wide as the prior and
    barely moves.

    Args:
        kl: KL to the prior per dimension, averaged over the images, (D,) in nats.
        std: Standard deviation over the images of the posterior mean, (D,), see
            :func:`std_over_images`. None where it is unknown: of a few images, or of a batch that
            was not drawn as a sample of the data, such as noisy copies of one image. The KL then
            decides alone.
        kl_threshold: Nats that the KL must exceed.
        std_threshold: Units of the latent that the standard deviation must exceed.
    """
    informative = kl > kl_threshold
    return informative if std is None else informative & (std > std_threshold)


def std_over_images(mean: Tensor) -> Tensor | None:
    """Standard deviation of posterior means (N, D) over the images, (D,), with the divisor N.

    None for fewer than ``IMAGES_FOR_STD`` images, whose deviation says too little about the data.
    """
    return mean.std(0, correction=0) if len(mean) >= IMAGES_FOR_STD else None


def rule_in_words(*, std_known: bool = True) -> str:
    """The rule with its thresholds as a page prints it, such as after "active means"."""
    rule = f"KL above {ACTIVE_KL:g} nats"
    return f"{rule} and std of the mean above {ACTIVE_STD:g}" if std_known else rule
