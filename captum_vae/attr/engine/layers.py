"""Layers of a model, found by name and put into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.jit import ScriptModule
from torch.nn import Module

from captum_vae.checks import is_sequence
from captum_vae.posterior.calling import all_modules, owner_of, unwrap

Layers = Module | str | Sequence[Module | str]


def find_layers(forward_func: Callable[..., Any], layers: Layers | None) -> tuple[Module, ...]:
    """The modules that ``layers`` names, checked to belong to the model.

    Args:
        forward_func: The model, a method of it, or a callable (whose layers cannot be checked).
        layers: A module, its dotted name, or a sequence of either.

    Raises:
        ValueError: No layer, a name that does not exist, or a module of another model.
        TypeError: Something that is neither a module nor a name, or a layer that hooks or gradients
            do not reach: inside a TorchScript module, or quantised.
    """
    owner = owner_of(unwrap(forward_func))
    if isinstance(owner, ScriptModule):
        raise TypeError(f"the model is {_of_torchscript(owner)}")
    wanted: list[object] = [layers]
    if is_sequence(layers) and not isinstance(layers, (Module, str)):
        wanted = list(layers)
    if not wanted:
        raise ValueError("layer is an empty list; give at least one layer")
    return tuple(_find_layer(owner, layer) for layer in wanted)


def describe(layer: Module) -> str:
    """A layer in one line."""
    return str(layer).splitlines()[0].rstrip("(")


def why_twice(model: Module | None) -> str:
    """Why a layer may run twice, and what to do.

    Args:
        model: What runs it, which may say that it cuts its input, as diffusers' models do; None
            where that is a plain function.
    """
    modules = [] if model is None else list(model.modules())
    for way in ("slicing", "tiling"):
        if any(getattr(module, f"use_{way}", False) is True for module in modules):
            return (
                f": the model encodes its input in pieces (use_{way}); call disable_{way}() on it "
                "first"
            )
    return (
        " (shared weights, a loop, or an input encoded in pieces), so its features are not one "
        "tensor; choose a layer that runs once"
    )


def _find_layer(owner: Module | None, layer: object) -> Module:
    if isinstance(layer, str):
        if not layer:
            raise ValueError("layer is an empty name; give the dotted name of a layer")
        if owner is None:
            raise ValueError(f"layer={layer!r}: names need the model itself, not a plain function")
        try:
            found = owner.get_submodule(layer)
        except AttributeError:
            names = ", ".join(name for name, _ in owner.named_modules() if name)
            raise ValueError(
                f"layer={layer!r} is not in {type(owner).__name__}; its layers are: {names}"
            ) from None
        return _reachable(owner, found)
    if not isinstance(layer, Module):
        raise TypeError(
            f"layer must be a torch.nn.Module or its name, got {type(layer).__name__}; pass it to "
            "the constructor"
        )
    if owner is not None and layer not in all_modules(owner):
        raise ValueError(
            f"layer {describe(layer)} is not in the model {type(owner).__name__}; take it from the "
            "very model that you explain"
        )
    return _reachable(owner, layer)


def _reachable(owner: Module | None, layer: Module) -> Module:
    """The layer itself.

    Raises:
        TypeError: Hooks do not run on it, or it has no derivative.
    """
    if is_quantised(layer):
        raise TypeError(f"layer {describe(layer)} is quantised: {_UNQUANTISED}")
    if isinstance(layer, ScriptModule) and owner is not None:
        for module in all_modules(owner):
            if isinstance(module, ScriptModule) and module is not layer:
                if layer in all_modules(module):
                    raise TypeError(f"layer {describe(layer)} is inside {_of_torchscript(module)}")
    return layer


def refuse_quantised(forward_func: Callable[..., Any]) -> None:
    """Refuse a model with quantised modules, which have no derivative, outside its decoder.

    Raises:
        TypeError: The message names the first of them.
    """
    owner = owner_of(unwrap(forward_func))
    for name, module in () if owner is None else owner.named_modules():
        if is_quantised(module) and not name.split(".")[0].startswith("decode"):
            raise TypeError(f"the model's module {name!r} is quantised: {_UNQUANTISED}")


def is_quantised(module: Module) -> bool:
    """Whether a module computes on quantised numbers, as its class tells."""
    home = type(module).__module__
    return home.startswith(("torch.ao.nn.", "torch.nn.")) and "quantized" in home


_UNQUANTISED = (
    "PyTorch has no derivative of quantised arithmetic; explain the model as it was before "
    "torch.ao.quantization converted it (for quantisation-aware training, the prepared model)"
)


def _of_torchscript(module: Module) -> str:
    name = getattr(module, "original_name", type(module).__name__)
    return (
        f"a TorchScript module ({name}, from torch.jit.script, trace, freeze or load), which runs "
        "outside Python, where no hook sees its layers; explain the module that it was made from, "
        "with the same weights"
    )
