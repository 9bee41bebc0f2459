"""Total correlation by a density-ratio discriminator: FactorVAE.

Kim & Mnih, Disentangling by factorising, ICML 2018, sections 3.2-3.3 and algorithm 2. A
discriminator learns to tell codes of the aggregate posterior q(z) from codes whose dimensions were
shuffled independently, q(z_1) ... q(z_D); its log-odds estimate the log density ratio whose mean is
the total correlation.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_vae.checks import floating_tensor
from captum_vae.precision import at_least_float32


def permute_dims(z: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Shuffle every latent dimension over the batch independently (algorithm 1).

    Args:
        z: Codes, (B, D).
        generator: Source of randomness, on the device of ``z``; PyTorch's own when None.

    Returns:
        Codes, (B, D), of which each column is a permutation of the same column of ``z``.

    Raises:
        TypeError: ``z`` is no floating-point tensor.
        ValueError: ``z`` is not (B, D).
    """
    floating_tensor("z", z, wanted="(B, D)")
    if z.ndim != 2:
        raise ValueError(f"z must be (B, D), got {tuple(z.shape)}; flatten a spatial latent first")
    order = torch.rand(z.shape, device=z.device, generator=generator).argsort(dim=0)
    return z.gather(0, order)


def total_correlation(discriminator_output: Tensor) -> Tensor:
    """Estimate of TC(z): the mean log-odds that codes are from q(z) (equation 3).

    Args:
        discriminator_output: What the discriminator says of codes from q(z): logits (B, 2) of the
            classes (q(z), permuted), or logits (B,) or (B, 1) of being from q(z).

    Returns:
        A scalar in nats; its gradient reaches the encoder through the codes.

    Raises:
        TypeError: It is no floating-point tensor.
        ValueError: It has another shape, or holds no code.
    """
    return _log_odds(discriminator_output).mean()


def discriminator_loss(joint_output: Tensor, permuted_output: Tensor) -> Tensor:
    """Cross-entropy that trains the discriminator (algorithm 2, last line).

    The codes behind both arguments must be detached from the VAE, and those behind
    ``permuted_output`` must come from a second batch drawn independently of the first.

    Args:
        joint_output: What the discriminator says of codes from q(z), in one of the shapes that
            :func:`total_correlation` takes.
        permuted_output: What it says of :func:`permute_dims` of the second batch's codes.

    Returns:
        A scalar in nats: log 2 when the discriminator cannot tell them apart.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: An argument has another shape, or holds no code.
    """
    wrong_on_joint = F.softplus(-_log_odds(joint_output)).mean()
    wrong_on_permuted = F.softplus(_log_odds(permuted_output)).mean()
    return 0.5 * (wrong_on_joint + wrong_on_permuted)


def _log_odds(output: Tensor) -> Tensor:
    floating_tensor("the discriminator's output", output, wanted="(B, 2)")
    if not output.numel():
        raise ValueError(
            f"the discriminator's output has shape {tuple(output.shape)}: the batch is empty"
        )
    if output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1):
        return at_least_float32(output.reshape(-1))
    if output.ndim == 2 and output.shape[1] == 2:
        return at_least_float32(output[:, 0] - output[:, 1])
    raise ValueError(
        f"the discriminator's output must be (B,), (B, 1) or (B, 2), got {tuple(output.shape)}"
    )
