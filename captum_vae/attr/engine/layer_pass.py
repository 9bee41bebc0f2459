"""One call of the user's model: its posterior, and the features of the layers asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

from captum_vae.attr.engine.capture import Side, capture_features, describe
from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.calling import owner_of, unwrap

Layers = Module | str | Sequence[Module | str]


@dataclass(frozen=True)
class LayerPass:
    """What one call of the model gave, and what is asked of it.

    Attributes:
        layers: the modules whose features were caught.
        inputs: the model's inputs.
        extra: its further positional arguments.
        side: whether features are the layers' output or their input.
        posterior: mean and log-variance, (B, D), with the graph from the features on.
        features: one tensor per layer, as the layer gave it.
        reshaped: the same as (B, K, *spatial).
        codes: the scalars to explain, (B, D').
        dims: which of them get a map.
    """

    layers: tuple[Module, ...]
    inputs: tuple[Tensor, ...]
    extra: tuple[Any, ...]
    side: Side
    posterior: Posterior
    features: tuple[Tensor, ...]
    reshaped: tuple[Tensor, ...] = ()
    codes: Tensor = field(default_factory=lambda: torch.empty(0))
    dims: tuple[int, ...] = ()

    @property
    def args(self) -> tuple[Any, ...]:
        """All positional arguments of the model."""
        return (*self.inputs, *self.extra)


def find_layers(forward_func: Callable[..., Any], layers: Layers | None) -> tuple[Module, ...]:
    """The modules that ``layers`` names, checked to belong to the model.

    Args:
        forward_func: the model, a method of it, or a callable (whose layers cannot be checked).
        layers: a module, its dotted name, or a sequence of either.

    Raises:
        ValueError: no layer, a name that does not exist, or a module of another model.
        TypeError: something that is neither a module nor a name.
    """
    owner = owner_of(unwrap(forward_func))
    wanted: list[object] = [layers]
    if isinstance(layers, Iterable) and not isinstance(layers, (Module, str)):
        wanted = list(layers)
    if not wanted:
        raise ValueError("layer is an empty list; give at least one layer")
    return tuple(_find_layer(owner, layer) for layer in wanted)


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


def run_layers(
    adapter: PosteriorAdapter,
    layers: Sequence[Module],
    inputs: tuple[Tensor, ...],
    extra: tuple[Any, ...],
    *,
    side: Side,
    keep_graph: bool,
    replace_with: Sequence[Tensor] | None = None,
    explain: Callable[[Posterior], tuple[Tensor, tuple[int, ...]]] | None = None,
) -> LayerPass:
    """Call the model once, with gradients recorded from the layers' features on.

    Args:
        adapter: reads the posterior.
        layers: whose features to catch.
        inputs: the model's inputs.
        extra: its further positional arguments.
        side: the layers' output, or their input.
        keep_graph: also keep the graph below the features, for training through the maps.
        replace_with: features to put in place of the layers' own.
        explain: the posterior to its ``codes`` and ``dims``; None takes the mean.

    Raises:
        ValueError: a layer did not run, or what is explained does not depend on any.
    """
    args = (*inputs, *extra)
    adapter.prepare(*args)
    if replace_with is None:
        _warn_of_batch_statistics(adapter)

    def run(whole: bool) -> LayerPass:
        with capture_features(
            layers, side=side, graph="whole" if whole else "above", replace_with=replace_with
        ) as caught:
            posterior = adapter(*args)
        features = _all_caught(caught, layers, adapter)
        codes, dims = (posterior.mean, ()) if explain is None else explain(posterior)
        return LayerPass(
            tuple(layers), inputs, extra, side, posterior, features, codes=codes, dims=dims
        )

    result = run(keep_graph)
    if not result.codes.requires_grad and not keep_graph:
        # A no_grad or enable_grad block inside the model ended the recording: record it all.
        result = run(True)
    if not result.codes.requires_grad:
        raise off_path(layers[0])
    return result


def look_at_layers(
    adapter: PosteriorAdapter, layers: Sequence[Module], args: tuple[Any, ...], *, side: Side
) -> tuple[Tensor, ...]:
    """The layers' features alone, detached; the model's call ends as soon as they are there."""
    with torch.no_grad(), capture_features(layers, side=side, graph="none") as caught:
        adapter(*args)
    return _all_caught(caught, layers, adapter)


def off_path(layer: Module) -> ValueError:
    """The error for a layer on which the posterior does not depend."""
    return ValueError(
        f"layer {describe(layer)} is not on the path to the posterior: its features do not change "
        "it (or a detach or no_grad in the model hides that they do); choose an encoder layer"
    )


def _all_caught(
    caught: Sequence[Tensor | None], layers: Sequence[Module], adapter: PosteriorAdapter
) -> tuple[Tensor, ...]:
    features = []
    for tensor, layer in zip(caught, layers, strict=True):
        if tensor is None:
            raise ValueError(
                f"layer {describe(layer)} did not run when the posterior was read by {adapter!r}: "
                "decoder layers are not on the path to the posterior, and layers inside a "
                "torch.compile'd submodule cannot be hooked; choose an encoder layer"
            )
        features.append(tensor)
    return tuple(features)


def _warn_of_batch_statistics(adapter: PosteriorAdapter) -> None:
    owner = owner_of(unwrap(adapter.model))
    if owner is not None and any(
        isinstance(module, _BatchNorm) and (module.training or module.running_mean is None)
        for module in owner.modules()
    ):
        warnings.warn(
            "a batch-norm layer of the model takes the batch's own statistics, so maps depend on "
            "the other images of the batch; call model.eval() first, and keep running statistics",
            UserWarning,
            stacklevel=6,
        )
