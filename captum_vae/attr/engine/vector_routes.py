"""Channel weights by vectors passed through the recorded operations: one per code, or per channel.

Either way starts or stops at the consumers of the features, which have a closed form (see
``consumers``), and runs in chunks of vectors within the memory budget.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_vae.attr.engine.consumers import Consumers
from captum_vae.attr.engine.gradients import PassSettings, in_passes, pass_budget, weight_dtype
from captum_vae.attr.engine.operations import largest_value
from captum_vae.attr.engine.plans import LayerPlan, Route
from captum_vae.attr.engine.propagation import Edge
from captum_vae.attr.engine.vectors import Vectors

_KEPT_OF_BUDGET = 4  # what consumers keep for all passes, in budgets of one
_VALUES_ALIVE = 4  # of the largest size, at one moment of a pass


def route_weights(
    codes: Tensor, features: Tensor, plan: LayerPlan, dims: Sequence[int], settings: PassSettings
) -> Tensor:
    """Channel weights by the plan's route, in float32 or better.

    Args:
        codes: (B, D).
        features: (B, K, *spatial).
        plan: Plan that ``plan_layer`` found, with a route.
        dims: Latent dimensions wanted, T of them.
        settings: Chunk size or memory budget, and whether to keep the graph.

    Returns:
        Channel weights alpha (B, T, K). On a CUDA out-of-memory error the chunk is halved.

    Raises:
        RuntimeError: An operation has no derivative of the kind that the route needs.
    """
    route, dtype = plan.route, weight_dtype(features)
    assert route is not None
    batch, channels = features.shape[:2]
    forward = plan.path == "forward"
    with (
        torch.autocast(features.device.type, enabled=False),
        torch.set_grad_enabled(settings.differentiable_weights),
    ):
        consumers = None
        if route.region is not None:
            most = _budget(features, settings, kept=True) // dtype.itemsize
            consumers = Consumers(route.region, features, dtype, most)
        wanted: Sequence[int] = range(channels) if forward else dims
        size = settings.dims_per_pass or _vectors_within_budget(codes, route, settings)

        def weights_by(some: Sequence[int]) -> Tensor:
            if forward:
                return _forward(codes, features, route, consumers, some, dims).to(dtype)
            return _reverse(codes, route, consumers, some).to(dtype)

        parts = list(in_passes(weights_by, wanted, size))
        alpha = (
            parts[0] if len(parts) == 1 else torch.cat(parts, 2 if forward else 1)
        ).contiguous()
        return (alpha / math.prod(features.shape[2:])).expand(batch, -1, -1)


def _reverse(
    codes: Tensor, route: Route, consumers: Consumers | None, dims: Sequence[int]
) -> Tensor:
    """Alpha times P by cotangents of some codes, (1 or B, t, K)."""
    assert consumers is not None
    return consumers.weights(route.above.cotangents(codes, dims, consumers.edges))


def _forward(
    codes: Tensor,
    features: Tensor,
    route: Route,
    consumers: Consumers | None,
    channels: Sequence[int],
    dims: Sequence[int],
) -> Tensor:
    """Alpha times P by tangents of some neighbouring channels, (1 or B, T, k)."""
    some = slice(channels[0], channels[-1] + 1)
    starts: dict[Edge, Vectors]
    if consumers is not None:
        starts = consumers.tangents(some)
    else:
        own = torch.eye(features.shape[1], dtype=features.dtype, device=features.device)[some]
        own = own.reshape(len(own), 1, -1, *[1] * (features.dim() - 2))
        starts = {route.above.path.source: Vectors(own, tuple(features.shape))}
    end = route.above.path.end
    found = route.above.tangents(starts, {end})[end].samples()  # (k, 1 or B, D)
    if list(dims) != list(range(codes.shape[1])):
        found = torch.stack([found[:, :, dim] for dim in dims], 2)
    return found.permute(1, 2, 0)


def _vectors_within_budget(like: Tensor, route: Route, settings: PassSettings) -> int:
    if settings.differentiable_weights and settings.memory_budget is None and not like.is_cuda:
        return sys.maxsize  # the graph keeps what all passes need anyway
    bytes_each = _VALUES_ALIVE * largest_value(route.above.nodes) * like.element_size()
    return max(1, _budget(like, settings) // max(1, bytes_each))


def _budget(like: Tensor, settings: PassSettings, *, kept: bool = False) -> int:
    if settings.memory_budget is not None:
        return settings.memory_budget
    return pass_budget(like) * (_KEPT_OF_BUDGET if kept and not like.is_cuda else 1)
