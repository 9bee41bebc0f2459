"""From one forward pass to finished maps: the only place where maps are composed.

M[b, d] = rect( sum over k of alpha[b, d, k] (A[b, k] - A0[b, k]) )            (paper Eq. 2)

``LatentGradCAM.attribute``, the scorers and the maps of a training step all call ``compose_maps``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_vae.attr.engine.accumulation import Accumulation, values_of_map
from captum_vae.attr.engine.channel_weights import weights_of_features
from captum_vae.attr.engine.forward_pass import ForwardPass
from captum_vae.attr.engine.gradients import PassSettings
from captum_vae.attr.engine.layout import Reshape
from captum_vae.attr.options import MapOptions, Rectifier
from captum_vae.checks import check_choice, is_sequence, whole_number
from captum_vae.posterior.read_back import is_traced

MapSize = int | Sequence[int] | str | None
"""``"input"``, one number for every spatial axis, one per axis, or None."""

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


def compose_maps(
    run: ForwardPass,
    options: MapOptions,
    settings: PassSettings,
    *,
    origins: Sequence[Tensor | None] | None = None,
    size: MapSize = None,
    share: Hashable | None = None,
    shuffle: int | None = None,
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
        shuffle: Seed by which channels get each other's weights, the same for all images and
            dimensions: a control that keeps every number but not which belongs to which. None
            leaves each its own.

    Returns:
        One (B, T, *spatial) per layer, T = 1 when aggregated; (B, T, K, *spatial) with
        ``reduction="none"``. float32, or float64 for float64 features.

    Raises:
        ValueError: The codes do not depend on a layer, or a size that does not fit the features.
    """
    origins = origins or (None,) * len(run.layers)
    sizes = [spatial_size(size, run.inputs, run.input_axis, features) for features in run.maplike]
    contrasts = [
        _contrast(features, origin, reshape, settings.create_graph)
        for features, origin, reshape in zip(run.maplike, origins, run.reshapes, strict=True)
    ]
    if shuffle is not None:
        contrasts = [_shuffled(contrast, shuffle) for contrast in contrasts]
    combine = combine_pooled if options.weighting == "pooled" else combine_elementwise
    weights_of = partial(
        weights_of_features, run, options.weighting, settings, starts=origins, share=share
    )
    if options.weighting == "pooled" and _is_linear_in_weights(options):
        combine = _combine_aggregated
    elif options.aggregate != "none" and not settings.create_graph and not is_traced(run.codes):
        sums = [
            Accumulation(
                partial(_compose_some, combine=combine, options=options, size=wanted),
                options,
                values_of_map(features, wanted, options),
            )
            for features, wanted in zip(contrasts, sizes, strict=True)
        ]
        for place, weights in weights_of():
            with _combining(weights, settings):
                sums[place].add(weights, contrasts[place])
        with _combining(run.codes, settings):
            if options.order == "after_upsampling":
                return tuple(each.result() for each in sums)
            return tuple(
                resize_maps(each.result(), wanted, options)
                for each, wanted in zip(sums, sizes, strict=True)
            )
    parts: list[list[Tensor]] = [[] for _ in run.layers]
    for place, weights in weights_of():
        with _combining(weights, settings):
            parts[place].append(combine(weights, contrasts[place], options))
    with _combining(run.codes, settings):
        return tuple(
            finish_maps(maps[0] if len(maps) == 1 else torch.cat(maps, 1), options, wanted)
            for maps, wanted in zip(parts, sizes, strict=True)
        )


def _compose_some(
    weights: Tensor,
    features: Tensor,
    *,
    combine: Callable[[Tensor, Tensor, MapOptions], Tensor],
    options: MapOptions,
    size: tuple[int, ...] | None,
) -> Tensor:
    """Maps of some dimensions as they are aggregated: at their own size, or rectified behind it."""
    maps = combine(weights, features, options)
    if options.order != "after_upsampling":
        return maps
    return rectify(resize_maps(maps, size, options), options.rectifier)


def spatial_size(
    size: MapSize, inputs: Sequence[Any], input_axis: int | None, features: Tensor
) -> tuple[int, ...] | None:
    """The spatial size asked for, one number per axis of the features, or None.

    Args:
        size: Size wanted, as the user gave it.
        inputs: The model's inputs; ``"input"`` means the position axes of the first.
        input_axis: Its channel axis; None where that is not known.
        features: (B, K, *spatial).

    Raises:
        TypeError: Something that is no size.
        ValueError: Another word than ``input``, an input of which nothing tells the position axes,
            or a number of entries that does not fit the features.
    """
    if size is None:
        return None
    axes = features.dim() - 2
    hint = "give 'input', one positive whole number for every spatial axis, one per axis, or None"
    if isinstance(size, str):
        check_choice("size", size, ("input", None))
        if input_axis is None:
            raise ValueError(
                "size='input': nothing tells which axes of the inputs are positions; give the size "
                f"itself, {axes} number(s)"
            )
        wanted = tuple(n for axis, n in enumerate(inputs[0].shape) if axis not in (0, input_axis))
    elif is_sequence(size) and not isinstance(size, bytes):
        wanted = tuple(_checked_side(side, hint) for side in size)
    else:
        wanted = (_checked_side(size, hint),) * axes
    if len(wanted) != axes:
        raise ValueError(
            f"size={size!r} means {wanted}, but the features have {axes} spatial axes; give one "
            "positive whole number per axis"
        )
    return wanted


def _checked_side(side: Any, hint: str) -> int:
    return whole_number("size", side, least=1, most=2**31 - 1, hint=hint)


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

    The rectified channelwise forms need no (B, D, K, h, w) tensor, see ``_products``.

    Args:
        weights: Alpha, (B, D, K).
        features: A, or A minus its baseline, (B, K, *spatial).
        options: Rectifier, order and reduction; ``order="after_upsampling"`` leaves the maps as
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
    if options.order == "channelwise" and options.rectifier == "sigmoid":
        maps = torch.stack(
            [(weight[..., None] * flat).sigmoid().sum(1) for weight in weights.unbind(1)], dim=1
        )
    else:
        maps = _added(alpha @ values for alpha, values in _products(weights, flat, options))
    maps = _after_sum(maps, flat.shape[1], options)
    return maps.reshape(*maps.shape[:-1], *spatial)


def _products(
    weights: Tensor, flat: Tensor, options: MapOptions
) -> Iterator[tuple[Tensor, Tensor]]:
    """What to multiply and add up for the sum over channels, rectified in each where asked for.

    relu(aA) = relu(a) relu(A) + relu(-a) relu(-A) and abs(aA) = abs(a) abs(A).
    """
    if options.order != "channelwise" or options.rectifier == "none":
        yield weights, flat
    elif options.rectifier == "relu":
        yield weights.relu(), flat.relu()
        yield (-weights).relu(), (-flat).relu()
    else:
        yield weights.abs(), flat.abs()


def _added(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total + term
    return total


def _is_linear_in_weights(options: MapOptions) -> bool:
    """Whether the aggregated map is the map of the aggregated weights, see ``_products``."""
    linear = options.rectifier == "none" or (
        options.order == "channelwise" and options.rectifier != "sigmoid"
    )
    return linear and options.aggregate in ("mean", "sum") and options.reduction != "none"


def _combine_aggregated(weights: Tensor, features: Tensor, options: MapOptions) -> Tensor:
    """The sum of all dimensions' maps, or their mean, by one product in the place of D.

    sum over d of sum over k of abs(alpha[d, k]) abs(A[k]) = sum over k of (sum over d of
    abs(alpha[d, k])) abs(A[k]); so do the other forms.

    Args:
        weights: Alpha of all dimensions, (B, D, K).
        features: A, or A minus its baseline, (B, K, *spatial).
        options: Such as ``_is_linear_in_weights`` allows.

    Returns:
        (B, 1, *spatial).
    """
    flat = features.flatten(2)
    maps = _added(
        (alpha.mean(1, keepdim=True) if options.aggregate == "mean" else alpha.sum(1, keepdim=True))
        @ values
        for alpha, values in _products(weights, flat, options)
    )
    if options.reduction == "mean":
        maps = maps / flat.shape[1]
    return maps.reshape(len(maps), 1, *features.shape[2:])


def combine_elementwise(gradients: Tensor, features: Tensor, options: MapOptions) -> Tensor:
    """Gradient times activation at every position (HiResCAM), reduced over channels.

    Args:
        gradients: D target / d A, (B, D, K, *spatial).
        features: A, or A minus its baseline, (B, K, *spatial).
        options: Rectifier, order and reduction.

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
        options: Order, rectifier and aggregate.
        size: Spatial size wanted, or None to keep the features' own.

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


def _contrast(
    features: Tensor, origin: Tensor | None, reshape: Reshape | None, create_graph: bool
) -> Tensor:
    """A(x) - A(baseline), or A(x), as (B, K, *spatial) in float32 or better."""
    with torch.set_grad_enabled(create_graph):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        if origin is None:
            return features
        origin = origin if reshape is None else reshape(origin)
        return features - origin.to(features.dtype)


def _shuffled(contrast: Tensor, seed: int) -> Tensor:
    """The channels of (B, K, *spatial) in another order, which gives them each other's weights."""
    order = torch.randperm(contrast.shape[1], generator=torch.Generator().manual_seed(seed))
    return contrast[:, order.to(contrast.device)]


@contextmanager
def _combining(like: Tensor, settings: PassSettings) -> Iterator[None]:
    """Full precision whatever autocast says, and a graph only where one is wanted."""
    device = like.device.type
    with torch.set_grad_enabled(settings.create_graph):
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                yield
        else:
            yield
