"""Checks of what a user hands to ``attribute``: each names the argument, what came, the fix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from captum_vae.checks import is_sequence, warn_caller, whole_number
from captum_vae.posterior import CollapsedPosteriorWarning, Posterior, PosteriorAdapter
from captum_vae.posterior.calling import all_modules
from captum_vae.posterior.read_back import may_read_back
from captum_vae.posterior.usage import is_active

Target = int | Sequence[int] | Tensor | np.ndarray[Any, Any] | None


def image_batches(name: str, batches: Any) -> Iterator[Tensor]:
    """The images of every batch that a loader gives.

    Args:
        name: Name of the argument.
        batches: Batches of images (B, C, H, W), or tuples or lists that begin with one.

    Raises:
        TypeError: Something else, or a batch that does not begin with images.
    """
    if isinstance(batches, (Tensor, str, dict)) or not isinstance(batches, Iterable):
        raise TypeError(
            f"{name} is a {type(batches).__name__}; wanted batches of images (B, C, H, W) one "
            "after another, as in a list or a DataLoader"
        )
    for batch in batches:
        images = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if not isinstance(images, Tensor):
            raise TypeError(
                f"{name} holds a {type(batch).__name__} with no tensor of images at its beginning; "
                "wanted batches (B, C, H, W), or tuples that begin with one"
            )
        yield images


def check_passes(
    reshape_transform: Any, dims_per_pass: int | None, memory_budget: int | None
) -> None:
    """Check what attribution classes and a watched forward are told of their passes.

    Raises:
        TypeError: A transform that cannot be called, or something that is no whole number.
        ValueError: A number below 1.
    """
    if reshape_transform is not None and not callable(reshape_transform):
        raise TypeError(
            f"reshape_transform is a {type(reshape_transform).__name__}; wanted a function of the "
            "layer's features, or None"
        )
    for name, value in (("dims_per_pass", dims_per_pass), ("memory_budget", memory_budget)):
        if value is not None:
            whole_number(name, value, least=1, hint="or None to choose itself")


def checked_location(location: Any) -> tuple[int, ...] | None:
    """A position of a spatial latent, or None.

    Raises:
        TypeError: Something other than whole numbers.
    """
    if location is None:
        return None
    if isinstance(location, str | bytes) or not is_sequence(location):
        raise TypeError(f"location={location!r} is no position; give one index per axis, (i, j)")
    return tuple(whole_number("location", index) for index in location)


def latent_dims(target: Target, count: int) -> tuple[int, ...]:
    """The latent dimensions that ``target`` names, without repeats.

    Args:
        target: None for all, an int, a sequence, tensor or array of ints; negative ones count from
            the end.
        count: D.

    Raises:
        ValueError: None named, or one out of range.
        TypeError: Something other than whole numbers.
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


_told: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""What was said of a model, which is not kept alive for it."""


def warn_of_collapse(posterior: Posterior, adapter: PosteriorAdapter) -> None:
    """Warn, once for a model, when no latent dimension carries information about this batch.

    The rule is that of :func:`captum_vae.posterior.usage.is_active` by the KL alone: a batch to be
    explained need not be a sample of the data, so its spread says nothing.
    """
    told = _told.setdefault(adapter.owner or adapter, set())
    if posterior.log_variance is None or "collapsed" in told:
        return
    if not may_read_back(posterior.log_variance):
        return
    with torch.no_grad():
        kl = posterior.kl().mean(0)
    if not is_active(kl).any():
        told.add("collapsed")
        warn_caller(
            "the posterior carries no information about this batch (largest KL "
            f"{float(kl.max()):.2g} nats): the VAE is untrained or collapsed, and its maps are "
            "noise; see captum_vae.metrics for the active dimensions",
            CollapsedPosteriorWarning,
        )


def refuse_meta(adapter: PosteriorAdapter) -> None:
    """Refuse a model whose parameters have shapes and no numbers, its decoder aside.

    Raises:
        ValueError: The message names the first of them.
    """
    owner = adapter.owner
    if owner is None or not any(
        tensor is not None and tensor.is_meta
        for module in all_modules(owner)
        for tensor in (*module._parameters.values(), *module._buffers.values())
    ):
        return
    for name, tensor in (*owner.named_parameters(), *owner.named_buffers()):
        if tensor.is_meta and not name.startswith("decode"):
            raise ValueError(
                f"the model's {name} is on the meta device, where tensors have a shape and no "
                "numbers; give the model its weights first: model.to_empty(device='cpu'), then "
                "model.load_state_dict(...), or load_state_dict(..., assign=True)"
            )


def warn_of_batch_statistics(adapter: PosteriorAdapter) -> None:
    """Warn when a batch norm of the model mixes the images of a batch."""
    owner = adapter.owner
    norms = [] if owner is None else [m for m in all_modules(owner) if isinstance(m, _BatchNorm)]
    if any(norm.training or norm.running_mean is None for norm in norms):
        warn_caller(
            "a batch-norm layer of the model takes the batch's own statistics, so maps depend on "
            "the other images of the batch; call model.eval() first, and keep running statistics"
        )
