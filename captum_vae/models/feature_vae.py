"""A convolutional VAE of a frozen encoder's features, trained as any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from captum_vae.models.base import constructor_arguments
from captum_vae.models.conv import ConvVAE
from captum_vae.models.encoders import Encoder, Layers
from captum_vae.models.feature_space import FeatureSpaceVAE
from captum_vae.models.frozen_features import FeatureOptions, FrozenFeatures, frozen_features


class FeatureVAE(FeatureSpaceVAE):
    r"""Images to features of a frozen encoder to a :class:`ConvVAE` of these feature maps.

    What :class:`LinearFeatureVAE` is with one linear map each way, this is with convolutions. It is
    trained by gradients, with the features as what the reconstruction is compared with: by
    ``captum-vae fit``, or by a :class:`~captum_vae.training.Trainer`. Standardise the features
    first: ``vae.features.standardize(batches)``; ``captum-vae fit`` does.

    Layers: ``features`` (:class:`FrozenFeatures`, with the encoder's own layers in
    ``features.encoder``), then those of :class:`ConvVAE`: ``encoder``, ``mean``, ``log_variance``,
    ``decoder``.

    Args:
        encoder: A module, the name of a timm model or ``package.module:function``; or
            :class:`FrozenFeatures`.
        layers: Layers of that encoder; None takes a timm model's at strides 4, 8 and 16.
        latent_dims: D, the number of latent dimensions.
        channels: Widths of the halving convolutions on the features.
        hidden: Width of the Linear layer between them and the posterior; None leaves it out.
        norm: ``"none"``, or ``"batch"`` for batch normalisation before each ReLU.
        latent: Shape of z: ``"vector"`` or ``"spatial"``.
        **options: Further arguments of :class:`FrozenFeatures`: image_size, in_channels, grid,
            mean, std, pretrained, weights, reshape_transform.

    Raises:
        TypeError: An argument is of another kind.
        FileNotFoundError: There is no such file of weights.
        ValueError: There is no such encoder or layer, an argument is out of range, or the grid is
            too small for that many halvings.
        RuntimeError: The pretrained weights could not be had.

    Example::

        >>> vae = FeatureVAE("test_resnet", ["layer1", "layer2"], image_size=64, latent_dims=8)
        >>> vae.features.standardize([torch.rand(8, 3, 64, 64)])
        >>> reconstruction, mean, log_variance, target = vae(torch.rand(2, 3, 64, 64))
        >>> reconstruction.shape == target.shape
        True
    """

    def __init__(
        self,
        encoder: Encoder | FrozenFeatures,
        layers: Layers = None,
        *,
        latent_dims: int = 32,
        channels: Sequence[int] = (128, 128),
        hidden: int | None = 256,
        norm: str = "none",
        latent: str = "vector",
        **options: Unpack[FeatureOptions],
    ) -> None:
        """Take the encoder and build the layers behind it with PyTorch's initialisation."""
        features = frozen_features(encoder, layers, options)
        super().__init__(features, latent_dims, latent=latent)
        behind = ConvVAE(
            latent_dims,
            image_size=features.grid,
            in_channels=sum(features.channels),
            channels=channels,
            hidden=hidden,
            norm=norm,
            output="linear",
            latent=latent,
        ).to(features.channel_mean)
        self._arguments = {
            name: value
            for name, value in constructor_arguments(behind).items()
            if name not in ("image_size", "in_channels", "output")
        }
        self.latent_shape = behind.latent_shape
        self.encoder = behind.encoder
        self.mean = behind.mean
        self.log_variance = behind.log_variance
        self.decoder = behind.decoder

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable, with no source of weights."""
        return {**self.features.config, **self._arguments}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """What training needs of images (B, C, H, W).

        Returns:
            Reconstructed features (B, K, h, w), posterior mean, log-variance, and the features
            themselves, which the reconstruction is compared with.
        """
        self._check_images(x)
        features = self.features(x)
        mean, log_variance = self.encode_features(features)
        return self.decode(self.reparameterize(mean, log_variance)), mean, log_variance, features
