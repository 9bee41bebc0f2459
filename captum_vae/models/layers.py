"""Named stacks of layers that the convolutional and the timm VAEs share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

NamedLayers = dict[str, nn.Module]


def halved_sizes(size: tuple[int, int], times: int) -> list[tuple[int, int]]:
    """``size`` and what ``times`` convolutions of kernel 4, stride 2, padding 1 make of it.

    Raises:
        ValueError: Nothing would be left of an image that small.
    """
    if min(size) < 2**times:
        raise ValueError(
            f"image_size {size} is too small for {times} halvings; wanted at least {2**times} "
            f"pixels a side, or channels for fewer convolutions"
        )
    return [(size[0] // 2**i, size[1] // 2**i) for i in range(times + 1)]


def conv_layers(in_channels: int, channels: Sequence[int], norm: str) -> NamedLayers:
    """Halving convolutions ``conv1, [norm1,] relu1, conv2, ...``: kernel 4, stride 2, padding 1."""
    layers: NamedLayers = {}
    for i, (before, after) in enumerate(zip((in_channels, *channels), channels, strict=False), 1):
        layers[f"conv{i}"] = nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1)
        if norm == "batch":
            layers[f"norm{i}"] = nn.BatchNorm2d(after)
        layers[f"relu{i}"] = nn.ReLU()
    return layers


def hidden_layers(features: int, hidden: int | None) -> tuple[NamedLayers, int]:
    """Flatten (B, K, h, w), then ``fc1`` and ``fc1_relu`` unless ``hidden`` is None; with width."""
    layers: NamedLayers = {"flatten": nn.Flatten()}
    if hidden is None:
        return layers, features
    return layers | {"fc1": nn.Linear(features, hidden), "fc1_relu": nn.ReLU()}, hidden


def posterior_head(features: int, latent_dims: int, latent: str) -> nn.Module:
    """Hidden features to one posterior parameter: a Linear, or a 1x1 convolution if spatial."""
    if latent == "spatial":
        return nn.Conv2d(features, latent_dims, kernel_size=1)
    return nn.Linear(features, latent_dims)


def image_decoder(
    latent_shape: tuple[int, ...],
    *,
    hidden: int | None,
    channels: Sequence[int],
    out_channels: int,
    image_size: tuple[int, int],
    norm: str,
    output: str,
) -> nn.Sequential:
    """Latents to images of exactly ``image_size``, odd sizes included.

    A vector passes ``fc1`` (unless ``hidden`` is None) and ``fc2`` to the smallest feature
    map, a spatial latent a 1x1 convolution ``project``; then each transposed convolution
    ``deconv1, deconv2, ...`` (kernel 4, stride 2, padding 1) doubles the size, with output
    padding where the encoder's halving dropped a row or a column. Normalisation and ReLU
    follow every one but the last.

    Args:
        latent_shape: Shape of z without the batch, (D,) or (D, h, w).
        hidden: Width between the two Linear layers of a vector latent.
        channels: Widths of the feature maps, from the smallest to the largest map.
        out_channels: Number of channels of an image.
        image_size: Height and width in pixels.
        norm: ``"none"`` or ``"batch"``, batch normalisation before each ReLU.
        output: What to return, one of the names of ``GaussianVAE``.
    """
    sizes = halved_sizes(image_size, len(channels))[::-1]
    layers: NamedLayers = {}
    if len(latent_shape) == 3:
        layers["project"] = nn.Conv2d(latent_shape[0], channels[0], kernel_size=1)
        layers["project_relu"] = nn.ReLU()
        if latent_shape[1:] != sizes[0]:
            layers["resize"] = nn.Upsample(size=sizes[0], mode="bilinear")
    else:
        width = latent_shape[0]
        if hidden is not None:
            layers |= {"fc1": nn.Linear(width, hidden), "fc1_relu": nn.ReLU()}
            width = hidden
        smallest = (channels[0], *sizes[0])
        layers["fc2"] = nn.Linear(width, channels[0] * sizes[0][0] * sizes[0][1])
        layers["fc2_relu"] = nn.ReLU()
        layers["unflatten"] = nn.Unflatten(1, smallest)
    widths = (*channels, out_channels)
    for i in range(1, len(widths)):
        odd = (sizes[i][0] % 2, sizes[i][1] % 2)
        layers[f"deconv{i}"] = nn.ConvTranspose2d(
            widths[i - 1], widths[i], kernel_size=4, stride=2, padding=1, output_padding=odd
        )
        if i < len(channels):
            if norm == "batch":
                layers[f"norm{i}"] = nn.BatchNorm2d(widths[i])
            layers[f"relu{i}"] = nn.ReLU()
    layers["output"] = nn.Sigmoid() if output == "sigmoid" else nn.Identity()
    return named_sequence(layers)


def named_sequence(layers: NamedLayers) -> nn.Sequential:
    """``layers`` in order, addressable by their names."""
    sequence = nn.Sequential()
    for name, layer in layers.items():
        sequence.add_module(name, layer)
    return sequence
