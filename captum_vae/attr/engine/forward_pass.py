"""One call of the user's model: its posterior, and the features of the layers asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

from captum_vae.attr.engine.layers import Reshape, describe, maplike_features, off_path
from captum_vae.checks import warn_caller
from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.calling import owner_of, unwrap
from captum_vae.posterior.hooks import hooked

Side = Literal["input", "output"]
Explain = Callable[[Posterior], tuple[Tensor, tuple[int, ...]]]
"""A posterior -> the scalars to explain (B, D'), and which of them get a map."""


@dataclass(frozen=True)
class ForwardPass:
    """What one call of the model gave, and what is asked of it.

    Attributes:
        layers: The modules whose features were caught.
        features: One tensor per layer, as the layer gave it, in the graph of ``codes``.
        maplike: The same brought to (B, K, *spatial), by ``reshape``.
        codes: The scalars to explain, (B, D').
        dims: Which of them get a map.
        inputs: The model's inputs; the maps can take the spatial size of the first.
        extra: The model's further positional arguments.
        side: Whether features are the layers' output or their input.
        reshape: Features as the layer gives them to (B, K, *spatial); None where they are so.
        adapter: Read the posterior; None where the user called the model.
        posterior: Mean and log-variance, (B, D), with the graph from the features on.
        explain: The posterior to ``codes`` and ``dims``.
        kept: Channel weights that several maps of this pass share.
    """

    layers: tuple[Module, ...]
    features: tuple[Tensor, ...]
    maplike: tuple[Tensor, ...]
    codes: Tensor
    dims: tuple[int, ...]
    inputs: tuple[Any, ...] = ()
    extra: tuple[Any, ...] = ()
    side: Side = "output"
    reshape: Reshape | None = None
    adapter: PosteriorAdapter | None = None
    posterior: Posterior | None = None
    explain: Explain | None = None
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
            codes=codes,
            dims=dims,
            explain=explain,
        )

    def codes_at(self, layer: int, features: Tensor, *, keep_graph: bool) -> tuple[Tensor, Tensor]:
        """The codes if a layer gave other features, and those features in their graph.

        Args:
            layer: Place of the layer in ``layers``.
            features: In the shape that the layer gives.
            keep_graph: Whether the graph below the features is kept too.
        """
        assert self.adapter is not None
        again = run_layers(
            self.adapter,
            self.layers[layer : layer + 1],
            self.inputs,
            self.extra,
            side=self.side,
            keep_graph=keep_graph,
            replace_with=[features],
            reshape=self.reshape,
            explain=self.explain,
        )
        return again.codes, again.features[0]


def run_layers(
    adapter: PosteriorAdapter,
    layers: Sequence[Module],
    inputs: tuple[Any, ...],
    extra: tuple[Any, ...] = (),
    *,
    side: Side = "output",
    keep_graph: bool = False,
    replace_with: Sequence[Tensor] | None = None,
    reshape: Reshape | None = None,
    explain: Explain | None = None,
) -> ForwardPass:
    """Call the model once, with gradients recorded from the layers' features on.

    Args:
        adapter: Reads the posterior.
        layers: Whose features to catch.
        inputs: The model's inputs.
        extra: Its further positional arguments.
        side: The layers' output, or their input.
        keep_graph: Also keep the graph below the features, for training through the maps.
        replace_with: Features to put in place of the layers' own.
        reshape: Features to (B, K, *spatial); None where they are so.
        explain: The posterior to its ``codes`` and ``dims``; None takes all of the mean.

    Raises:
        ValueError: A layer did not run, has no spatial positions, or what is explained does not
            depend on any.
    """
    args = (*inputs, *extra)
    adapter.prepare(*args)
    if replace_with is None:
        _warn_of_batch_statistics(adapter)

    def run(whole: bool) -> ForwardPass:
        with capture_features(
            layers, side=side, graph="whole" if whole else "above", replace_with=replace_with
        ) as caught:
            posterior = adapter(*args)
        features = _all_caught(caught, layers, adapter)
        codes, dims = (
            (posterior.mean, tuple(range(posterior.mean.shape[1])))
            if explain is None
            else explain(posterior)
        )
        # Features that take the layers' place have the shape that was checked before.
        maplike = () if replace_with else maplike_features(features, reshape, layers, len(codes))
        return ForwardPass(
            layers=tuple(layers),
            features=features,
            maplike=maplike,
            codes=codes,
            dims=dims,
            inputs=inputs,
            extra=extra,
            side=side,
            reshape=reshape,
            adapter=adapter,
            posterior=posterior,
            explain=explain,
        )

    with torch.enable_grad():
        result = run(keep_graph)
        if not result.codes.requires_grad and not keep_graph:
            # A no_grad or enable_grad block inside the model ended the recording: record it all.
            result = run(True)
    if not result.codes.requires_grad:
        raise off_path(layers[0])
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
        adapter(*args)
    return _all_caught(caught, layers, adapter)


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
    overwrite them. Hooks live for the block, also when the model raises, and act for the calling
    thread alone.

    Args:
        layers: Modules, each of which must run exactly once.
        side: Catch what the layer puts out, or what it takes in (its first tensor).
        graph: ``above`` records gradients from the features on (what lies below runs without a
            graph, which saves its memory); ``whole`` keeps the graph below too, for training
            through the maps; ``none`` only looks, and ends the forward once all layers have run.
        replace_with: Features for the model to go on with in place of its own, one per layer.

    Yields:
        A list with one tensor per layer, filled while the model runs; None where it did not run.

    Raises:
        RuntimeError: Inside the block, when a layer runs twice or its features cannot be read.
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
        warn_caller(
            "a batch-norm layer of the model takes the batch's own statistics, so maps depend on "
            "the other images of the batch; call model.eval() first, and keep running statistics"
        )
