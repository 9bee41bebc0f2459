"""Layers to compare features at, where a person names none: the encoder's, one per grid."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae.attr.engine.forward_pass import run_layers
from captum_vae.attr.engine.plans import plan_layer
from captum_vae.models.feature_space import FeatureSpaceVAE
from captum_vae.posterior import PosteriorAdapter
from captum_vae.posterior.calling import owner_of
from captum_vae.posterior.hooks import hooked

_MOST = 3
_STRIDES = (4, 16)
"""Grids that are neither as fine as pixels nor too coarse to localize, where there are such."""
_SMALLEST = 4
"""Positions along each side below which a map says nothing of where."""


def default_layers(adapter: PosteriorAdapter, images: Tensor) -> tuple[str, ...]:
    """Dotted names of the encoder's layers that features are compared at by default.

    The last layer on the way to the posterior at each grid, at strides 4 to 16 if there are such,
    at most three, the finest first; ``features`` of a VAE of features.

    Args:
        adapter: Reads the posterior of the model.
        images: (B, C, H, W) for the model to run on.

    Raises:
        ValueError: No layer has features with positions; the message says what to do.
    """
    owner = owner_of(adapter.model)
    if isinstance(owner, FeatureSpaceVAE):
        return ("features",)
    if not isinstance(owner, nn.Module):
        raise ValueError("layers have names in a torch.nn.Module, not in a plain function")
    leaves = {
        name: module
        for name, module in owner.named_modules()
        if name and not next(module.children(), None)
    }
    outputs = _outputs(adapter, leaves, images)
    spatial = [
        name
        for name, found in outputs.items()
        if len(found) == 1 and len(found[0]) == 4 and min(found[0][2:]) >= _SMALLEST
    ]
    of_grid: dict[tuple[int, ...], str] = {}
    for name in spatial:
        grid = outputs[name][0][2:]
        if grid[0] < images.shape[2] and _on_path(adapter, leaves[name], images):
            of_grid[grid] = name
    if not of_grid:
        raise ValueError(
            "no layer of the model has features with positions on the way to the posterior; name "
            "layers yourself with layers=[...], or choose a scorer that reads none"
        )
    finest = sorted(of_grid, key=lambda grid: -grid[0])
    middle = [g for g in finest if _STRIDES[0] <= images.shape[2] / g[0] <= _STRIDES[1] * 1.01]
    return tuple(of_grid[grid] for grid in (middle or finest)[:_MOST])


def _outputs(
    adapter: PosteriorAdapter, modules: dict[str, nn.Module], images: Tensor
) -> dict[str, list[tuple[int, ...]]]:
    """Shapes of what each module puts out for the posterior, a shape per call."""
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in modules}

    def keeper(name: str) -> Callable[[nn.Module, Any], None]:
        def keep(_module: nn.Module, output: Any) -> None:
            shapes[name].append(tuple(output.shape) if isinstance(output, Tensor) else ())

        return keep

    ready = adapter.prepare(images)
    with torch.no_grad(), ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(hooked(module, keeper(name)))
        ready(images)
    return shapes


def _on_path(adapter: PosteriorAdapter, module: nn.Module, images: Tensor) -> bool:
    with torch.enable_grad():
        try:
            run = run_layers(adapter, [module], (images,), (), side="output", keep_graph=False)
        except ValueError:
            return False
        return bool(plan_layer(run.codes, run.features[0]).path != "off_path")
