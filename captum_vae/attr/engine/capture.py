"""Catching the features of layers during one call of a model, and leaving nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module

Side = Literal["input", "output"]


class FeaturesComplete(Exception):
    """Ends a forward early: every layer asked for has run."""


@contextmanager
def capture_features(
    layers: Sequence[Module],
    *,
    side: Side = "output",
    graph: Literal["above", "whole", "none"] = "above",
    replace_with: Sequence[Tensor] | None = None,
) -> Iterator[list[Tensor | None]]:
    """Catch the features of ``layers`` in the model call made inside the ``with`` block.

    Both what is caught and what the model goes on with are clones of the features, so that no
    in-place operation, behind the layer or on a tensor that the layer passed on as it was, can
    overwrite them. Hooks live for the block, also when the model raises.

    Args:
        layers: modules, each of which must run exactly once.
        side: catch what the layer puts out, or what it takes in (its first tensor).
        graph: ``above`` records gradients from the features on (what lies below runs without a
            graph, which saves its memory); ``whole`` keeps the graph below too, for training
            through the maps; ``none`` only looks, and ends the forward once all layers have run.
        replace_with: features for the model to go on with in place of its own, one per layer.

    Yields:
        A list with one tensor per layer, filled while the model runs; None where it did not run.

    Raises:
        RuntimeError: inside the block, when a layer runs twice or its features cannot be read.
    """
    caught: list[Tensor | None] = [None] * len(layers)

    def keep(index: int, features: Tensor) -> Tensor:
        if caught[index] is not None:
            raise RuntimeError(
                f"layer {describe(layers[index])} ran twice in one forward (shared weights or a "
                "loop), so its features are not one tensor; choose a layer that runs once"
            )
        if not features.is_floating_point():
            raise TypeError(
                f"layer {describe(layers[index])} puts out {features.dtype}; attribution needs "
                "floating-point features"
            )
        if replace_with is not None:
            features = replace_with[index]
        if graph == "none":
            caught[index] = features.detach().clone()
            if all(tensor is not None for tensor in caught):
                raise FeaturesComplete
            return features
        torch.set_grad_enabled(True)
        features = features.clone()
        if not features.requires_grad:
            features.requires_grad_()
        caught[index] = features
        return features.clone()

    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            stack.enter_context(_hooked(layer, side, partial(keep, index)))
        stack.enter_context(torch.set_grad_enabled(graph == "whole"))
        try:
            yield caught
        except FeaturesComplete:
            pass
        finally:
            # Weights that autocast casts without gradients must not serve a later pass with them.
            torch.clear_autocast_cache()


def describe(layer: Module) -> str:
    """A layer in one line."""
    return str(layer).splitlines()[0].rstrip("(")


@contextmanager
def _hooked(layer: Module, side: Side, swap: Callable[[Tensor], Tensor]) -> Iterator[None]:
    def on_output(module: Module, args: Any, output: Any) -> Any:
        return _swap_tensor(output, swap, module)

    def on_input(module: Module, args: Any) -> Any:
        return _swap_tensor(args, swap, module, first=True)

    handle = (
        layer.register_forward_hook(on_output)
        if side == "output"
        else layer.register_forward_pre_hook(on_input)
    )
    try:
        yield
    finally:
        handle.remove()


def _swap_tensor(
    value: Any, swap: Callable[[Tensor], Tensor], module: Module, first: bool = False
) -> Any:
    if isinstance(value, Tensor):
        return swap(value)
    if isinstance(value, (tuple, list)):
        places = [i for i, item in enumerate(value) if isinstance(item, Tensor)]
        if len(places) == 1 or (first and places):
            items = list(value)
            items[places[0]] = swap(items[places[0]])
            return type(value)(items) if type(value) in (tuple, list) else tuple(items)
        if places:
            raise RuntimeError(
                f"layer {describe(module)} puts out {len(places)} tensors; choose a layer inside "
                "it that puts out one"
            )
    raise RuntimeError(
        f"layer {describe(module)} gives {type(value).__name__}, not a tensor of features; choose "
        "a layer whose features are one tensor"
    )
