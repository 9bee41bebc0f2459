"""The encoder that features are taken of, and its layers, as a user names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from captum_vae.models.backbone import feature_layers
from captum_vae.plugins import import_object

Encoder = nn.Module | str
"""A module, the name of a timm model, or ``package.module:function`` that returns a module."""

Layers = str | nn.Module | Sequence[str | nn.Module] | None
"""Layers of an encoder, by dotted name or themselves; None where timm knows which."""

STRIDES = (4, 8, 16)
"""Strides of the layers of a timm model that are taken where none are named."""

OWN = "a module of your own: "
"""What a configuration says of an encoder that it cannot rebuild, before its class."""


def layers_of_timm(model: Any, layers: Any) -> tuple[str, ...]:
    """Names of a timm model's layers: those given, or those at strides 4, 8 and 16.

    A transformer keeps one stride throughout; three layers evenly spaced over its depth are taken.

    Raises:
        TypeError: Something other than names is given.
    """
    if layers is None:
        chosen = [info["module"] for info in model.feature_info if info["reduction"] in STRIDES]
        if 0 < len(chosen) <= len(STRIDES):
            return tuple(chosen)
        names = feature_layers(model)
        return tuple(names[(2 * third + 1) * len(names) // 6] for third in range(3))
    given = [layers] if isinstance(layers, str) else list(layers)
    if not given or not all(isinstance(name, str) for name in given):
        raise TypeError(f"layers={layers!r} must be names that timm gives, such as 'blocks.2'")
    return tuple(given)


def own_encoder(encoder: Encoder) -> nn.Module:
    """The user's own encoder: the module itself, or what the function of that name returns.

    Raises:
        TypeError: It is neither.
        ValueError: The function does not import or returns no module, or the name is what a
            configuration says of a module.
    """
    if isinstance(encoder, nn.Module):
        return encoder
    if not isinstance(encoder, str):
        raise TypeError(
            f"encoder is a {type(encoder).__name__}; wanted a torch.nn.Module, the name of a timm "
            "model, or package.module:function"
        )
    if encoder.startswith(OWN):
        raise ValueError(
            f"the encoder is {encoder}, which cannot be rebuilt from its name; build the model "
            "with the encoder as you did and load the weights into it: load_vae(path, model)"
        )
    function = import_object(encoder, "encoder")
    made = function() if callable(function) else function
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"encoder={encoder!r} gave {type(made).__name__}; wanted a torch.nn.Module with its "
            "weights"
        )
    return made


def layer_names(encoder: nn.Module, layers: Layers) -> tuple[str, ...]:
    """Dotted names of an encoder's layers, which are given by name or as modules.

    Raises:
        ValueError: None is given, or one is not in the encoder.
    """
    if layers is None:
        raise ValueError(
            "layers is missing: name the layers whose features are wanted, such as "
            "['layer1', 'layer2', 'layer3']"
        )
    names = {id(module): name for name, module in encoder.named_modules() if name}
    found = []
    for layer in [layers] if isinstance(layers, str | nn.Module) else layers:
        name = layer if isinstance(layer, str) else names.get(id(layer))
        if name not in names.values():
            shown = repr(layer) if isinstance(layer, str) else type(layer).__name__
            raise ValueError(
                f"layers holds {shown}, which is not in {type(encoder).__name__}; its layers are: "
                f"{', '.join(names.values())}"
            )
        found.append(str(name))
    if not found:
        raise ValueError("layers is empty; wanted at least one layer")
    return tuple(found)


def named_function(argument: str, function: Any) -> Callable[[Any], Any] | None:
    """A function that is given itself or as ``package.module:function``; None stays None.

    Raises:
        TypeError: It is something else.
        ValueError: It does not import.
    """
    found: Any = import_object(function, argument) if isinstance(function, str) else function
    if found is not None and not callable(found):
        raise TypeError(f"{argument} is a {type(found).__name__}; wanted a function, or None")
    return found  # type: ignore[no-any-return]
