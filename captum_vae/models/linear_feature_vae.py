"""The linear VAE of a frozen encoder's features, fitted without a gradient step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self, Unpack

from captum_vae.checks import real_number, whole_number
from captum_vae.models.encoders import Encoder, Layers
from captum_vae.models.feature_space import FeatureSpaceVAE, first_image_shape, image_batches
from captum_vae.models.frozen_features import FeatureOptions, FrozenFeatures, frozen_features
from captum_vae.models.linear_latent import LinearLatent, fit_linear_latent
from captum_vae.progress import Progress


class LinearFeatureVAE(FeatureSpaceVAE):
    r"""Images to features of a frozen encoder to a linear VAE of them (probabilistic PCA).

    :meth:`fit` makes one of normal images in closed form. It has a posterior as any other VAE has,
    so attribution, active dimensions and scorers take it; its decoder gives features.

    Layers: ``features`` (:class:`FrozenFeatures`, the layer to explain, (B, K, h, w), with the
    encoder's own layers in ``features.encoder``) and ``latent`` (:class:`LinearLatent`).

    Args:
        encoder: A module, the name of a timm model or ``package.module:function``; or
            :class:`FrozenFeatures`.
        layers: Layers of the encoder; None takes a timm model's at strides 4, 8 and 16.
        latent_dims: D; or ``"auto"``, for :meth:`fit_closed_form` to choose.
        **options: Further arguments of :class:`FrozenFeatures`: image_size, in_channels, grid,
            mean, std, pretrained, weights, reshape_transform.

    Raises:
        TypeError: An argument is of another kind.
        FileNotFoundError: There is no such file of weights.
        ValueError: There is no such encoder or layer, or an argument is out of range.
        RuntimeError: The pretrained weights could not be had.

    Example::

        >>> normal = torch.rand(12, 3, 64, 64)
        >>> vae = LinearFeatureVAE.fit("test_resnet", normal, 4, layers=["layer1", "layer2"])
        >>> mean, log_variance = vae.encode(normal)
        >>> vae.explained(vae.features(normal)).shape
        torch.Size([12, 80, 16, 16])
    """

    # The word of GaussianVAE, "vector", gives way to the latent itself.
    latent: LinearLatent  # type: ignore[assignment]

    def __init__(
        self,
        encoder: Encoder | FrozenFeatures,
        layers: Layers = None,
        *,
        latent_dims: int | Literal["auto"] = "auto",
        **options: Unpack[FeatureOptions],
    ) -> None:
        """Take the encoder; the latent is a standard Gaussian until it is fitted."""
        dims = 1
        if latent_dims != "auto":
            dims = whole_number("latent_dims", latent_dims, least=1, hint='or "auto"')
        features = frozen_features(encoder, layers, options)
        super().__init__(features, dims, latent="vector")
        self.latent_shape = (dims,)
        self._dims_wanted: int | Literal["auto"] = latent_dims
        self.latent = LinearLatent(features.feature_shape, dims).to(features.channel_mean)
        self.register_load_state_dict_post_hook(_take_dims)  # type: ignore[no-untyped-call]

    @classmethod
    def fit(
        cls,
        encoder: Encoder | FrozenFeatures,
        images: Any,
        latent_dim: int | Literal["auto"] = "auto",
        *,
        layers: Layers = None,
        memory_gb: float = 2.0,
        batch_size: int = 32,
        progress: Progress = "auto",
        **options: Unpack[FeatureOptions],
    ) -> Self:
        """The linear VAE of normal images' features, in eval mode.

        Args:
            encoder: What the class takes; the images say image_size and in_channels.
            images: Normal images in [0, 1]: one tensor (N, C, H, W), a data set whose items are
                images or begin with one, or a DataLoader or list of such batches.
            latent_dim: D, or ``"auto"`` for the number under which images left out are likeliest;
                see :func:`fit_linear_latent`.
            layers: Layers of the encoder; None takes a timm model's at strides 4, 8 and 16.
            memory_gb: Memory in 10^9 bytes for features; images beyond it pass the encoder again.
            batch_size: Images per pass of the encoder.
            progress: Whether a bar shows: "auto" shows it on a terminal only.
            **options: Further arguments of the class: grid, mean, std, pretrained, weights,
                reshape_transform.

        Raises:
            TypeError: An argument is of another kind.
            ValueError: There are too few images, they vary too little, or an argument does not fit.

        Example::

            vae = LinearFeatureVAE.fit(my_encoder, normal_images, layers=["layer1", "layer2"])
            LatentGradCAM(vae, "features").attribute(images)
        """
        images = list(images) if isinstance(images, Iterator) else images
        if not isinstance(encoder, FrozenFeatures):
            shape = first_image_shape(images)
            stated: FeatureOptions = {"image_size": shape[1:], "in_channels": shape[0]}
            options = {**stated, **options}
        vae = cls(encoder, layers, latent_dims=latent_dim, **options)
        return vae.fit_closed_form(
            images, memory_gb=memory_gb, batch_size=batch_size, progress=progress
        ).eval()

    def fit_closed_form(
        self,
        images: Any,
        *,
        memory_gb: float = 2.0,
        batch_size: int = 32,
        progress: Progress = "auto",
    ) -> Self:
        """Standardise the features on normal images and fit the latent to them, in place.

        Args:
            images: Normal images, as of :meth:`fit`.
            memory_gb: Memory in 10^9 bytes for features.
            batch_size: Images per pass of the encoder.
            progress: Whether a bar shows.

        Returns:
            The model itself.

        Raises:
            TypeError: The images are of another kind.
            ValueError: They are too few, or vary in fewer directions than latent dimensions.
        """
        # Half for the features as the encoder gives them, which are needed twice, and half for fit.
        half = real_number("memory_gb", memory_gb, above=0) / 2
        images = list(images) if isinstance(images, Iterator) else images

        def batches(title: str) -> Iterator[Tensor]:
            return image_batches(
                images, self.features, batch_size=batch_size, progress=progress, title=title
            )

        with torch.no_grad():
            features = _Features(
                lambda: map(self.features.stacked, batches("features")), half * 1e9
            )
            self.features.standardize_stacked(features)
            features.then = self.features.standardized
            self.latent = fit_linear_latent(features, self._dims_wanted, memory_gb=half)
        _take_dims(self)
        return self

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable, with no source of weights."""
        return {**self.features.config, "latent_dims": self._dims_wanted}

    def encode_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, D) of q(z|x) from features (B, K, h, w)."""
        mean, variance = self.latent.encode(features)
        return mean, variance.log()

    def decode(self, z: Tensor) -> Tensor:
        """Features (B, K, h, w) of latents (B, D).

        Raises:
            TypeError: The latents are no floating-point tensor.
            ValueError: They have another shape.
        """
        return self.latent.decode(z)


def _take_dims(vae: LinearFeatureVAE, _keys: object = None) -> None:
    """Say how many latent dimensions there are, after a fit or after a state was loaded."""
    vae.latent_dims = vae.latent.latent_dims
    vae.latent_shape = (vae.latent_dims,)
    vae._dims_wanted = vae.latent_dims


class _Features:
    """Batches of features, to be gone through several times: kept if they fit, else made anew."""

    def __init__(self, make: Callable[[], Iterator[Tensor]], memory: float) -> None:
        """Name what makes the batches, and the bytes to keep them in."""
        self.then: Callable[[Tensor], Tensor] = lambda features: features
        self._make = make
        self._memory = memory
        self._kept: list[Tensor] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """Go through the batches, the first time with an eye to keeping them."""
        if self._kept is not None:
            yield from map(self.then, self._kept)
            return
        found: list[Tensor] | None = []
        size = 0
        for features in self._make():
            size += features.numel() * features.element_size()
            if size > self._memory:
                found = None
            if found is not None:
                found.append(features)
            yield self.then(features)
        self._kept = found
