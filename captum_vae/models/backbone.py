"""A timm model cut after one of its feature layers, with the layer names timm gives it."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_vae.models.weights import load_backbone_weights


class InputNormalization(nn.Module):
    """Images in [0, 1] to the scale that the backbone's pretrained weights expect.

    Args:
        mean: Mean of each colour channel.
        std: Standard deviation of each colour channel.
        in_channels: Number of channels of an image; when they are not the colour channels, each
            one is normalised by the averages.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], in_channels: int) -> None:
        """Hold the statistics as buffers, (C, 1, 1) each."""
        super().__init__()
        for name, values in (("mean", torch.tensor(mean)), ("std", torch.tensor(std))):
            if len(values) != in_channels:
                values = values.mean().expand(in_channels)
            self.register_buffer(name, values.reshape(-1, 1, 1).clone())

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images, shaped as ``x``, (B, C, H, W)."""
        return (x - self.mean) / self.std


class CutBackbone(NamedTuple):
    """A timm model that ends at one of its feature layers.

    Attributes:
        model: The timm model, with timm's names for the layers that are left.
        layer: The layer it ends at, by timm's name.
        position: Index of this layer among timm's intermediates.
        feature_shape: Shape (K, h, w) of the features at the image size it was built for.
    """

    model: Any
    layer: str
    position: int
    feature_shape: tuple[int, int, int]


def cut_backbone(
    name: str,
    *,
    feature_layer: str | None,
    image_size: tuple[int, int],
    in_channels: int,
    pretrained: bool,
    weights: str | Path | None = None,
) -> CutBackbone:
    """The timm model ``name`` without everything behind ``feature_layer``.

    Args:
        name: Name of a timm architecture, with or without a pretrained tag.
        feature_layer: The layer to cut after, by timm's name; None takes the last.
        image_size: Height and width in pixels.
        in_channels: Number of channels of an image.
        pretrained: Whether timm downloads its published weights.
        weights: A local file of weights instead; see :func:`load_backbone_weights`.

    Raises:
        ImportError: The package timm is not installed.
        FileNotFoundError: There is no such file of weights.
        ValueError: The backbone or the feature layer is unknown, the backbone cannot take the
            image size, or the file's weights are of another model.
        RuntimeError: The pretrained weights could not be had.
    """
    model = create_backbone(
        name,
        image_size=image_size,
        in_channels=in_channels,
        pretrained=pretrained,
        weights=weights,
    )
    layers = feature_layers(model)
    layer = layers[-1] if feature_layer is None else feature_layer
    (index,) = prune_behind(model, name, [layer], argument="feature_layer")
    try:
        shape = probe_features(model, index, (in_channels, *image_size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name} cannot take image_size {image_size}: {error}") from error
    return CutBackbone(model, layer, index, shape)


def feature_layers(model: Any) -> list[str]:
    """Names of the layers whose features a timm model offers, from the first to the last."""
    return [info["module"] for info in model.feature_info]


def prune_behind(model: Any, name: str, layers: Sequence[str], *, argument: str) -> list[int]:
    """Take everything behind the last of some feature layers out of a timm model.

    Args:
        model: The timm model, which is changed.
        name: Its name in timm, for messages.
        layers: Names of feature layers.
        argument: What the user named the layers as, for messages.

    Returns:
        Index of each layer among the intermediates of the model that is left.

    Raises:
        ValueError: The model does not offer a layer; the message lists those that it does.
    """
    offered = feature_layers(model)
    for layer in layers:
        if layer not in offered:
            raise ValueError(f"{argument} is {layer!r}; {name} offers {', '.join(offered)}")
    places = [offered.index(layer) for layer in layers]
    kept = model.prune_intermediate_layers(sorted(set(places)), prune_norm=True, prune_head=True)
    of_place = dict(zip(sorted(set(places)), kept, strict=True))
    return [of_place[place] for place in places]


def intermediate_features(model: Any, index: int, x: Tensor) -> Tensor:
    """Features (B, K, h, w) of images (B, C, H, W); tokens as a grid, no class token."""
    features: Tensor
    (features,) = model.forward_intermediates(x, indices=[index], intermediates_only=True)
    return features


def probe_features(model: Any, index: int, image_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(K, h, w) of the features; freezes the parameters they do not depend on.

    timm leaves some behind the feature layer (fusion branches, norms of a removed head), and
    distributed training waits for the gradient of every parameter that is not frozen. The
    blank image passes in eval mode, so batch norm's statistics stay put.
    """
    model.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        features = intermediate_features(model, index, trained[0].new_zeros((1, *image_shape)))
        gradients = torch.autograd.grad(features.sum(), trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    model.train()
    _, channels, height, width = features.shape
    return channels, height, width


def create_backbone(
    name: str,
    *,
    image_size: tuple[int, int],
    in_channels: int,
    pretrained: bool,
    weights: str | Path | None,
) -> Any:
    """The timm model ``name``, whole, without its classifier."""
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"the backbone {name} needs timm: pip install timm") from error

    if pretrained and weights is not None:
        raise ValueError(
            f"pretrained=True and weights={str(weights)!r} are two sources of weights; give one"
        )

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"backbone is {name!r}, which timm {timm.__version__} does not know; near names: "
            f"{', '.join(near) or 'none'}; timm.list_models() has them all"
        )
    options: dict[str, Any] = {"num_classes": 0, "in_chans": in_channels}
    published = timm.get_pretrained_cfg(name)
    if published is not None and published.fixed_input_size:
        options["img_size"] = image_size
    try:
        model = timm.create_model(name, pretrained=pretrained, **options)
    except Exception as error:
        # A download may fail in any way of the HTTP stack, a model refuse its size in timm's.
        if not pretrained:
            raise ValueError(f"timm cannot build {name} with {options}: {error}") from error
        raise RuntimeError(
            f"timm could not load pretrained weights for {name}: {' '.join(str(error).split())}; "
            "without internet pass weights=FILE with a file of them (a state_dict as .safetensors "
            "or .pth), or put them into the hub's cache first; pretrained=False starts untrained"
        ) from error
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(
            f"backbone {name} has no forward_intermediates in timm {timm.__version__}, so its "
            f"features cannot be taken; choose another backbone"
        )
    if weights is not None:
        load_backbone_weights(model, name, weights, in_channels=in_channels)
    return model


def upsampling_steps(image_size: tuple[int, int], grid: tuple[int, ...], most: int) -> int:
    """How many doublings a decoder does, between 1 and ``most``.

    From a ``grid`` (h, w) of spatial latents: those that come nearest to the image's height.
    From a vector, whose grid is (): as many as leave a first feature map of at least 4x4,
    which is the published decoder's at 256 pixels.
    """
    if not grid:
        steps = int(math.log2(max(min(image_size) / 4, 1)))
    else:
        steps = round(math.log2(image_size[0] / grid[0]))
    return min(max(steps, 1), most)
