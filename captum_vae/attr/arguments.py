"""Checks of what a user hands to ``attribute``: each names the argument, what came, the fix."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.attr._captum import format_additional_forward_args, format_inputs
from captum_vae.attr.engine.capture import describe
from captum_vae.posterior import CollapsedPosteriorWarning, Posterior
from captum_vae.posterior.usage import is_active

Target = int | Sequence[int] | Tensor | np.ndarray[Any, Any] | None
Size = int | Sequence[int] | str | None


def forward_arguments(
    inputs: Tensor | tuple[Tensor, ...], additional_forward_args: Any
) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """The inputs and the further positional arguments, as tuples.

    Raises:
        RuntimeError: under inference mode, or with tensors made there.
        ValueError: an empty batch.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "attribution needs gradients, which torch.inference_mode() forbids; use "
            "torch.no_grad() instead, in which attribute() works"
        )
    tensors: tuple[Tensor, ...] = format_inputs(inputs)
    for tensor in tensors:
        if tensor.is_inference():
            raise RuntimeError(
                "inputs were made under torch.inference_mode() and cannot carry gradients; pass "
                "inputs.clone()"
            )
        if tensor.dim() == 0 or tensor.shape[0] == 0:
            raise ValueError(f"inputs has shape {tuple(tensor.shape)}: the batch is empty")
    return tensors, format_additional_forward_args(additional_forward_args) or ()


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


def spatial_size(size: Size, inputs: Tensor, axes: int) -> tuple[int, ...] | None:
    """The spatial size asked for, as a tuple, or None.

    Raises:
        ValueError: another word than ``input``, or a number of entries other than ``axes``.
    """
    if size is None:
        return None
    if isinstance(size, str):
        if size != "input":
            raise ValueError(f"size={size!r} is not known; choose 'input', a size, or None")
        wanted = tuple(inputs.shape[2:])
    else:
        wanted = (size,) * axes if isinstance(size, (int, float)) else tuple(size)
    if len(wanted) != axes or any(not hasattr(side, "__index__") or side < 1 for side in wanted):
        raise ValueError(
            f"size={size!r} means {wanted}, but the features have {axes} spatial axes; give one "
            "positive whole number per axis"
        )
    return wanted


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
        warnings.warn(
            "the posterior carries no information about this batch (largest KL "
            f"{float(kl.max()):.2g} nats): the VAE is untrained or collapsed, and its maps are "
            "noise; see captum_vae.metrics for the active dimensions",
            CollapsedPosteriorWarning,
            stacklevel=5,
        )


def check_features(features: Tensor, given: Tensor, layer: Module, batch: int) -> None:
    """Check that a layer's features are (B, K, *spatial); warn of NaN.

    Args:
        features: after ``reshape_transform``.
        given: as the layer gave them.
        layer: the layer, for the message.
        batch: B.

    Raises:
        ValueError: no spatial positions, more than three spatial axes, or another batch size.
    """
    name = describe(layer)
    if features.dim() == 2:
        raise ValueError(
            f"layer {name} puts out {tuple(given.shape)}, features without spatial positions; "
            "choose a layer before the flatten or pooling, or pass reshape_transform"
        )
    if not 3 <= features.dim() <= 5 or features.shape[0] != batch:
        raise ValueError(
            f"layer {name} puts out {tuple(given.shape)} for a batch of {batch}; wanted (B, K, "
            "*spatial) with one to three spatial axes; bring it there with reshape_transform"
        )
    if torch.isnan(features.detach().sum()):
        broken = features.detach().isnan().flatten(1).any(1).nonzero()
        if len(broken):
            warnings.warn(
                f"the features of layer {name} hold NaN, first in sample {int(broken[0])}; its "
                "maps are NaN too",
                UserWarning,
                stacklevel=5,
            )
