"""The contract every VAE of this package keeps: encode, sample, decode, describe itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

OUTPUTS = ("sigmoid", "logits", "linear")
LATENTS = ("vector", "spatial")


class GaussianVAE(nn.Module):
    r"""A VAE whose posterior q(z|x) is a diagonal Gaussian.

    Subclasses build four submodules and inherit the rest: ``encoder`` (image to
    hidden features), ``mean`` and ``log_variance`` (hidden features to posterior),
    ``decoder`` (latent to image, its last layer named ``output``).

    Every constructor argument of a subclass is kept as an attribute of the same
    name; :attr:`config` reads them back from there.

    Args:
        latent_dims: D, the number of latent dimensions.
        image_size: height and width in pixels; one number for square images.
        in_channels: channels of the image.
        output: what the decoder returns. ``"sigmoid"``: intensities in [0, 1].
            ``"logits"``: the same before the sigmoid, for
            ``binary_cross_entropy_with_logits``. ``"linear"``: unbounded intensities,
            for Gaussian likelihoods.
        latent: ``"vector"``: z is (B, D). ``"spatial"``: z is (B, D, h, w), a Gaussian
            at each feature position, computed by a 1x1 convolution.

    Attributes:
        latent_shape: shape of z without the batch, (D,) or (D, h, w); subclasses set it.

    Raises:
        ValueError: an argument out of its range; the message names it.
    """

    POSTERIOR: ClassVar[Mapping[str, str]] = {"encode": "[0],[1]", "forward": "[1],[2]"}
    """The words that read the posterior in what a method returns, so that nobody has to guess."""

    encoder: nn.Module
    decoder: nn.Module
    mean: nn.Module
    log_variance: nn.Module
    latent_shape: tuple[int, ...]

    def __init__(
        self,
        latent_dims: int,
        *,
        image_size: int | Sequence[int],
        in_channels: int,
        output: str = "sigmoid",
        latent: str = "vector",
    ) -> None:
        """Check and keep the arguments; the layers are the subclass's."""
        super().__init__()
        self.latent_dims = positive_int("latent_dims", latent_dims)
        self.image_size = height_and_width(image_size)
        self.in_channels = positive_int("in_channels", in_channels)
        self.output = one_of("output", output, OUTPUTS)
        self.latent = one_of("latent", latent, LATENTS)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable.

        ``type(model)(**model.config)``, or ``build_model(type(model).__name__,
        **model.config)``, builds a model that accepts this one's ``state_dict``.
        """
        return constructor_arguments(self)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior of a batch of images.

        Args:
            x: images, (B, C, H, W), floating point, of the size the model was built for.

        Returns:
            Mean and log-variance of q(z|x), each (B, D) or (B, D, h, w).

        Raises:
            ValueError: other channels or another size than the model was built for.
            TypeError: images that are not floating point.
        """
        self._check_images(x)
        hidden = self.encoder(x)
        return self.mean(hidden), self.log_variance(hidden)

    def reparameterize(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """A sample of the posterior in train mode, its mean in eval mode; shaped as ``mean``."""
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Images of a batch of latents.

        Args:
            z: latents, (B, D) or (B, D, h, w).

        Returns:
            (B, C, H, W), on the scale that ``output`` names.

        Raises:
            ValueError: latents of another shape than ``latent_shape``.
        """
        if tuple(z.shape[1:]) != self.latent_shape:
            raise ValueError(
                f"z has shape {tuple(z.shape)}; this {type(self).__name__} decodes "
                f"(B, {', '.join(map(str, self.latent_shape))})"
            )
        reconstruction: Tensor = self.decoder(z)
        return reconstruction

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (B, C, H, W), posterior mean and log-variance of images (B, C, H, W)."""
        mean, log_variance = self.encode(x)
        return self.decode(self.reparameterize(mean, log_variance)), mean, log_variance

    def reconstruct(self, x: Tensor) -> Tensor:
        """The image decoded from the posterior mean, in train mode as in eval mode.

        Args:
            x: images, (B, C, H, W).

        Returns:
            (B, C, H, W) on the scale of ``x``: logits are passed through the sigmoid.
        """
        decoded = self.decode(self.encode(x)[0])
        return torch.sigmoid(decoded) if self.output == "logits" else decoded

    def _check_images(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != (self.in_channels, *self.image_size):
            height, width = self.image_size
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this {type(self).__name__} was built for "
                f"(B, {self.in_channels}, {height}, {width}): resize or convert the images, or "
                f"build the model with their in_channels and image_size"
            )
        if not x.is_floating_point():
            raise TypeError(
                f"x has dtype {x.dtype}; wanted floating point images, such as x.float() / 255"
            )


def constructor_arguments(module: nn.Module) -> dict[str, Any]:
    """The arguments ``module`` was built with, read from its attributes of the same name."""
    names = list(inspect.signature(type(module).__init__).parameters)[1:]
    values = {name: getattr(module, name) for name in names}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def positive_int(name: str, value: int) -> int:
    """``value`` if it is a whole number of at least 1, else a ValueError naming ``name``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; wanted a whole number of at least 1")
    return value


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``, else a ValueError that lists them."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(map(repr, choices))}")
    return value


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """``image_size`` as (height, width) in pixels; one number means a square."""
    sides = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(f"image_size is {image_size!r}; wanted one number or (height, width)")
    return positive_int("image_size", sides[0]), positive_int("image_size", sides[1])
