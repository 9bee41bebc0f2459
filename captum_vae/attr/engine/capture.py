"""Hooks that catch the features of layers in one call of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import Module

from captum_vae.attr.engine.layers import describe, why_twice
from captum_vae.posterior import PosteriorAdapter
from captum_vae.posterior.hooks import hooked

Side = Literal["input", "output"]


@dataclass
class Caught:
    """Features of layers, filled while the model runs.

    Attributes:
        layers: The modules watched.
        tensors: One per layer, in its graph if one was asked for; None where it did not run.
    """

    layers: tuple[Module, ...]
    tensors: list[Tensor | None]

    def features(self, adapter: PosteriorAdapter) -> tuple[Tensor, ...]:
        """All of them.

        Args:
            adapter: What called the model, for the message.

        Raises:
            ValueError: A layer did not run.
        """
        for tensor, layer in zip(self.tensors, self.layers, strict=True):
            if tensor is None:
                raise ValueError(
                    f"layer {describe(layer)} did not run when the posterior was read by "
                    f"{adapter!r}: decoder layers are not on the path to the posterior, and layers "
                    "inside a torch.compile'd or TorchScript submodule cannot be hooked; choose an "
                    "encoder layer"
                )
        return tuple(tensor for tensor in self.tensors if tensor is not None)


class FeaturesComplete(Exception):
    """Ends a forward early: every layer asked for has run."""


@contextmanager
def capture_features(
    layers: Sequence[Module],
    *,
    side: Side = "output",
    graph: Literal["above", "whole", "none"] = "above",
    replace_with: Sequence[Tensor] | None = None,
    within: Module | None = None,
) -> Iterator[Caught]:
    """Catch the features of ``layers`` in the model call made inside the ``with`` block.

    Both what is caught and what the model goes on with are clones of the features, so that no
    in-place operation, behind the layer or on a tensor that the layer passed on as it was, can
    overwrite them. Hooks live for the block, also when the model raises, and act for the calling
    thread alone.

    Args:
        layers: Modules, each of which must run exactly once.
        side: Catch what the layer puts out, or what it takes in (its first tensor).
        graph: ``above`` records gradients from the features on (what lies below runs without a
            graph, which saves its memory); ``whole`` keeps the graph below too, for training
            through the maps; ``none`` only looks, and ends the forward once all layers have run.
        replace_with: Features for the model to go on with in place of its own, one per layer.
        within: The model, for the message.

    Yields:
        The features, filled while the model runs.

    Raises:
        RuntimeError: Inside the block, when a layer runs twice or its features cannot be read.
    """
    caught = Caught(tuple(layers), [None] * len(layers))

    def keep(index: int, features: Tensor) -> Tensor:
        if caught.tensors[index] is not None:
            raise RuntimeError(
                f"layer {describe(layers[index])} ran twice in one forward{why_twice(within)}"
            )
        if not features.is_floating_point():
            raise TypeError(
                f"layer {describe(layers[index])} puts out {features.dtype}; attribution needs "
                "floating-point features"
            )
        if graph != "none" and (torch.is_inference_mode_enabled() or features.is_inference()):
            raise RuntimeError(
                f"the model runs layer {describe(layers[index])} under torch.inference_mode(), "
                "where no gradients exist; use torch.no_grad() in the model instead, which is no "
                "hindrance"
            )
        if replace_with is not None:
            features = replace_with[index]
        if graph == "none":
            copy = features.detach().clone()
            # An alias of a plain tensor would be one that a recorder of operations does not know.
            caught.tensors[index] = copy if type(copy) is Tensor else copy.as_subclass(Tensor)
            if all(tensor is not None for tensor in caught.tensors):
                raise FeaturesComplete
            return features
        torch.set_grad_enabled(True)
        kind = type(features)
        # As a plain tensor: a subclass may put nodes of its own where this one's edge is.
        features = features.clone() if kind is Tensor else features.as_subclass(Tensor).clone()
        if not features.requires_grad:
            features.requires_grad_()
        caught.tensors[index] = features
        return features.clone() if kind is Tensor else features.clone().as_subclass(kind)

    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            swap = partial(_swap_tensor, swap=partial(keep, index), first=side == "input")
            stack.enter_context(hooked(layer, swap, on=side))
        stack.enter_context(torch.set_grad_enabled(graph == "whole"))
        try:
            yield caught
        except FeaturesComplete:
            pass
        finally:
            # Weights that autocast casts without gradients must not serve a later pass with them.
            torch.clear_autocast_cache()


def _swap_tensor(module: Module, value: Any, swap: Callable[[Tensor], Tensor], first: bool) -> Any:
    if isinstance(value, Tensor):
        return swap(value)
    if isinstance(value, (tuple, list)):
        places = [i for i, item in enumerate(value) if isinstance(item, Tensor)]
        first = first or isinstance(module, nn.RNNBase | nn.MultiheadAttention)
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
