"""Channel weights times features: from (B, D, K) and (B, K, h, w) to maps (B, D, h, w)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_vae.attr.options import MapOptions, Rectifier

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


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
