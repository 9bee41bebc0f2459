"""What is explained: the posterior's mean, or another quantity of it by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import Tensor

from captum_vae.posterior import Posterior

Quantity = Literal["mean", "log_variance", "logvar", "kl", "sample"] | Callable[[Posterior], Tensor]
"""A name, or a function of the posterior that gives the scalars to explain, (B, T)."""

QUANTITIES = ("mean", "log_variance", "logvar", "kl", "sample")


def check_quantity(of: Quantity) -> Quantity:
    """``of`` itself, its short name written out.

    Raises:
        ValueError: Another word than :data:`QUANTITIES`.
        TypeError: Neither a word nor a callable.
    """
    if callable(of):
        return of
    if not isinstance(of, str):
        raise TypeError(
            f"of={of!r} must be one of {', '.join(QUANTITIES)}, or a callable of the posterior"
        )
    if of not in QUANTITIES:
        raise ValueError(
            f"of={of!r} is not known; choose one of {', '.join(QUANTITIES)}, or a callable of the "
            "posterior that gives (B, D)"
        )
    return "log_variance" if of == "logvar" else of


def quantity_name(of: Quantity) -> str:
    """``of`` as messages and ``repr`` show it."""
    return getattr(of, "__name__", type(of).__name__) if callable(of) else repr(of)


def latent_codes(posterior: Posterior, of: Quantity, *, seed: int) -> Tensor:
    """The scalars (B, D) that ``of`` names.

    Args:
        posterior: Posterior of a batch, with its graph.
        of: ``mean``; ``log_variance``; ``kl``, to the standard normal in nats; ``sample``,
            one reparametrised draw whose noise is the same for every image; or a callable of the
            posterior.
        seed: Seed of the noise for ``sample``.

    Raises:
        ValueError: The log-variance is needed and unknown, or a callable gave another shape.
        TypeError: A callable gave no tensor.
    """
    if callable(of):
        return _checked(of(posterior), of, posterior)
    if of == "mean":
        return posterior.mean
    if posterior.log_variance is None:
        raise ValueError(
            f"of={of!r} needs the posterior's log-variance, and none was read: the model has none "
            "(a deterministic autoencoder), or it was not recognised; name it, as in "
            "posterior='MEAN,LOGVAR', or explain of='mean'"
        )
    if of == "kl":
        return posterior.kl()
    return posterior.sample(seed=seed) if of == "sample" else posterior.log_variance


def _checked(codes: object, of: Quantity, posterior: Posterior) -> Tensor:
    if not isinstance(codes, Tensor):
        raise TypeError(
            f"of={quantity_name(of)} gave {type(codes).__name__}; wanted a tensor (B, T) of "
            "scalars to explain"
        )
    batch = posterior.mean.shape[0]
    if codes.dim() != 2 or codes.shape[0] != batch or not codes.is_floating_point():
        raise ValueError(
            f"of={quantity_name(of)} gave {tuple(codes.shape)} {codes.dtype} for a batch of "
            f"{batch}; wanted floating-point scalars to explain, ({batch}, T)"
        )
    return codes
