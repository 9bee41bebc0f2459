"""Whether maps depend on what the model has learned: the same maps of a randomised model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from captum_vae.checks import checked_seed
from captum_vae.posterior.probe import seeded


def randomization_check(
    model: nn.Module,
    maps_of: Callable[[nn.Module], Tensor],
    *,
    within: str = "",
    seed: int = 0,
) -> dict[str, float]:
    """Rank correlation of a model's maps with those of the model as its layers are randomised.

    From the last layer to the first, the layers of a copy of the model are drawn anew, each on top
    of those before it, and after each the maps are made again (Adebayo et al., Sanity checks for
    saliency maps, NeurIPS 2018). Maps that hardly change say nothing about what was learned.

    Args:
        model: The trained model, which is left as it is.
        maps_of: Makes maps (B, ...) of a model, such as
            ``lambda vae: LatentGradCAM(vae, "encoder.conv2").attribute(images)``.
        within: Dotted name of the part whose layers are randomised, such as "encoder"; "" is the
            whole model.
        seed: Seed of the weights drawn.

    Returns:
        By the name of the layer drawn last, from the last layer to the first: Spearman's
        correlation of absolute values, averaged over the maps of the batch; NaN where every map is
        constant.

    Raises:
        TypeError: The model is no module, or ``maps_of`` gives no tensor.
        ValueError: The model has no part of that name, or no layer in it has weights.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; wanted a torch.nn.Module")
    part = dict(model.named_modules()).get(within)
    if part is None:
        raise ValueError(f"within={within!r} is no submodule of {type(model).__name__}")
    prefix = f"{within}." if within else ""
    names = [
        prefix + name if name else within
        for name, module in part.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    if not names:
        raise ValueError(f"no layer within {within or type(model).__name__!r} has weights")
    checked_seed(seed)
    before = _checked(maps_of(model))
    twin = copy.deepcopy(model)
    modules = dict(twin.named_modules())
    found: dict[str, float] = {}
    for place, name in enumerate(reversed(names)):
        with seeded(seed + place):
            _draw(modules[name])
        found[name] = _similarity(before, _checked(maps_of(twin)))
    return found


def _draw(module: nn.Module) -> None:
    """Draw a layer's own weights as PyTorch would, or like in spread where it does not say how."""
    reset: Any = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    with torch.no_grad():
        for parameter in module.parameters(recurse=False):
            spread = float(parameter.std()) if parameter.numel() > 1 else 1.0
            parameter.normal_(0, spread or 1.0)


def _similarity(before: Tensor, after: Tensor) -> float:
    pairs = zip(_rows(before), _rows(after), strict=True)
    found = [
        float(spearmanr(a, b).statistic)
        for a, b in pairs
        if a.numel() and float(a.std()) > 0 and float(b.std()) > 0
    ]
    return sum(found) / len(found) if found else float("nan")


def _rows(maps: Tensor) -> Tensor:
    """The single maps as rows: those of every image and dimension."""
    return maps.abs().flatten(0, 1).flatten(1) if maps.dim() > 3 else maps.abs().flatten(1)


def _checked(maps: Any) -> Tensor:
    if not isinstance(maps, Tensor):
        raise TypeError(f"maps_of gave a {type(maps).__name__}; wanted one tensor of maps (B, ...)")
    return maps.detach().double().cpu()
