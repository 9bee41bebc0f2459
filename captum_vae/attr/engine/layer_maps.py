"""From codes and features to maps, each layer by the cheapest exact way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from captum_vae.attr.engine.channel_weights import (
    LayerPlan,
    PassSettings,
    closed_form_weights,
    plan_layer,
    vector_jacobian_products,
)
from captum_vae.attr.engine.combine import combine_elementwise, combine_pooled
from captum_vae.attr.options import MapOptions

Reshape = Callable[[Tensor], Tensor]
"""Features as the layer gives them -> (B, K, *spatial)."""


def plan_layers(
    codes: Tensor, features: Sequence[Tensor], options: MapOptions, *, reshaped: bool
) -> list[LayerPlan]:
    """The way to each layer's weights; only pooled weights of plain features have closed forms."""
    plans = [plan_layer(codes, tensor) for tensor in features]
    if options.weighting == "pooled" and not reshaped:
        return plans
    reason = (
        "features go through reshape_transform"
        if reshaped
        else (f"weighting={options.weighting!r} is not pooled")
    )
    return [plan if plan.cut is None else LayerPlan("vector_jacobian", reason) for plan in plans]


def pooled_weights(
    codes: Tensor,
    features: Tensor,
    dims: Sequence[int],
    plan: LayerPlan,
    reshape: Reshape,
    settings: PassSettings,
) -> Tensor:
    """Channel weights alpha (B, T, K) of one layer by its plan, in float32 or better.

    Args:
        codes: (B, D), with the graph from the features on.
        features: as the layer gave them.
        dims: latent dimensions wanted, T of them.
        plan: as found by ``plan_layers``.
        reshape: features to (B, K, *spatial).
        settings: how backward passes run.
    """
    if plan.cut is not None:
        return closed_form_weights(
            codes, features, plan.cut, dims, create_graph=settings.create_graph
        )
    chunks = vector_jacobian_products(codes, [features], dims, settings)
    with torch.set_grad_enabled(settings.create_graph):
        return torch.cat([_pool(_reshape_each(chunk, reshape)) for (chunk,) in chunks], 1)


def weighted_maps(
    codes: Tensor,
    features: Sequence[Tensor],
    dims: Sequence[int],
    plans: Sequence[LayerPlan],
    origins: Sequence[Tensor | None],
    reshape: Reshape,
    options: MapOptions,
    settings: PassSettings,
) -> list[Tensor]:
    """Maps with pooled or elementwise weights, before aggregation and resizing.

    Args:
        codes: (B, D), with the graph from the features on.
        features: one tensor per layer, as the layer gave it.
        dims: latent dimensions wanted, T of them.
        plans: as found by ``plan_layers``.
        origins: the baselines' features (B or 1, K, *spatial), or None, per layer.
        reshape: features to (B, K, *spatial).
        options: the map's options.
        settings: how backward passes run.

    Returns:
        One (B, T, *spatial) per layer, or (B, T, K, *spatial) with ``reduction="none"``.
    """
    maps: list[list[Tensor]] = [[] for _ in features]
    contrasts = [
        _contrast(reshape(f), o, settings.create_graph)
        for f, o in zip(features, origins, strict=True)
    ]
    passes = [i for i, plan in enumerate(plans) if plan.cut is None]
    for index, plan in enumerate(plans):
        if plan.cut is not None:
            alpha = closed_form_weights(
                codes, features[index], plan.cut, dims, create_graph=settings.create_graph
            )
            maps[index].append(_pooled(alpha, contrasts[index], options, settings))
    if passes:
        chunks = vector_jacobian_products(codes, [features[i] for i in passes], dims, settings)
        for gradients in chunks:
            for index, gradient in zip(passes, gradients, strict=True):
                gradient = _reshape_each(gradient, reshape)
                maps[index].append(_map(gradient, contrasts[index], options, settings))
    return [parts[0] if len(parts) == 1 else torch.cat(parts, 1) for parts in maps]


def integrated_maps(
    pass_at: Callable[[Tensor], tuple[Tensor, Tensor]],
    features: Tensor,
    origin: Tensor,
    dims: Sequence[int],
    reshape: Reshape,
    options: MapOptions,
    settings: PassSettings,
    n_steps: int,
) -> Tensor:
    """Maps of one layer with gradients averaged along the path from ``origin`` to ``features``.

    Args:
        pass_at: runs the model from given features on; returns (codes, those features).
        features: as the layer gave them.
        origin: the baseline's features, likewise, or zeros.
        dims: latent dimensions wanted.
        reshape: features to (B, K, *spatial).
        options: the map's options.
        settings: how backward passes run.
        n_steps: Gauss-Legendre points.

    Returns:
        (B, T, *spatial); with no rectifier, its sum over positions is mu(x) - mu(baseline).
    """
    nodes, node_weights = np.polynomial.legendre.leggauss(n_steps)
    steps = [pass_at(origin + float((1 + t) / 2) * (features - origin)) for t in nodes]
    contrast = _contrast(reshape(features), reshape(origin), settings.create_graph)
    parts = []
    streams = [vector_jacobian_products(codes, [at], dims, settings) for codes, at in steps]
    for chunk in zip(*streams, strict=True):
        gradient = sum(
            float(w / 2) * _reshape_each(g, reshape)
            for w, (g,) in zip(node_weights, chunk, strict=True)
        )
        assert isinstance(gradient, Tensor)
        parts.append(_map(gradient, contrast, options, settings))
    return torch.cat(parts, 1)


def _map(gradient: Tensor, contrast: Tensor, options: MapOptions, settings: PassSettings) -> Tensor:
    if options.weighting == "pooled":
        return _pooled(_pool(gradient), contrast, options, settings)
    with torch.set_grad_enabled(settings.create_graph), _full_precision(contrast):
        return combine_elementwise(gradient, contrast, options)


def _pooled(alpha: Tensor, contrast: Tensor, options: MapOptions, settings: PassSettings) -> Tensor:
    with torch.set_grad_enabled(settings.create_graph), _full_precision(contrast):
        return combine_pooled(alpha, contrast, options)


def _contrast(features: Tensor, origin: Tensor | None, create_graph: bool) -> Tensor:
    """A(x) - A(baseline), or A(x), in float32 or better."""
    with torch.set_grad_enabled(create_graph):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        return features if origin is None else features - origin.to(features.dtype)


def _pool(gradients: Tensor) -> Tensor:
    """(B, T, K, *spatial) -> (B, T, K)."""
    return gradients.flatten(3).mean(3)


def _reshape_each(gradients: Tensor, reshape: Reshape) -> Tensor:
    """Apply a layer's reshape to (B, T, ...) gradients, image by image, in float32 or better."""
    reshaped = reshape(gradients.flatten(0, 1))
    reshaped = reshaped.to(torch.promote_types(reshaped.dtype, torch.float32))
    return reshaped.reshape(*gradients.shape[:2], *reshaped.shape[1:])


def _full_precision(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)
