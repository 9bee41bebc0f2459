"""Convolutional VAEs: the published ones for MNIST and UCSD as settings of one general model."""

from __future__ import annotations

from collections.abc import Sequence

from captum_vae.checks import whole_number
from captum_vae.models.base import GaussianVAE, one_of, widths
from captum_vae.models.layers import (
    conv_layers,
    halved_sizes,
    hidden_layers,
    image_decoder,
    named_sequence,
    posterior_head,
)

NORMS = ("none", "batch")


class ConvVAE(GaussianVAE):
    r"""A convolutional VAE for any image size: halving convolutions and their mirror image.

    Layers, with n the number of ``channels``:

    - ``encoder``: ``conv1, relu1, ..., convn, relun`` (kernel 4, stride 2, padding 1; with
      ``norm1, ..., normn`` between them if ``norm="batch"``), ``flatten, fc1, fc1_relu``.
    - ``mean``, ``log_variance``: Linear.
    - ``decoder``: ``fc1, fc1_relu, fc2, fc2_relu, unflatten, deconv1, relu1, ..., deconvn,
      output``.

    With ``latent="spatial"`` there is no Linear layer: ``mean`` and ``log_variance`` are 1x1
    convolutions on the last feature map and the decoder starts with a 1x1 convolution,
    ``project``.

    Args:
        latent_dims: D, the number of latent dimensions.
        image_size: Height and width in pixels, each at least 2**n.
        in_channels: Number of channels of an image.
        channels: Widths of the feature maps, one for each halving convolution.
        hidden: Width of the Linear layer between features and posterior; None leaves it out.
            A spatial latent has none.
        norm: ``"none"``, as published, or ``"batch"``, batch normalisation before each ReLU.
        output: What the decoder returns: ``"sigmoid"``, ``"logits"`` or ``"linear"``.
        latent: Shape of z: ``"vector"`` or ``"spatial"``.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: An argument is out of its range, or the image is too small for that many
            halvings.

    Example::

        >>> vae = ConvVAE(16, channels=(16, 32, 64), image_size=(158, 238))
        >>> reconstruction, mean, log_variance = vae(torch.rand(2, 1, 158, 238))
        >>> layer = vae.get_submodule("encoder.conv3")
    """

    def __init__(
        self,
        latent_dims: int = 32,
        *,
        image_size: int | Sequence[int] = 64,
        in_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128),
        hidden: int | None = 256,
        norm: str = "none",
        output: str = "sigmoid",
        latent: str = "vector",
    ) -> None:
        """Build the layers with PyTorch's default initialisation."""
        super().__init__(
            latent_dims,
            image_size=image_size,
            in_channels=in_channels,
            output=output,
            latent=latent,
        )
        self.channels = widths("channels", channels)
        self.hidden = None if hidden is None else whole_number("hidden", hidden, least=1)
        self.norm = one_of("norm", norm, NORMS)
        smallest = halved_sizes(self.image_size, len(self.channels))[-1]

        layers = conv_layers(self.in_channels, self.channels, self.norm)
        width = self.channels[-1]
        if self.latent == "spatial":
            self.latent_shape = (self.latent_dims, *smallest)
        else:
            self.latent_shape = (self.latent_dims,)
            linear, width = hidden_layers(width * smallest[0] * smallest[1], self.hidden)
            layers |= linear
        self.encoder = named_sequence(layers)
        self.mean = posterior_head(width, self.latent_dims, self.latent)
        self.log_variance = posterior_head(width, self.latent_dims, self.latent)
        self.decoder = image_decoder(
            self.latent_shape,
            hidden=self.hidden,
            channels=self.channels[::-1],
            out_channels=self.in_channels,
            image_size=self.image_size,
            norm=self.norm,
            output=self.output,
        )


class MNISTVAE(ConvVAE):
    """The one-class MNIST VAE (supplement of Liu et al. 2020, Table 1, and the authors' code).

    Convolutions 64-128 (kernel 4, stride 2, padding 1, ReLU), Linear 1024, a Linear each for
    mean and log-variance, and the mirrored decoder with a sigmoid. 13,216,193 parameters at
    the published setting. Published training: binary cross-entropy, Adam at 1e-3, batch 128,
    100 epochs.

    Layers to explain: ``encoder.conv1``, ``encoder.relu1`` (14x14), ``encoder.conv2``,
    ``encoder.relu2`` (7x7).

    Args:
        latent_dims: D; 32 as published.
        image_size: Height and width in pixels; 28 as published.
        in_channels: Number of channels of an image; 1 as published.
        output: What the decoder returns: ``"sigmoid"``, ``"logits"`` or ``"linear"``.
        latent: Shape of z: ``"vector"``, as published, or ``"spatial"``.

    Example::

        >>> vae = MNISTVAE()
        >>> reconstruction, mean, log_variance = vae(torch.rand(8, 1, 28, 28))
        >>> mean.shape
        torch.Size([8, 32])
    """

    def __init__(
        self,
        latent_dims: int = 32,
        *,
        image_size: int | Sequence[int] = 28,
        in_channels: int = 1,
        output: str = "sigmoid",
        latent: str = "vector",
    ) -> None:
        """Build the layers with PyTorch's default initialisation."""
        super().__init__(
            latent_dims,
            image_size=image_size,
            in_channels=in_channels,
            channels=(64, 128),
            hidden=1024,
            output=output,
            latent=latent,
        )


class UCSDVAE(ConvVAE):
    """The UCSD pedestrian VAE (supplement of Liu et al. 2020, Table 2), at any image size.

    Convolutions 64-128-256 (kernel 4, stride 2, padding 1, ReLU), Linear 1024, a Linear each
    for mean and log-variance, and the mirrored decoder with a sigmoid; 100 pixels become
    50, 25 and 12, and return to exactly 100. 76,948,161 parameters at the published setting.
    Published training: Adam at 1e-4, batch 32, 1000 epochs.

    Layers to explain: ``encoder.conv1`` to ``encoder.conv3``, ``encoder.relu1`` to
    ``encoder.relu3``.

    Args:
        latent_dims: D; 32 as published.
        image_size: Height and width in pixels; 100 as published, UCSD Ped1 itself is
            (158, 238).
        in_channels: Number of channels of an image; 1 as published.
        output: What the decoder returns: ``"sigmoid"``, ``"logits"`` or ``"linear"``.
        latent: Shape of z: ``"vector"``, as published, or ``"spatial"``.

    Example::

        >>> vae = UCSDVAE(image_size=(158, 238))
        >>> vae.decode(torch.zeros(1, 32)).shape
        torch.Size([1, 1, 158, 238])
    """

    def __init__(
        self,
        latent_dims: int = 32,
        *,
        image_size: int | Sequence[int] = 100,
        in_channels: int = 1,
        output: str = "sigmoid",
        latent: str = "vector",
    ) -> None:
        """Build the layers with PyTorch's default initialisation."""
        super().__init__(
            latent_dims,
            image_size=image_size,
            in_channels=in_channels,
            channels=(64, 128, 256),
            hidden=1024,
            output=output,
            latent=latent,
        )
