"""Layers of a model: finding them by name, and which axes of their features are positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.checks import warn_caller
from captum_vae.posterior.calling import owner_of, unwrap

Layers = Module | str | Sequence[Module | str]
Reshape = Callable[[Tensor], Tensor]
"""Features as the layer gives them -> (B, K, *spatial)."""


def find_layers(forward_func: Callable[..., Any], layers: Layers | None) -> tuple[Module, ...]:
    """The modules that ``layers`` names, checked to belong to the model.

    Args:
        forward_func: The model, a method of it, or a callable (whose layers cannot be checked).
        layers: A module, its dotted name, or a sequence of either.

    Raises:
        ValueError: No layer, a name that does not exist, or a module of another model.
        TypeError: Something that is neither a module nor a name.
    """
    owner = owner_of(unwrap(forward_func))
    wanted: list[object] = [layers]
    if isinstance(layers, Iterable) and not isinstance(layers, (Module, str)):
        wanted = list(layers)
    if not wanted:
        raise ValueError("layer is an empty list; give at least one layer")
    return tuple(_find_layer(owner, layer) for layer in wanted)


def describe(layer: Module) -> str:
    """A layer in one line."""
    return str(layer).splitlines()[0].rstrip("(")


def maplike_features(
    given: Sequence[Tensor], reshape: Reshape | None, layers: Sequence[Module], batch: int
) -> tuple[Tensor, ...]:
    """Features as (B, K, *spatial), with one to three spatial axes; warns of NaN.

    Args:
        given: One tensor per layer, as the layer gave it.
        reshape: The user's ``reshape_transform``, if any.
        layers: The layers, for the messages.
        batch: B.

    Raises:
        ValueError: No spatial positions, more than three spatial axes, or another batch size.
    """
    reshaped = tuple(features if reshape is None else reshape(features) for features in given)
    for features, raw, layer in zip(reshaped, given, layers, strict=True):
        name = describe(layer)
        if features.dim() == 2:
            raise ValueError(
                f"layer {name} puts out {tuple(raw.shape)}, features without spatial positions; "
                "choose a layer before the flatten or pooling, or pass reshape_transform"
            )
        if not 3 <= features.dim() <= 5 or features.shape[0] != batch:
            raise ValueError(
                f"layer {name} puts out {tuple(raw.shape)} for a batch of {batch}; wanted (B, K, "
                "*spatial) with one to three spatial axes; bring it there with reshape_transform"
            )
        if torch.isnan(features.detach().sum()):
            broken = features.detach().isnan().flatten(1).any(1).nonzero()
            if len(broken):
                warn_caller(
                    f"the features of layer {name} hold NaN, first in sample {int(broken[0])}; "
                    "its maps are NaN too"
                )
    return reshaped


def _find_layer(owner: Module | None, layer: object) -> Module:
    if isinstance(layer, str):
        if owner is None:
            raise ValueError(f"layer={layer!r}: names need the model itself, not a plain function")
        try:
            return owner.get_submodule(layer)
        except AttributeError:
            names = ", ".join(name for name, _ in owner.named_modules() if name)
            raise ValueError(
                f"layer={layer!r} is not in {type(owner).__name__}; its layers are: {names}"
            ) from None
    if not isinstance(layer, Module):
        raise TypeError(
            f"layer must be a torch.nn.Module or its name, got {type(layer).__name__}; pass it to "
            "the constructor"
        )
    if owner is not None and all(layer is not module for module in owner.modules()):
        raise ValueError(
            f"layer {describe(layer)} is not in the model {type(owner).__name__}; take it from the "
            "very model that you explain"
        )
    return layer
