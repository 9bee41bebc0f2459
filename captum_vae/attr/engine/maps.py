"""From one forward pass to finished maps: the only place where maps are composed.

M[b, d] = rect( sum over k of alpha[b, d, k] (A[b, k] - A0[b, k]) )            (paper Eq. 2)

``LatentGradCAM.attribute``, the scorers and the maps of a training step all call ``compose_maps``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_vae.attr.engine.channel_weights import (
    PassSettings,
    pooled_weights,
    reshape_gradients,
    vector_jacobian_products,
)
from captum_vae.attr.engine.forward_pass import ForwardPass
from captum_vae.attr.engine.layers import MapSize, off_path, spatial_size
from captum_vae.attr.engine.plan import LayerPlan, plan_layer
from captum_vae.attr.options import MapOptions, Rectifier

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def compose_maps(
    run: ForwardPass,
    options: MapOptions,
    settings: PassSettings,
    *,
    origins: Sequence[Tensor | None] | None = None,
    size: MapSize = None,
    share: Hashable | None = None,
) -> tuple[Tensor, ...]:
    """Attention maps of every layer of a forward pass.

    Args:
        run: The layers' features, and the codes to explain with their graph.
        options: Weighting, rectifier, order, reduction and aggregate.
        settings: How backward passes run, and whether the maps keep a graph.
        origins: The baselines' features, (B or 1, ...) as the layer gives them, or None, per layer.
        size: Spatial size of the maps: ``"input"``, one number, one per axis, or None for the
            features' own.
        share: Keep pooled weights in the pass under this key, for other baselines, rectifiers and
            orders of the same codes; None keeps nothing.

    Returns:
        One (B, T, *spatial) per layer, T = 1 when aggregated; (B, T, K, *spatial) with
        ``reduction="none"``. float32, or float64 for float64 features.

    Raises:
        ValueError: The codes do not depend on a layer, or a size that does not fit the features.
    """
    origins = origins or (None,) * len(run.layers)
    sizes = [spatial_size(size, run.inputs, features) for features in run.maplike]
    if options.weighting == "integrated":
        maps = [
            _integrated_maps(run, place, origin, options, settings)
            for place, origin in enumerate(origins)
        ]
    else:
        contrasts = [
            _contrast(run, place, origin, settings.create_graph)
            for place, origin in enumerate(origins)
        ]
        if options.weighting == "pooled":
            weights = _shared_weights(run, settings, share)
            with _combining(run, settings):
                maps = [
                    combine_pooled(alpha, contrast, options)
                    for alpha, contrast in zip(weights, contrasts, strict=True)
                ]
        else:
            maps = _elementwise_maps(run, contrasts, options, settings)
    with _combining(run, settings):
        return tuple(finish_maps(m, options, s) for m, s in zip(maps, sizes, strict=True))


def plan_layers(run: ForwardPass, *, pooled: bool = True) -> list[LayerPlan]:
    """The way to each layer's weights.

    Args:
        run: The layers' features, and the codes with their graph.
        pooled: Whether pooled gradients are wanted; others have no closed form.

    Raises:
        ValueError: The codes do not depend on a layer.
    """
    closed = pooled and run.reshape is None
    plans = [plan_layer(run.codes, features, pooled=closed) for features in run.features]
    for plan, layer in zip(plans, run.layers, strict=True):
        if plan.path == "off_path":
            raise off_path(layer)
    return plans


def channel_weights(run: ForwardPass, settings: PassSettings) -> list[Tensor]:
    """Pooled channel weights alpha (B, T, K) of every layer of a pass, in float32 or better."""
    plans = plan_layers(run)
    return pooled_weights(run.codes, run.features, run.dims, plans, settings, run.reshape)


def _shared_weights(
    run: ForwardPass, settings: PassSettings, share: Hashable | None
) -> list[Tensor]:
    """Pooled weights depend on neither baseline nor rectifier, so that many maps share them."""
    keys = [(share, layer) for layer in run.layers]
    if share is None or any(key not in run.kept for key in keys):
        weights = channel_weights(run, settings)
        if share is None:
            return weights
        run.kept.update(zip(keys, weights, strict=True))
    return [run.kept[key] for key in keys]


def _elementwise_maps(
    run: ForwardPass, contrasts: Sequence[Tensor], options: MapOptions, settings: PassSettings
) -> list[Tensor]:
    """Sum over k of d mu[b, d] / d A[b, k, p] (A - A0)[b, k, p], some dimensions at a time."""
    plans = plan_layers(run, pooled=False)
    parts: list[list[Tensor]] = [[] for _ in run.layers]
    for chunk in vector_jacobian_products(run.codes, run.features, run.dims, plans, settings):
        with _combining(run, settings):
            for maps, gradient, contrast in zip(parts, chunk, contrasts, strict=True):
                gradient = reshape_gradients(gradient, run.reshape)
                maps.append(combine_elementwise(gradient, contrast, options))
    return [torch.cat(maps, 1) for maps in parts]


def _integrated_maps(
    run: ForwardPass,
    place: int,
    origin: Tensor | None,
    options: MapOptions,
    settings: PassSettings,
) -> Tensor:
    """Gradients averaged along the straight path from the baseline's features to the input's.

    With D = A - A0 and g(t) = d mu / d A at A0 + t D, the map is sum over k of D times the integral
    of g(t) over t in [0, 1], taken by Gauss and Legendre on ``n_steps`` points. Without rectifier
    its sum over positions is mu(A) - mu(A0), by the fundamental theorem of calculus.
    """
    features = run.features[place]
    start = torch.zeros_like(features) if origin is None else origin
    plan = plan_layers(run, pooled=False)[place]
    nodes, node_weights = np.polynomial.legendre.leggauss(settings.n_steps)  # on [-1, 1]
    streams = []
    for node in nodes:
        with torch.enable_grad():
            between = start + float((1 + node) / 2) * (features - start)
            codes, at = run.codes_at(place, between, keep_graph=settings.create_graph)
        streams.append(vector_jacobian_products(codes, [at], run.dims, [plan], settings))
    contrast = _contrast(run, place, start, settings.create_graph)
    parts = []
    for chunk in zip(*streams, strict=True):
        with _combining(run, settings):
            gradient = sum(
                float(weight / 2) * reshape_gradients(found, run.reshape)
                for weight, (found,) in zip(node_weights, chunk, strict=True)
            )
            assert isinstance(gradient, Tensor)
            parts.append(combine_elementwise(gradient, contrast, options))
    return torch.cat(parts, 1)


def _contrast(run: ForwardPass, place: int, origin: Tensor | None, create_graph: bool) -> Tensor:
    """A(x) - A(baseline), or A(x), as (B, K, *spatial) in float32 or better."""
    with torch.set_grad_enabled(create_graph):
        features = run.maplike[place]
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        if origin is None:
            return features
        origin = origin if run.reshape is None else run.reshape(origin)
        return features - origin.to(features.dtype)


@contextmanager
def _combining(run: ForwardPass, settings: PassSettings) -> Iterator[None]:
    """Full precision whatever autocast says, and a graph only where one is wanted."""
    device = run.codes.device.type
    with torch.set_grad_enabled(settings.create_graph), torch.autocast(device, enabled=False):
        yield


def rectify(maps: Tensor, rectifier: Rectifier) -> Tensor:
    """Apply the rectifier of paper Eq. 2 (relu) or of the codes (abs, sigmoid), elementwise.

    Maps are the largest tensors here: they are overwritten where no graph needs them.
    """
    if rectifier == "none":
        return maps
    name = rectifier if maps.requires_grad else f"{rectifier}_"
    rectified: Tensor = getattr(maps, name)()
    return rectified


def combine_pooled(weights: Tensor, features: Tensor, options: MapOptions) -> Tensor:
    """Pooled channel weights times features, reduced over channels (paper Eq. 2).

    The rectified channelwise forms need no (B, D, K, h, w) tensor:
    relu(aA) = relu(a) relu(A) + relu(-a) relu(-A) and abs(aA) = abs(a) abs(A).

    Args:
        weights: alpha, (B, D, K).
        features: A, or A minus its baseline, (B, K, *spatial).
        options: rectifier, order and reduction; ``order="after_upsampling"`` leaves the maps as
            they are for ``finish_maps`` to rectify.

    Returns:
        (B, D, *spatial), or (B, D, K, *spatial) with ``reduction="none"``.
    """
    spatial = features.shape[2:]
    flat = features.flatten(2)
    if options.reduction == "none":
        product = weights[..., None] * flat[:, None]
        maps = (
            product if options.order == "after_upsampling" else rectify(product, options.rectifier)
        )
        return maps.reshape(*maps.shape[:-1], *spatial)
    if options.order != "channelwise" or options.rectifier == "none":
        maps = weights @ flat
    elif options.rectifier == "relu":
        maps = weights.relu() @ flat.relu() + (-weights).relu() @ (-flat).relu()
    elif options.rectifier == "abs":
        maps = weights.abs() @ flat.abs()
    else:
        maps = torch.stack(
            [(weight[..., None] * flat).sigmoid().sum(1) for weight in weights.unbind(1)], dim=1
        )
    maps = _after_sum(maps, flat.shape[1], options)
    return maps.reshape(*maps.shape[:-1], *spatial)


def combine_elementwise(gradients: Tensor, features: Tensor, options: MapOptions) -> Tensor:
    """Gradient times activation at every position (HiResCAM), reduced over channels.

    Args:
        gradients: d target / d A, (B, D, K, *spatial).
        features: A, or A minus its baseline, (B, K, *spatial).
        options: rectifier, order and reduction.

    Returns:
        (B, D, *spatial), or (B, D, K, *spatial) with ``reduction="none"``.
    """
    product = gradients * features[:, None]
    if options.reduction == "none":
        return (
            product if options.order == "after_upsampling" else rectify(product, options.rectifier)
        )
    if options.order == "channelwise":
        product = rectify(product, options.rectifier)
    return _after_sum(product.sum(2), features.shape[1], options)


def finish_maps(maps: Tensor, options: MapOptions, size: tuple[int, ...] | None) -> Tensor:
    """Aggregate over latent dimensions and resize, in the order that costs least.

    Resizing is linear, so maps are aggregated first and resized once, unless the rectifier has to
    wait for the resized maps (``order="after_upsampling"``).

    Args:
        maps: (B, D, *spatial) or (B, D, K, *spatial).
        options: order, rectifier and aggregate.
        size: spatial size wanted, or None to keep the features' own.

    Returns:
        (B, D, ...), or (B, 1, ...) when aggregated.
    """
    if options.order == "after_upsampling":
        maps = rectify(resize_maps(maps, size, options), options.rectifier)
        return aggregate_maps(maps, options)
    return resize_maps(aggregate_maps(maps, options), size, options)


def aggregate_maps(maps: Tensor, options: MapOptions) -> Tensor:
    """One map from all latent dimensions, (B, D, ...) -> (B, 1, ...); unchanged with ``none``."""
    if options.aggregate == "mean":
        return maps.mean(1, keepdim=True)
    if options.aggregate == "sum":
        return maps.sum(1, keepdim=True)
    return maps.amax(1, keepdim=True) if options.aggregate == "max" else maps


def resize_maps(maps: Tensor, size: tuple[int, ...] | None, options: MapOptions) -> Tensor:
    """Resize the spatial axes linearly (half-pixel centres), as the published codes do."""
    if size is None:
        return maps
    batch_axes = 3 if options.reduction == "none" else 2
    spatial_dims = maps.dim() - batch_axes
    if len(size) != spatial_dims:
        raise ValueError(
            f"size={tuple(size)} has {len(size)} entries for features with {spatial_dims} spatial "
            "axes; give one number per axis"
        )
    leading = maps.shape[:batch_axes]
    resized = F.interpolate(
        maps.flatten(0, batch_axes - 2),
        size=list(size),
        mode=_INTERPOLATION[spatial_dims],
        align_corners=False,
    )
    return resized.reshape(*leading, *size)


def _after_sum(maps: Tensor, channels: int, options: MapOptions) -> Tensor:
    if options.reduction == "mean":
        maps = maps / channels
    return rectify(maps, options.rectifier) if options.order == "after_sum" else maps
