"""The weights that features get: gradients of the latent codes, pooled over positions or not."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch
from torch import Tensor
from torch.autograd.graph import Node

from captum_vae.attr.engine.forward_pass import ForwardPass
from captum_vae.attr.engine.gradients import PassSettings, vector_jacobian_products
from captum_vae.attr.engine.graph import off_path
from captum_vae.attr.engine.linear_closed_form import closed_form_weights
from captum_vae.attr.engine.plans import LayerPlan, plan_layer
from captum_vae.attr.engine.tensor_hooks import HOOKED, WHY_HOOKED
from captum_vae.attr.engine.vector_routes import route_weights
from captum_vae.attr.options import Weighting
from captum_vae.posterior.read_back import is_decided, is_traced, may_read_back

_FEW_IMAGES = 8
"""Up to which a backward pass is no slower than a closed form, whose weight it reads once."""
_PRECISE = (torch.float32, torch.float64)
_AGREEMENT = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""How far a closed form may be from a backward pass by rounding, as a share of its largest term."""

NO_DERIVATIVE = (RuntimeError, NotImplementedError)
"""What torch raises where an operation has no batching rule or no second derivative."""


def weights_of_features(
    run: ForwardPass,
    weighting: Weighting,
    settings: PassSettings,
    *,
    starts: Sequence[Tensor | None],
    share: Hashable | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Weights of every layer of a pass, in float32 or better, some latent dimensions at a time.

    Args:
        run: The layers' features, and the codes to explain with their graph.
        weighting: ``pooled``, ``elementwise`` or ``integrated``.
        settings: How backward passes run.
        starts: Features where the path of ``integrated`` starts, per layer; None for zeros.
        share: Keep pooled weights in the pass under this key; None keeps nothing.

    Yields:
        The layer's place in the pass, and its weights for the next t dimensions: (B, t, K) when
        pooled, else (B, t, K, *spatial).

    Raises:
        ValueError: The codes do not depend on a layer.
    """
    with _naming_checkpoints(run.codes):
        yield from _weights(run, weighting, settings, starts, share)


def _weights(
    run: ForwardPass,
    weighting: Weighting,
    settings: PassSettings,
    starts: Sequence[Tensor | None],
    share: Hashable | None,
) -> Iterator[tuple[int, Tensor]]:
    if weighting == "pooled":
        yield from enumerate(_shared_weights(run, settings, share))
        return
    plans = plan_layers(run, pooled=False)
    if weighting == "integrated":
        for place, start in enumerate(starts):
            points = run.along_the_path(place, start, settings.n_steps, settings.create_graph)
            streams = [
                vector_jacobian_products(
                    codes, [at], run.dims, [plans[place]], settings, [run.reshapes[place]]
                )
                for _, codes, at in points
            ]
            for chunk in zip(*streams, strict=True):
                with torch.set_grad_enabled(settings.create_graph):
                    mean = torch.zeros_like(chunk[0][0])
                    for (weight, _, _), (gradient,) in zip(points, chunk, strict=True):
                        mean = mean + weight * gradient
                yield place, mean
    else:
        for gradients in vector_jacobian_products(
            run.codes, run.features, run.dims, plans, settings, run.reshapes
        ):
            yield from enumerate(gradients)


def _shared_weights(
    run: ForwardPass, settings: PassSettings, share: Hashable | None
) -> list[Tensor]:
    """Pooled weights, which depend on neither baseline nor rectifier: many maps share them."""
    keys = [(share, layer) for layer in run.layers]
    if share is not None and all(key in run.kept for key in keys):
        return [run.kept[key] for key in keys]
    weights = _single_code(run, settings)
    if weights is None:
        plans = plan_layers(run, create_graph=settings.differentiable_weights)
        weights = _checked(_pooled_weights(run, plans, settings), run, plans, settings)
    if share is not None:
        run.kept.update(zip(keys, weights, strict=True))
    return weights


def channel_weights(run: ForwardPass, settings: PassSettings) -> list[Tensor]:
    """Pooled gradients alpha of every layer, by closed forms where there are any.

    Args:
        run: The layers' features, and the codes to explain with their graph.
        settings: How backward passes run.

    Returns:
        One (B, T, K) per layer, in float32 or better.

    Raises:
        ValueError: The codes do not depend on a layer.
    """
    with _naming_checkpoints(run.codes):
        plans = plan_layers(run, create_graph=settings.differentiable_weights)
        return _pooled_weights(run, plans, settings)


def plan_layers(
    run: ForwardPass, *, pooled: bool = True, create_graph: bool = False
) -> list[LayerPlan]:
    """The way to each layer's weights.

    Args:
        run: The layers' features, and the codes with their graph.
        pooled: Whether pooled gradients are wanted; others have no closed form.
        create_graph: Whether the weights will be differentiated.

    Raises:
        ValueError: The codes do not depend on a layer.
    """
    plans = [
        plan_layer(
            run.codes,
            features,
            pooled=pooled and reshape is None and layer not in HOOKED,
            dims=len(run.dims),
            create_graph=create_graph,
        )
        for features, reshape, layer in zip(run.features, run.reshapes, run.layers, strict=True)
    ]
    for place, (plan, layer) in enumerate(zip(plans, run.layers, strict=True)):
        if plan.path == "off_path":
            raise off_path(layer)
        if pooled and layer in HOOKED:
            plans[place] = replace(plan, reason=WHY_HOOKED)
    return plans


def _single_code(run: ForwardPass, settings: PassSettings) -> list[Tensor] | None:
    """One (B, 1, K) per layer for one code of few images, by one plain backward pass.

    Such a pass does the same multiplications as the closed forms, and needs no plan. None where
    the closed forms do more: for many images, in half precision, and with a graph of their own.

    Raises:
        ValueError: The codes do not depend on a layer.
    """
    codes = run.codes
    if (
        len(run.dims) > 1
        or settings.differentiable_weights
        or is_traced(codes)
        or codes.shape[0] > _FEW_IMAGES
        or any(tensor.dtype not in _PRECISE for tensor in (codes, *run.features))
    ):
        return None
    pick = torch.zeros_like(codes)
    pick[:, run.dims[0]].fill_(1)
    try:
        gradients = torch.autograd.grad(
            codes, run.features, pick, retain_graph=True, allow_unused=True
        )
    except RuntimeError:  # the plan tells why, or another way
        return None
    weights = []
    for gradient, reshape, layer in zip(gradients, run.reshapes, run.layers, strict=True):
        if gradient is None:
            raise off_path(layer)
        maplike = gradient if reshape is None else reshape(gradient)
        weights.append(maplike.flatten(2).mean(2)[:, None])
    return weights


def _checked(
    weights: list[Tensor], run: ForwardPass, plans: Sequence[LayerPlan], settings: PassSettings
) -> list[Tensor]:
    """The weights, compared with one backward pass where values are looked at.

    Hooks on the nodes of the graph, unlike those on tensors, leave no trace but this difference.
    """
    closed = [place for place, plan in enumerate(plans) if plan.path != "vector_jacobian"]
    if not (closed and is_decided() and may_read_back(run.codes)):
        return weights
    codes, dims = run.codes, list(run.dims)
    with torch.no_grad():
        pick = torch.zeros_like(codes)
        mixture = torch.linspace(1, 2, len(dims), dtype=codes.dtype, device=codes.device)
        mixture[1::2] *= -1
        pick[:, dims] = mixture
    features = [run.features[place] for place in closed]
    gradients = torch.autograd.grad(codes, features, pick, retain_graph=True, allow_unused=True)
    wrong = []
    for place, gradient in zip(closed, gradients, strict=True):
        found = weights[place].detach()
        wanted = torch.zeros_like(found[:, 0])
        if gradient is not None:
            wanted = gradient.flatten(2).to(found.dtype).mean(2)
        mixed = torch.einsum("btk,t->bk", found, mixture.to(found.dtype))
        terms = torch.einsum("btk,t->bk", found.abs(), mixture.to(found.dtype).abs())
        off = (mixed - wanted).abs().amax()
        if bool(off > _AGREEMENT[codes.dtype] * torch.maximum(wanted.abs(), terms).amax()):
            wrong.append(place)
    if not wrong:
        return weights
    for place in wrong:
        HOOKED.add(run.layers[place])
    plans = plan_layers(run, create_graph=settings.differentiable_weights)
    return _pooled_weights(run, plans, settings)


def _pooled_weights(
    run: ForwardPass, plans: Sequence[LayerPlan], settings: PassSettings
) -> list[Tensor]:
    """One (B, T, K) per layer: backward passes for those without a closed form, all at once."""
    weights: dict[int, Tensor] = {}
    places = []
    for place, (plan, features) in enumerate(zip(plans, run.features, strict=True)):
        if plan.cut is not None:
            weights[place] = closed_form_weights(
                run.codes, features, plan, run.dims, create_graph=settings.differentiable_weights
            )
        elif plan.route is not None:
            with suppress(*NO_DERIVATIVE):
                weights[place] = route_weights(run.codes, features, plan, run.dims, settings)
        if place not in weights:
            places.append(place)
    parts: list[list[Tensor]] = [[] for _ in places]
    if places:
        passes = vector_jacobian_products(
            run.codes,
            [run.features[place] for place in places],
            run.dims,
            [plans[place] for place in places],
            settings,
            [run.reshapes[place] for place in places],
        )
        for gradients in passes:
            with torch.set_grad_enabled(settings.differentiable_weights):
                for part, gradient in zip(parts, gradients, strict=True):
                    part.append(gradient.flatten(3).mean(3))
    for place, part in zip(places, parts, strict=True):
        weights[place] = part[0] if len(part) == 1 else torch.cat(part, 1)
    return [weights[place] for place in range(len(plans))]


@contextmanager
def _naming_checkpoints(codes: Tensor) -> Iterator[None]:
    """Say what it is where a reentrant checkpoint forbids gradients of features.

    Raises:
        ValueError: A backward pass failed, and there is such a checkpoint in the graph.
    """
    try:
        yield
    except RuntimeError as error:
        if not _has_reentrant_checkpoint(codes):
            raise
        raise ValueError(
            "the model runs a checkpoint with use_reentrant=True between the layer and the "
            "posterior, inside which PyTorch gives no gradients of features; pass "
            "use_reentrant=False to torch.utils.checkpoint.checkpoint, which computes the same, or "
            "switch checkpointing off for the explanation"
        ) from error


def _has_reentrant_checkpoint(codes: Tensor) -> bool:
    waiting: list[Node | None] = [codes.grad_fn]
    seen: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "CheckpointFunctionBackward":
            return True
        waiting += [child for child, _ in node.next_functions]
    return False
