"""Checks of what a user hands to ``attribute``: each names the argument, what came, the fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_vae.checks import warn_caller
from captum_vae.posterior import CollapsedPosteriorWarning, Posterior
from captum_vae.posterior.usage import is_active

Target = int | Sequence[int] | Tensor | np.ndarray[Any, Any] | None


def latent_dims(target: Target, count: int) -> tuple[int, ...]:
    """The latent dimensions that ``target`` names, without repeats.

    Args:
        target: None for all, an int, a sequence, tensor or array of ints; negative ones count from
            the end.
        count: D.

    Raises:
        ValueError: none named, or one out of range.
        TypeError: something other than whole numbers.
    """
    if target is None:
        return tuple(range(count))
    if isinstance(target, (Tensor, np.ndarray)):
        target = target.flatten().tolist()
    wanted = list(target) if isinstance(target, Sequence) else [target]
    if not wanted:
        raise ValueError("target is empty; give latent dimensions, or None for all")
    dims: dict[int, None] = {}
    for dim in wanted:
        if isinstance(dim, bool) or not hasattr(dim, "__index__"):
            raise TypeError(f"target={target!r} must name latent dimensions by whole numbers")
        if not -count <= dim < count:
            raise ValueError(
                f"target={dim} is out of range: the posterior has {count} latent dimensions, "
                f"0 to {count - 1}"
            )
        dims[int(dim) % count] = None
    return tuple(dims)


def warn_of_collapse(posterior: Posterior) -> None:
    """Warn when no latent dimension carries information about this batch.

    The rule is that of :func:`captum_vae.posterior.usage.is_active` by the KL alone: a batch to be
    explained need not be a sample of the data, so its spread says nothing.
    """
    if posterior.log_variance is None:
        return
    with torch.no_grad():
        kl = posterior.kl().mean(0)
    if not is_active(kl).any():
        warn_caller(
            "the posterior carries no information about this batch (largest KL "
            f"{float(kl.max()):.2g} nats): the VAE is untrained or collapsed, and its maps are "
            "noise; see captum_vae.metrics for the active dimensions",
            CollapsedPosteriorWarning,
        )
