"""One call of the user's model: its posterior, and the features of the layers asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import Module

from captum_vae.attr._captum import format_additional_forward_args, format_inputs
from captum_vae.attr.arguments import warn_of_batch_statistics
from captum_vae.attr.engine.graph import off_path
from captum_vae.attr.engine.layers import describe, why_twice
from captum_vae.attr.engine.layout import (
    CHANNELS_LAST,
    LAYOUTS,
    TIME_FIRST,
    Layout,
    Reshape,
    axis_behind,
    check_maplike,
    find_reshape,
    layout_of_features,
    layout_of_module,
)
from captum_vae.checks import warn_caller
from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.hooks import hooked
from captum_vae.posterior.probe import seeded

Side = Literal["input", "output"]
Explain = Callable[[Posterior], tuple[Tensor, tuple[int, ...]]]
"""A posterior -> the scalars to explain (B, D'), and which of them get a map."""


@dataclass(frozen=True)
class ForwardPass:
    """What one call of the model gave, and what is asked of it.

    Attributes:
        layers: The modules whose features were caught.
        features: One tensor per layer, as the layer gave it, in the graph of ``codes``.
        maplike: The same brought to (B, K, *spatial), by ``reshapes``.
        codes: The scalars to explain, (B, D').
        dims: Which of them get a map.
        inputs: The model's inputs.
        input_axis: The first input's channel axis; None where it is not known.
        extra: The model's further positional arguments.
        side: Whether features are the layers' output or their input.
        reshapes: What brings each layer's features to (B, K, *spatial); None where they are so.
        adapter: Read the posterior; None where the user called the model.
        posterior: Mean and log-variance, (B, D), with the graph from the features on.
        explain: The posterior to ``codes`` and ``dims``.
        whole_graph: Whether the graph below the features had to be recorded too.
        kept: Channel weights that several maps of this pass share.
    """

    layers: tuple[Module, ...]
    features: tuple[Tensor, ...]
    maplike: tuple[Tensor, ...]
    reshapes: tuple[Reshape | None, ...]
    codes: Tensor
    dims: tuple[int, ...]
    inputs: tuple[Any, ...] = ()
    input_axis: int | None = None
    extra: tuple[Any, ...] = ()
    side: Side = "output"
    adapter: PosteriorAdapter | None = None
    posterior: Posterior | None = None
    explain: Explain | None = None
    whole_graph: bool = False
    kept: dict[Any, Tensor] = field(default_factory=dict)

    @property
    def args(self) -> tuple[Any, ...]:
        """All positional arguments of the model."""
        return (*self.inputs, *self.extra)

    def explaining(self, explain: Explain, layer: int) -> ForwardPass:
        """The same pass asked about one of its layers, and perhaps about other scalars."""
        assert self.posterior is not None
        with torch.enable_grad():
            codes, dims = explain(self.posterior)
        one = slice(layer, layer + 1)
        return replace(
            self,
            layers=self.layers[one],
            features=self.features[one],
            maplike=self.maplike[one],
            reshapes=self.reshapes[one],
            codes=codes,
            dims=dims,
            explain=explain,
        )

    def along_the_path(
        self, layer: int, start: Tensor | None, n_steps: int, keep_graph: bool
    ) -> list[tuple[float, Tensor, Tensor]]:
        """The codes at points on the straight line from other features to a layer's own.

        With D = A - A0 and g(t) = d mu / d A at A0 + t D, the integral of g(t) over t in [0, 1] is
        the weighted sum of g over these points (Gauss and Legendre). It times D, summed over
        channels and positions, is mu(A) - mu(A0), by the fundamental theorem of calculus.

        Args:
            layer: Place of the layer in ``layers``.
            start: A0, (B or 1, ...) as the layer gives features; None for zeros.
            n_steps: Number of points, each of which takes one call of the model.
            keep_graph: Whether the graph below the features is kept too.

        Returns:
            Weight of the point, codes (B, D'), and the features there, in the codes' graph.
        """
        assert self.adapter is not None and self.explain is not None
        features = self.features[layer]
        start = torch.zeros_like(features) if start is None else start
        points = []
        for node, weight in zip(*np.polynomial.legendre.leggauss(n_steps), strict=True):
            with torch.set_grad_enabled(keep_graph):  # nodes lie in [-1, 1], weights sum to 2
                between = start + float((1 + node) / 2) * (features - start)
            with capture_features(
                self.layers[layer : layer + 1],
                side=self.side,
                graph="whole" if keep_graph or self.whole_graph else "above",
                replace_with=[between],
                within=self.adapter.owner,
            ) as caught:
                posterior = self.adapter.look(*self.args)
            with torch.enable_grad():
                codes, _ = self.explain(posterior)
            points.append((float(weight / 2), codes, caught.features(self.adapter)[0]))
        return points


def all_of_the_mean(posterior: Posterior) -> tuple[Tensor, tuple[int, ...]]:
    """The posterior means (B, D), each of which gets a map."""
    return posterior.mean, tuple(range(posterior.mean.shape[1]))


def run_layers(
    adapter: PosteriorAdapter,
    layers: Sequence[Module],
    inputs: tuple[Any, ...],
    extra: tuple[Any, ...] = (),
    *,
    side: Side = "output",
    keep_graph: bool = False,
    reshape: Reshape | None = None,
    explain: Explain = all_of_the_mean,
) -> ForwardPass:
    """Call the model once, with gradients recorded from the layers' features on.

    Args:
        adapter: Reads the posterior.
        layers: Whose features to catch.
        inputs: The model's inputs.
        extra: Its further positional arguments.
        side: The layers' output, or their input.
        keep_graph: Keep the graph below the features as well, for training through the maps.
        reshape: The user's way from features to (B, K, *spatial); None finds it where it can.
        explain: The posterior to its ``codes`` and ``dims``.

    Raises:
        ValueError: A layer did not run, has no spatial positions, or what is explained does not
            depend on any.
    """
    args = (*inputs, *extra)
    adapter.prepare(*args)
    warn_of_batch_statistics(adapter)

    def run(whole: bool) -> ForwardPass:
        with capture_features(
            layers, side=side, graph="whole" if whole else "above", within=adapter.owner
        ) as caught:
            posterior = adapter.look(*args)
        features = caught.features(adapter)
        codes, dims = explain(posterior)
        layout = _layout(adapter, layers, features, codes, inputs, extra, side)
        image = inputs[0].shape[2:] if isinstance(inputs[0], Tensor) else ()
        reshapes = [
            find_reshape(given, layer, reshape, layout=known, image=image, batch=len(codes))
            for given, layer, known in zip(features, layers, layout.features, strict=True)
        ]
        maplike = [f if way is None else way(f) for f, way in zip(features, reshapes, strict=True)]
        for brought, given, layer in zip(maplike, features, layers, strict=True):
            check_maplike(brought, given, layer, len(codes))
        return ForwardPass(
            layers=tuple(layers),
            features=features,
            maplike=tuple(maplike),
            reshapes=tuple(reshapes),
            codes=codes,
            dims=dims,
            inputs=inputs,
            input_axis=layout.input_axis,
            extra=extra,
            side=side,
            adapter=adapter,
            posterior=posterior,
            explain=explain,
            whole_graph=whole,
        )

    with torch.enable_grad():
        result = run(keep_graph)
        if not result.codes.requires_grad and not keep_graph:
            # A no_grad or enable_grad block inside the model ended the recording: record it all.
            result = run(True)
    if not result.codes.requires_grad:
        raise off_path(layers[0], result.codes)
    return result


def forward_arguments(
    inputs: Tensor | tuple[Tensor, ...], additional_forward_args: Any
) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """The inputs and the further positional arguments, as tuples.

    Raises:
        RuntimeError: Under inference mode, or with tensors made there.
        TypeError: Something other than tensors of real numbers.
        ValueError: An empty batch.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "attribution needs gradients, which torch.inference_mode() forbids; use "
            "torch.no_grad() instead, in which attribute() works"
        )
    for tensor in inputs if isinstance(inputs, tuple) else (inputs,):
        check_images("inputs", tensor)
        if tensor.is_inference():
            raise RuntimeError(
                "inputs were made under torch.inference_mode() and cannot carry gradients; pass "
                "inputs.clone()"
            )
    if isinstance(inputs, tuple) and not inputs:
        raise ValueError("inputs is an empty tuple; give the model's input")
    tensors: tuple[Tensor, ...] = format_inputs(inputs)
    return tensors, format_additional_forward_args(additional_forward_args) or ()


def check_images(name: str, value: Any) -> None:
    """Refuse what is no batch of numbers; warn where some are not finite.

    Args:
        name: Name of the argument.
        value: What was given for it; wanted is a tensor (B, ...).

    Raises:
        TypeError: No tensor, or one of complex numbers.
        ValueError: An empty batch.
    """
    if not isinstance(value, Tensor):
        advice = {
            "ndarray": "torch.from_numpy makes one of it",
            "dict": "for a model that takes a mapping pass forward_func=lambda x: model({KEY: x})",
            "list": "torch.stack makes one of several images; several inputs are a tuple",
        }.get(type(value).__name__, "give a batch of images (B, C, H, W), or what the model takes")
        raise TypeError(f"{name} is a {type(value).__name__}; wanted a tensor: {advice}")
    if value.is_complex():
        raise TypeError(f"{name} holds complex numbers ({value.dtype}); wanted real ones")
    if value.dim() == 0 or len(value) == 0:
        raise ValueError(f"{name} has shape {tuple(value.shape)}: the batch is empty")
    # Nothing is read back from an accelerator, where that would stall.
    if value.device.type == "cpu" and value.is_floating_point():
        if not math.isfinite(value.detach().double().sum()):
            broken = (~value.detach().isfinite()).flatten(1).any(1).nonzero()
            if len(broken):
                kind = "NaN" if value.detach().isnan().any() else "infinite values"
                warn_caller(
                    f"{name} holds {kind}, first in sample {int(broken[0])}, whose maps mean "
                    "nothing"
                )


def look_at_layers(
    adapter: PosteriorAdapter,
    layers: Sequence[Module],
    args: tuple[Any, ...],
    *,
    side: Side = "output",
) -> tuple[Tensor, ...]:
    """The layers' features alone, detached; the model's call ends as soon as they are there."""
    with torch.no_grad(), capture_features(layers, side=side, graph="none") as caught:
        adapter.look(*args)
    return caught.features(adapter)


def _layout(
    adapter: PosteriorAdapter,
    layers: Sequence[Module],
    features: Sequence[Tensor],
    codes: Tensor,
    inputs: tuple[Any, ...],
    extra: tuple[Any, ...],
    side: Side,
) -> Layout:
    """Found at the first call with these layers, from the graph of that call.

    Images (B, C, H, W) are what the input is, unless its sizes look like (B, H, W, C). Else, and
    for features of which nothing behind them tells, the model runs once more, with a graph from
    its input on.
    """
    image = inputs[0]
    key = (*map(id, layers), side, image.dim(), *(f.dim() for f in features))
    kept = LAYOUTS.setdefault(layers[0], {})
    if key not in kept:
        plain = image.dim() > 3 and not image.shape[-1] <= 4 < image.shape[1]
        found = [layout_of_module(layer) for layer in layers]
        if plain:
            for place, given in enumerate(features):
                if found[place] is None and given.dim() > 3:
                    found[place] = layout_of_features(given, layers[place], codes)
        doubtful = any(
            known is None and given.dim() > 3 for known, given in zip(found, features, strict=True)
        )
        if plain and not doubtful:
            kept[key] = Layout(tuple(found), 1)
        else:
            kept[key] = _looked_up(adapter, layers, features, (*inputs, *extra), side, plain)
    return kept[key]


def _looked_up(
    adapter: PosteriorAdapter,
    layers: Sequence[Module],
    features: Sequence[Tensor],
    args: tuple[Any, ...],
    side: Side,
    plain: bool,
) -> Layout:
    """Where channels are by one more call of the model, with a graph from its input on."""
    batch = len(args[0])
    if batch > 1 and any(f.dim() == 3 and f.shape[0] == f.shape[1] for f in features):
        # As many steps as samples: with one sample less it shows which axis is which.
        args = tuple(
            arg[:-1] if isinstance(arg, Tensor) and arg.dim() and len(arg) == batch else arg
            for arg in args
        )
        batch -= 1
    leaf = args[0].detach().clone()
    if leaf.is_floating_point():
        leaf.requires_grad_()
    with seeded(), capture_features(layers, side=side, graph="whole") as caught:
        mean = adapter.look(leaf, *args[1:]).mean
    seen = caught.features(adapter)
    found = [
        layout_of_features(given, layer, mean) for given, layer in zip(seen, layers, strict=True)
    ]
    for place, given in enumerate(seen):
        if found[place] == CHANNELS_LAST and given.dim() == 3:
            if given.shape[0] != batch == given.shape[1]:
                found[place] = TIME_FIRST
    if plain:
        return Layout(tuple(found), 1)
    differentiable = leaf.requires_grad and leaf.dim() > 2
    return Layout(tuple(found), axis_behind(mean, leaf) if differentiable else None)


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
                    "inside a torch.compile'd submodule cannot be hooked; choose an encoder layer"
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
            caught.tensors[index] = features.detach().clone()
            if all(tensor is not None for tensor in caught.tensors):
                raise FeaturesComplete
            return features
        torch.set_grad_enabled(True)
        features = features.clone()
        if not features.requires_grad:
            features.requires_grad_()
        caught.tensors[index] = features
        return features.clone()

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
