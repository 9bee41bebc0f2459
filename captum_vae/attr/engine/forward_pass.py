"""One call of the user's model: its posterior, and the features of the layers asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.attr.arguments import refuse_meta, warn_of_batch_statistics
from captum_vae.attr.engine.capture import Side, capture_features
from captum_vae.attr.engine.first_call import checking
from captum_vae.attr.engine.graph import off_path
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
from captum_vae.attr.engine.tensor_hooks import HOOKED, SeeingHooks
from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.probe import seeded
from captum_vae.posterior.read_back import is_decided, may_read_back

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
    if not is_decided() or may_read_back(args[0]):
        refuse_meta(adapter)
    adapter.prepare(*args)
    warn_of_batch_statistics(adapter)

    def run(whole: bool) -> ForwardPass:
        hooks = SeeingHooks() if is_decided() and may_read_back(args[0]) else None
        with (
            capture_features(
                layers, side=side, graph="whole" if whole else "above", within=adapter.owner
            ) as caught,
            nullcontext() if hooks is None else hooks,
        ):
            posterior = adapter.look(*args)
        if hooks is not None and hooks.seen:
            HOOKED.update(layers)
        features = caught.features(adapter)
        codes, dims = explain(posterior)
        if type(codes) is not Tensor:
            codes = codes.as_subclass(Tensor)
        batch = codes.shape[0]
        layout = _layout(adapter, layers, features, codes, inputs, extra, side)
        image = inputs[0].shape[2:] if isinstance(inputs[0], Tensor) else ()
        reshapes = [
            find_reshape(given, layer, reshape, layout=known, image=image, batch=batch)
            for given, layer, known in zip(features, layers, layout.features, strict=True)
        ]
        maplike = [f if way is None else way(f) for f, way in zip(features, reshapes, strict=True)]
        for brought, given, layer in zip(maplike, features, layers, strict=True):
            check_maplike(brought, given, layer, batch)
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

    decided = nullcontext() if is_decided() else checking(layers, args, of=side)
    with torch.enable_grad(), decided:
        result = run(keep_graph)
        if not result.codes.requires_grad and not keep_graph:
            # A no_grad or enable_grad block inside the model ended the recording: record it all.
            result = run(True)
    if not result.codes.requires_grad:
        raise off_path(layers[0], result.codes)
    return result


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
