"""Features of a frozen encoder: several of its layers on one grid, each channel standardised."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from captum_vae.checks import floating_tensor, whole_number
from captum_vae.models.backbone import InputNormalization, create_backbone, prune_behind
from captum_vae.models.base import height_and_width
from captum_vae.models.encoders import (
    OWN,
    Encoder,
    Layers,
    layer_names,
    layers_of_timm,
    named_function,
    own_encoder,
)
from captum_vae.posterior.hooks import hooked


class FeatureOptions(TypedDict, total=False):
    """Arguments of :class:`FrozenFeatures` beside the encoder and its layers."""

    image_size: int | Sequence[int]
    in_channels: int
    grid: int | Sequence[int] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    pretrained: bool
    weights: str | Path | None
    reshape_transform: Callable[[Tensor], Tensor] | str | None


class FrozenFeatures(nn.Module):
    r"""Images to features of a frozen encoder, (B, K, h, w): several layers, one grid.

    The layers' features are brought to one grid, averaged over cells where theirs is finer and
    interpolated (bilinearly) where it is coarser, and stacked as channels in the order in which the
    layers are named. Every channel is then standardised: :meth:`standardize` takes mean and
    standard deviation over the places of normal images. Until then channels stay as they are.

    The encoder is frozen: no gradient reaches its weights, and it stays in eval mode when the
    module around it trains, so that its batch norm's statistics do not move. A module that is
    given is copied, and the one given stays as it was.

    Args:
        encoder: A module that is called with images; the name of a timm model, which is cut behind
            the last layer; or ``package.module:function`` that returns a module.
        layers: Dotted names of layers within the encoder, whose outputs are (B, K, h, w); of a
            module also the layers themselves; of a timm model those that it offers as features.
            None takes a timm model's layers at strides 4, 8 and 16.
        image_size: Height and width of the images in pixels; one number for square images.
        in_channels: Number of channels of an image.
        grid: (h, w) of the features, or one number; None takes the grid of the layer in the middle
            by size, of two the finer.
        mean: Mean of each colour channel of the images that the encoder was trained on, in [0, 1];
            None takes what timm knows of its model, and 0 for others.
        std: Standard deviation of each colour channel; None takes what timm knows, and 1 for
            others.
        pretrained: Whether timm downloads its published weights from the hub.
        weights: A local file of weights for a timm model; see :class:`TimmVAE`.
        reshape_transform: A function from a layer's output to (B, K, h, w), for transformers of
            your own, whose layers give tokens; or ``package.module:function`` that names one.

    Attributes:
        layers: Names of the layers.
        channels: How many channels each layer has; their sum is K.
        grid: (h, w) of the features.
        channel_mean: What is subtracted from each channel, (K, 1, 1).
        channel_std: What each channel is divided by, (K, 1, 1).

    Raises:
        TypeError: An argument is of another kind.
        FileNotFoundError: There is no such file of weights.
        ValueError: There is no such encoder or layer, a layer's output is none of (B, K, h, w),
            the encoder cannot take such images, or an argument is out of range.
        RuntimeError: The pretrained weights could not be had.

    Example::

        >>> features = FrozenFeatures("test_resnet", ["layer1", "layer2"], image_size=64)
        >>> features.standardize([torch.rand(8, 3, 64, 64)])
        >>> features(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 80, 16, 16])
    """

    channel_mean: Tensor
    channel_std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        layers: Layers = None,
        *,
        image_size: int | Sequence[int] = 256,
        in_channels: int = 3,
        grid: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pretrained: bool = False,
        weights: str | Path | None = None,
        reshape_transform: Callable[[Tensor], Tensor] | str | None = None,
    ) -> None:
        """Take the encoder and look at the layers' outputs with one blank image."""
        super().__init__()
        self.image_size = height_and_width(image_size)
        self.in_channels = whole_number("in_channels", in_channels, least=1)
        self._name = encoder if isinstance(encoder, str) else f"{OWN}{type(encoder).__name__}"
        self._reshape_words = reshape_transform if isinstance(reshape_transform, str) else None
        self._reshape = named_function("reshape_transform", reshape_transform)
        self._places: list[int] | None = None
        if isinstance(encoder, str) and ":" not in encoder:
            self.encoder = create_backbone(
                encoder,
                image_size=self.image_size,
                in_channels=self.in_channels,
                pretrained=pretrained,
                weights=weights,
            )
            self.layers = layers_of_timm(self.encoder, layers)
            self._places = prune_behind(self.encoder, encoder, self.layers, argument="layers")
            known = self.encoder.pretrained_cfg
            mean = known["mean"] if mean is None else mean
            std = known["std"] if std is None else std
        else:
            if pretrained or weights is not None:
                raise ValueError(
                    "pretrained and weights are for timm models, by their name; load your "
                    "encoder's own weights into it first"
                )
            own = own_encoder(encoder)
            self.layers = layer_names(own, layers)
            self.encoder = copy.deepcopy(own)
        self.encoder.requires_grad_(False)
        self.mean = _per_channel("mean", 0.0 if mean is None else mean, self.in_channels)
        self.std = _per_channel("std", 1.0 if std is None else std, self.in_channels)
        if min(self.std) <= 0:
            raise ValueError(f"std={self.std} must be larger than 0")
        held = [*self.encoder.parameters(), *self.encoder.buffers()]
        like = next((tensor for tensor in held if tensor.is_floating_point()), torch.zeros(()))
        self.scale = InputNormalization(self.mean, self.std, self.in_channels).to(like)
        self.train(self.training)
        shapes = self._probe(like)
        self.channels = tuple(shape[0] for shape in shapes)
        if grid is None:
            by_size = sorted((shape[1:] for shape in shapes), key=lambda side: side[0] * side[1])
            grid = by_size[len(by_size) // 2]
        self.grid = height_and_width(grid, name="grid")
        total = sum(self.channels)
        self.register_buffer("channel_mean", like.new_zeros((total, 1, 1)))
        self.register_buffer("channel_std", like.new_ones((total, 1, 1)))

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """Shape of one image's features, (K, h, w)."""
        return (sum(self.channels), *self.grid)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable, with no source of weights.

        A module of the user's own stands there by its class alone, from which it cannot be rebuilt.
        """
        return {
            "encoder": self._name,
            "layers": list(self.layers),
            "image_size": list(self.image_size),
            "in_channels": self.in_channels,
            "grid": list(self.grid),
            "mean": list(self.mean),
            "std": list(self.std),
            "reshape_transform": self._reshape_words,
        }

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module; the encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Standardised features of images.

        Args:
            x: Images (B, C, H, W) in [0, 1], of the size that the features were built for.

        Returns:
            Features (B, K, h, w).

        Raises:
            TypeError: The images are no floating-point tensor.
            ValueError: They have other channels or another size.
        """
        return self.standardized(self.stacked(x))

    def stacked(self, x: Tensor) -> Tensor:
        """The layers' features on one grid as the encoder gives them, (B, K, h, w)."""
        wanted = (self.in_channels, *self.image_size)
        floating_tensor("x", x, wanted="(B, C, H, W)")
        if tuple(x.shape[1:]) != wanted:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; these features were built for (B, "
                f"{', '.join(map(str, wanted))}): resize or convert the images, or build them with "
                "their in_channels and image_size"
            )
        return torch.cat([on_grid(found, self.grid) for found in self._outputs(self.scale(x))], 1)

    def standardized(self, stacked: Tensor) -> Tensor:
        """What :meth:`stacked` gives, (B, K, h, w), less each channel's mean, over its std."""
        return (stacked - self.channel_mean) / self.channel_std

    def by_layer(self, features: Tensor) -> tuple[Tensor, ...]:
        """Features (B, K, h, w) as one view (B, K_l, h, w) a layer, in the layers' order."""
        return torch.split(features, list(self.channels), dim=1)

    def standardize(self, batches: Iterable[Tensor]) -> None:
        """Take each channel's mean and standard deviation over the places of normal images.

        A channel that does not vary is centred and not scaled.

        Args:
            batches: Normal images, (B, C, H, W) each.

        Raises:
            ValueError: There is no image, or a feature is not finite.
        """
        with torch.no_grad():
            self.standardize_stacked(self.stacked(images) for images in batches)

    def standardize_stacked(self, batches: Iterable[Tensor]) -> None:
        """The same from features that :meth:`stacked` gave, (B, K, h, w) each."""
        count, first, second = 0, torch.zeros(()), torch.zeros(())
        for features in batches:
            places = features.detach().double().transpose(0, 1).flatten(1)
            first = first.to(places.device) + places.sum(1)
            second = second.to(places.device) + places.square().sum(1)
            count += places.shape[1]
        if not count:
            raise ValueError("batches hold no image; wanted normal images to standardise on")
        mean = first / count
        std = (second / count - mean.square()).clamp_min(0).sqrt()
        if not std.isfinite().all():
            raise ValueError("a feature of the encoder is not finite; check images and weights")
        # Rounding leaves a constant channel about 1e-8 of its own size.
        constant = std <= 1e-6 * mean.abs().clamp_min(torch.finfo(std.dtype).tiny)
        std = std.where(~constant, 1.0)
        self.channel_mean.copy_(mean.reshape(-1, 1, 1))
        self.channel_std.copy_(std.reshape(-1, 1, 1))

    def _outputs(self, x: Tensor) -> list[Tensor]:
        """Each layer's features, (B, K_l, h_l, w_l), of normalised images."""
        if self._places is not None:
            order = sorted(set(self._places))
            found = self.encoder.forward_intermediates(x, indices=order, intermediates_only=True)
            return [found[order.index(place)] for place in self._places]
        seen: dict[str, list[Any]] = {name: [] for name in self.layers}
        with ExitStack() as hooks:
            for name, outputs in seen.items():
                hooks.enter_context(hooked(self.encoder.get_submodule(name), _keeper(outputs)))
            self.encoder(x)
        return [self._checked(name, seen[name], len(x)) for name in self.layers]

    def _checked(self, name: str, outputs: list[Any], batch: int) -> Tensor:
        """The one output of a layer as (B, K, h, w)."""
        if len(outputs) != 1:
            raise ValueError(
                f"layer {name!r} of {self._name} ran {len(outputs)} times for one batch; choose a "
                "layer that runs once"
            )
        features = outputs[0]
        if self._reshape is not None:
            features = self._reshape(features)
        if not isinstance(features, Tensor) or features.ndim != 4 or len(features) != batch:
            given = tuple(features.shape) if isinstance(features, Tensor) else type(features)
            raise ValueError(
                f"layer {name!r} of {self._name} gives {given}; wanted (B, K, h, w): choose "
                "another layer, or pass reshape_transform=, a function that brings it to that"
            )
        return features

    def _probe(self, like: Tensor) -> list[tuple[int, int, int]]:
        """(K, h, w) of each layer for a blank image."""
        blank = like.new_zeros((1, self.in_channels, *self.image_size))
        try:
            with torch.no_grad():
                outputs = self._outputs(self.scale(blank))
        except ValueError:
            raise
        # The encoder is the user's: its layers complain in their own words.
        except Exception as error:
            raise ValueError(
                f"{self._name} cannot take images (B, {self.in_channels}, "
                f"{self.image_size[0]}, {self.image_size[1]}): {' '.join(str(error).split())}; say "
                "image_size= and in_channels="
            ) from error
        return [(found.shape[1], found.shape[2], found.shape[3]) for found in outputs]


def on_grid(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Features (B, K, h, w) on another grid: averaged where finer, interpolated where coarser."""
    size = tuple(features.shape[2:])
    if size == grid:
        return features
    coarser = (min(size[0], grid[0]), min(size[1], grid[1]))
    if coarser != size:
        features = F.adaptive_avg_pool2d(features, coarser)
    if coarser != grid:
        features = F.interpolate(features, grid, mode="bilinear", align_corners=False)
    return features


def _per_channel(name: str, values: float | Sequence[float], channels: int) -> tuple[float, ...]:
    """One number a channel; the colours' average where a model of colours takes other images."""
    given = [float(values)] if isinstance(values, int | float) else [float(v) for v in values]
    if len(given) == channels:
        return tuple(given)
    if len(given) not in (1, 3):
        raise ValueError(f"{name} has {len(given)} numbers; wanted one for each of {channels}")
    return (sum(given) / len(given),) * channels


def _keeper(outputs: list[Any]) -> Callable[[nn.Module, Any], None]:
    """A hook that adds a layer's output to a list; cloned, lest what follows overwrites it."""

    def keep(_module: nn.Module, output: Any) -> None:
        outputs.append(output.clone() if isinstance(output, Tensor) else output)

    return keep


def frozen_features(
    encoder: Encoder | FrozenFeatures, layers: Layers, options: FeatureOptions
) -> FrozenFeatures:
    """Features that are given, or those of an encoder with its layers and options.

    Raises:
        ValueError: Features are given and layers or options besides.
    """
    if not isinstance(encoder, FrozenFeatures):
        return FrozenFeatures(encoder, layers, **options)
    besides = (["layers"] if layers is not None else []) + list(options)
    if besides:
        raise ValueError(f"{besides[0]}: that is of the FrozenFeatures given; leave it out")
    return encoder
