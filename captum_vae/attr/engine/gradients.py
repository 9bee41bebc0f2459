"""Gradients of the latent codes with respect to features, by batched backward passes.

The way that every graph allows: one batched vector-Jacobian product, chunked over dimensions to a
memory budget.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_vae.attr.engine.layout import Reshape
from captum_vae.attr.engine.plans import LayerPlan
from captum_vae.attr.engine.propagation import one_hot
from captum_vae.posterior.probe import FILTERS
from captum_vae.posterior.read_back import is_traced

_CPU_BUDGET = 64 * 2**20  # what stays in cache: larger passes were slower, not faster
_ADVICE = re.compile(".*batching rule.*", re.IGNORECASE)

Some = TypeVar("Some", Tensor, Sequence[int])
Made = TypeVar("Made")


@dataclass(frozen=True)
class PassSettings:
    """How forward and backward passes are run.

    Args:
        create_graph: Keep the graph, so that a loss on the maps trains the model.
        dims_per_pass: Latent dimensions in one batched pass; None chooses by ``memory_budget``.
        memory_budget: Bytes that one pass may take for its gradients; None takes 64 MiB on the
            CPU and half of what is free on a CUDA device.
        n_steps: Points on the path of ``weighting="integrated"``.
        constant_weights: Leave the channel weights out of the graph, so that a loss on the maps
            trains through the features alone.
    """

    create_graph: bool = False
    dims_per_pass: int | None = None
    memory_budget: int | None = None
    n_steps: int = 8
    constant_weights: bool = False

    @property
    def differentiable_weights(self) -> bool:
        """Whether the weights themselves are kept in the graph."""
        return self.create_graph and not self.constant_weights


def vector_jacobian_products(
    codes: Tensor,
    features: Sequence[Tensor],
    dims: Sequence[int],
    plans: Sequence[LayerPlan],
    settings: PassSettings,
    reshapes: Sequence[Reshape | None],
) -> Iterator[list[Tensor]]:
    """Gradients of the codes with respect to the features, some dimensions at a time.

    Args:
        codes: (B, D).
        features: One tensor (B, ...) per layer, as the layer gave it.
        dims: Latent dimensions wanted.
        plans: One per layer; they tell how much memory a pass takes.
        settings: Chunk size or memory budget, and whether to keep the graph.
        reshapes: What brings each layer's features to (B, K, *spatial); None where they are so. It
            is linear and mixes no images, so that it serves gradients as it does features.

    Yields:
        One gradient (B, t, K, *spatial) per layer for the next t of ``dims``, in float32 or better.
        On a CUDA out-of-memory error t is halved.
    """
    chunk = settings.dims_per_pass or dims_within_budget(codes, features, plans, settings)
    create_graph = settings.differentiable_weights
    edges = [get_gradient_edge(tensor) for tensor in features]
    batched = True

    def gradients_for(wanted: Sequence[int]) -> list[Tensor]:
        nonlocal batched
        gradients = None
        if batched:
            try:
                gradients = gradients_of(codes, edges, wanted, create_graph, batched=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:
                if len(wanted) == 1:
                    raise
                batched = False
        if gradients is None:
            gradients = gradients_of(codes, edges, wanted, create_graph, batched=False)
        with torch.set_grad_enabled(create_graph):
            gradients = [
                gradient if reshape is None else _reshaped(gradient, reshape)
                for gradient, reshape in zip(gradients, reshapes, strict=True)
            ]
            return [gradient.to(weight_dtype(gradient)) for gradient in gradients]

    yield from in_passes(gradients_for, dims, chunk)


def in_passes(make: Callable[[Some], Made], items: Some, chunk: int) -> Iterator[Made]:
    """What ``make`` gives for some items at a time.

    Args:
        make: Takes a slice of the items.
        items: Dimensions, channels, or a tensor with a row for each.
        chunk: How many at a time; halved on a CUDA out-of-memory error.
    """
    start = 0
    while start < len(items):
        some = items[start : start + chunk]
        try:
            made = make(some)
        except torch.OutOfMemoryError:
            if chunk == 1:
                raise
            chunk = max(1, len(some) // 2)
            continue
        start += len(some)
        yield made


def pass_budget(like: Tensor) -> int:
    """Bytes that one pass may take, on the device of ``like``."""
    return torch.cuda.mem_get_info(like.device)[0] // 2 if like.is_cuda else _CPU_BUDGET


def gradients_of(
    codes: Tensor,
    edges: Sequence[GradientEdge],
    dims: Sequence[int],
    create_graph: bool,
    batched: bool,
) -> list[Tensor]:
    """One gradient (B, T, *shape) per edge, for the codes of ``dims``."""
    picks = one_hot(codes, dims).dense()
    backward = partial(
        torch.autograd.grad, codes, edges, retain_graph=True, create_graph=create_graph
    )
    if len(dims) == 1 or not batched:
        passes = [backward(pick) for pick in picks]
        return [torch.stack(gradients, 1) for gradients in zip(*passes, strict=True)]
    if is_traced():
        gradients = torch.vmap(backward)(picks)
        return [gradient.transpose(0, 1) for gradient in gradients]
    with _without_advice_on_batching():
        gradients = backward(picks, is_grads_batched=True)
    return [gradient.transpose(0, 1) for gradient in gradients]


def weight_dtype(features: Tensor) -> torch.dtype:
    """The dtype of weights: the features' own, float32 at least."""
    return torch.promote_types(features.dtype, torch.float32)


def _reshaped(gradients: Tensor, reshape: Reshape) -> Tensor:
    """A layer's gradients, stacked on axis 1 -> (B, t, K, *spatial)."""
    return torch.stack([reshape(gradient) for gradient in gradients.unbind(1)], 1)


def dims_within_budget(
    codes: Tensor, features: Sequence[Tensor], plans: Sequence[LayerPlan], settings: PassSettings
) -> int:
    """Latent dimensions whose gradients fit one backward pass.

    Args:
        codes: (B, D).
        features: One tensor (B, ...) per layer.
        plans: One per layer; they tell the largest value between features and codes.
        settings: With the memory budget.
    """
    budget = settings.memory_budget or pass_budget(codes)
    largest = max(plan.largest for plan in plans)
    bytes_per_dim = 3 * largest * codes.element_size() + sum(
        f.numel() * f.element_size() for f in features
    )
    return max(1, budget // max(1, bytes_per_dim))


@contextmanager
def _without_advice_on_batching() -> Iterator[None]:
    """Hold back PyTorch's word that an operation is batched by a loop.

    The filters belong to the process: only this entry comes and goes, since a list put back whole,
    as ``warnings.catch_warnings`` does, takes with it what other threads have changed meanwhile.
    """
    entry = ("ignore", _ADVICE, Warning, None, 0)
    with FILTERS:
        warnings.filters.insert(0, entry)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with FILTERS, suppress(ValueError):  # somebody put other filters in place
            warnings.filters.remove(entry)  # type: ignore[attr-defined]
