"""Maps from the very forward of a training step, so that a loss on them needs no second one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import Tensor
from torch.nn import Module

from captum_vae.attr.arguments import Target, check_passes, latent_dims
from captum_vae.attr.engine.capture import Caught, capture_features
from captum_vae.attr.engine.channel_weights import channel_weights as weights_of
from captum_vae.attr.engine.channel_weights import plan_layers
from captum_vae.attr.engine.first_call import checking
from captum_vae.attr.engine.forward_pass import ForwardPass
from captum_vae.attr.engine.gradients import PassSettings
from captum_vae.attr.engine.layers import describe, find_layers
from captum_vae.attr.engine.layout import (
    Reshape,
    check_maplike,
    find_reshape,
    layout_of_features,
)
from captum_vae.attr.engine.maps import compose_maps
from captum_vae.attr.engine.plans import LayerPlan
from captum_vae.attr.options import Order, Preset, Rectifier, Reduction, resolve_options
from captum_vae.checks import check_choice

ChannelWeights = Literal["exact", "detached"]


@dataclass
class WatchedForward:
    """The features that a layer gave in one forward of the model, still in its graph.

    Attributes:
        layer: The layer watched.
        reshape_transform: Function from the features (B, ...) to (B, K, *spatial); None where
            the module or its neighbours tell which axis holds channels.
        dims_per_pass: Latent dimensions in one backward pass; None chooses by ``memory_budget``.
        memory_budget: Bytes for the gradients of one backward pass; None chooses by the device.
    """

    layer: Module
    reshape_transform: Callable[[Tensor], Tensor] | None = None
    dims_per_pass: int | None = None
    memory_budget: int | None = None
    _caught: Caught = field(default_factory=lambda: Caught((), [None]), repr=False)

    @property
    def features(self) -> Tensor:
        """A, (B, K, *spatial), with the graph of the forward.

        Raises:
            ValueError: The layer has not run, or its features have no spatial positions.
        """
        given = self._given()
        reshape = self._reshape(None)
        features = given if reshape is None else reshape(given)
        with checking([self.layer], [given], of="watched"):
            check_maplike(features, given, self.layer, given.shape[0])
        return features

    def _reshape(self, mean: Tensor | None) -> Reshape | None:
        given = self._given()
        layout = layout_of_features(given, self.layer, mean)
        return find_reshape(given, self.layer, self.reshape_transform, layout=layout)

    def plan(self, mean: Tensor) -> LayerPlan:
        """How the channel weights are computed, and why."""
        return plan_layers(self._pass(mean, None))[0]

    def channel_weights(
        self, mean: Tensor, target: Target = None, *, gradient: ChannelWeights = "exact"
    ) -> Tensor:
        """Pooled gradients of the latent codes with respect to the features (paper section 3.1).

        Args:
            mean: (B, D) posterior means of the watched forward, with their graph.
            target: Latent dimensions: None for all D, an int, or several; T of them.
            gradient: ``exact`` keeps the graph of the weights themselves (second order),
                ``detached`` takes them as constants.

        Returns:
            Channel weights alpha (B, T, K), in float32 or better.

        Raises:
            ValueError: The layer has not run or is not on the path to ``mean``, ``mean`` is not
                (B, D), or ``target`` is out of range.
        """
        check_choice("gradient", gradient, get_args(ChannelWeights))
        return weights_of(self._pass(mean, target), self._settings(gradient))[0]

    def maps(
        self,
        mean: Tensor,
        target: Target = None,
        *,
        preset: Preset = "paper",
        rectifier: Rectifier | None = None,
        order: Order | None = None,
        reduction: Reduction | None = None,
        channel_weights: ChannelWeights = "exact",
    ) -> Tensor:
        """Attention maps of the watched forward, as ``LatentGradCAM.attribute(create_graph=True)``.

        Args:
            mean: (B, D) posterior means of the watched forward, with their graph.
            target: Latent dimensions: None for all D, an int, or several; T of them.
            preset: ``paper``, ``authors``, ``replication_a`` or ``replication_b``; each option
                below replaces the preset's own.
            rectifier: ``relu``, ``abs``, ``sigmoid`` or ``none``.
            order: Rectify ``after_sum`` over channels, or ``channelwise`` before it.
            reduction: What becomes of the channels: their ``sum``, their ``mean``, or ``none`` to
                keep them.
            channel_weights: ``exact``: a loss on the maps trains through the weights too;
                ``detached``: through the features alone, as both replications did.

        Returns:
            Maps (B, T, *spatial) at the features' own size, differentiable.

        Raises:
            ValueError: The layer has not run or is not on the path to ``mean``, ``mean`` is not (B,
                D), ``target`` is out of range, or an option is unknown.
        """
        options = resolve_options(preset, rectifier=rectifier, order=order, reduction=reduction)
        check_choice("channel_weights", channel_weights, get_args(ChannelWeights))
        return compose_maps(self._pass(mean, target), options, self._settings(channel_weights))[0]

    def _pass(self, mean: Tensor, target: Target) -> ForwardPass:
        """The watched forward as the engine takes it."""
        given = self._given()
        if not isinstance(mean, Tensor):
            raise TypeError(
                f"mean is a {type(mean).__name__}; wanted the posterior means (B, D) that the "
                "watched forward returned"
            )
        if mean.dim() != 2 or len(mean) != len(given):
            raise ValueError(
                f"mean has shape {tuple(mean.shape)} and the watched batch {len(given)} images; "
                f"wanted ({len(given)}, D), from the same forward; flatten or average a spatial "
                "latent first"
            )
        if mean.grad_fn is None:
            raise ValueError(
                "mean has no graph (a detached or no_grad forward); pass the posterior mean that "
                "the watched forward returned"
            )
        return ForwardPass(
            layers=(self.layer,),
            features=(given,),
            maplike=(self.features,),
            reshapes=(self._reshape(mean),),
            codes=mean,
            dims=latent_dims(target, mean.shape[1]),
        )

    def _settings(self, weights: ChannelWeights) -> PassSettings:
        return PassSettings(
            create_graph=True,
            dims_per_pass=self.dims_per_pass,
            memory_budget=self.memory_budget,
            constant_weights=weights == "detached",
        )

    def _given(self) -> Tensor:
        given = self._caught.tensors[0]
        if given is None:
            raise ValueError(
                f"layer {describe(self.layer)} did not run inside the `with` block: call the model "
                "there, and choose a layer that it runs"
            )
        return given


@contextmanager
def watch_forward(
    model: Callable[..., Any],
    layer: Module | str,
    *,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
    dims_per_pass: int | None = None,
    memory_budget: int | None = None,
) -> Iterator[WatchedForward]:
    """Watch a layer in the one forward made inside the ``with`` block.

    The hook lives for the block; the features stay usable behind it. The model's mode is its own:
    a batch norm in training mode above the layer makes maps depend on the whole batch.

    Args:
        model: The VAE.
        layer: A module of it, or its dotted name.
        reshape_transform: Function from the features (B, ...) to (B, K, *spatial); None where
            the module or its neighbours tell which axis holds channels.
        dims_per_pass: Latent dimensions in one backward pass; None chooses by ``memory_budget``.
        memory_budget: Bytes for the gradients of one backward pass; None chooses by the device.

    Yields:
        The watched forward, whose ``maps(mean)`` are read after the model was called.

    Raises:
        ValueError: A layer that is not in the model, or a compiled model.
        TypeError: Several layers.
        RuntimeError: The layer ran twice inside the block.

    Example::

        with watch_forward(vae, vae.encoder.conv2) as watched:
            reconstruction, mean, log_variance = vae(images)
        loss = elbo(...) + overlap(watched.maps(mean, rectifier="abs"))
    """
    if not isinstance(layer, (Module, str)):
        raise TypeError(
            f"layer must be one torch.nn.Module or its name, got {type(layer).__name__}"
        )
    if hasattr(model, "_orig_mod"):
        raise ValueError(
            "model went through torch.compile, which leaves no graph between its layers; watch the "
            "model itself (compile='off' in the trainer)"
        )
    check_passes(reshape_transform, dims_per_pass, memory_budget)
    (module,) = find_layers(model, layer)
    with capture_features([module], graph="whole") as caught:
        yield WatchedForward(module, reshape_transform, dims_per_pass, memory_budget, caught)
