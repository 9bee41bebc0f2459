"""The contract every VAE of this package keeps: encode, sample, decode, describe itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from captum_vae.checks import check_choice, floating_tensor, whole_number

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
        image_size: Height and width in pixels; one number for square images.
        in_channels: Number of channels of an image.
        output: What the decoder returns. ``"sigmoid"``: intensities in [0, 1].
            ``"logits"``: the same before the sigmoid, for
            ``binary_cross_entropy_with_logits``. ``"linear"``: unbounded intensities,
            for Gaussian likelihoods.
        latent: Shape of z. ``"vector"``: z is (B, D). ``"spatial"``: z is (B, D, h, w), a Gaussian
            at each feature position, computed by a 1x1 convolution.

    Attributes:
        latent_shape: Shape of z without the batch, (D,) or (D, h, w); subclasses set it.

    Raises:
        TypeError: An argument is of another kind; the message names it.
        ValueError: An argument is out of its range; the message names it.
    """

    POSTERIOR: ClassVar[Mapping[str, str]] = {"encode": "[0],[1]", "forward": "[1],[2]"}
    """The words that read the posterior in what a method returns, so that nobody has to guess."""

    DECODES: ClassVar[Literal["images", "features"]] = "images"
    """What ``decode`` gives: images, or the features of a frozen encoder."""

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
        self.latent_dims = whole_number("latent_dims", latent_dims, least=1)
        self.image_size = height_and_width(image_size)
        self.in_channels = whole_number("in_channels", in_channels, least=1)
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
            x: Images (B, C, H, W), floating point, of the size the model was built for.

        Returns:
            Mean and log-variance of q(z|x), each (B, D) or (B, D, h, w).

        Raises:
            TypeError: The images are no floating-point tensor.
            ValueError: They have other channels or another size than the model was built for.
        """
        self._check_images(x)
        hidden = self.encoder(x)
        return self.mean(hidden), self.log_variance(hidden)

    def reparameterize(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """A sample of the posterior in train mode, its mean in eval mode; shaped as ``mean``.

        Raises:
            ValueError: The shapes of mean and log-variance differ.
        """
        if mean.shape != log_variance.shape:
            raise ValueError(
                f"mean has shape {tuple(mean.shape)} and log_variance "
                f"{tuple(log_variance.shape)}; they must be equal"
            )
        if not self.training:
            return mean
        return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Images of a batch of latents.

        Args:
            z: Latents, (B, D) or (B, D, h, w).

        Returns:
            Images (B, C, H, W), on the scale that ``output`` names.

        Raises:
            TypeError: The latents are no floating-point tensor.
            ValueError: They have another shape than ``latent_shape``.
        """
        floating_tensor("z", z, wanted=f"(B, {', '.join(map(str, self.latent_shape))})")
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

    def target(self, x: Tensor) -> Tensor:
        """What the reconstruction of images (B, C, H, W) is compared with: the images themselves.

        Models that decode features of a frozen encoder return those features.
        """
        return x

    def reconstruct(self, x: Tensor) -> Tensor:
        """The image decoded from the posterior mean, in train mode as in eval mode.

        Args:
            x: Images (B, C, H, W), floating point, of the size the model was built for.

        Returns:
            Images (B, C, H, W) on the scale of ``x``: logits are passed through the sigmoid.
        """
        decoded = self.decode(self.encode(x)[0])
        return torch.sigmoid(decoded) if self.output == "logits" else decoded

    def _check_images(self, x: Tensor) -> None:
        floating_tensor("x", x, wanted="(B, C, H, W)")
        if tuple(x.shape[1:]) != (self.in_channels, *self.image_size):
            height, width = self.image_size
            raise ValueError(
                f"x has shape {tuple(x.shape)}; this {type(self).__name__} was built for "
                f"(B, {self.in_channels}, {height}, {width}): resize or convert the images, or "
                f"build the model with their in_channels and image_size"
            )


def constructor_arguments(module: nn.Module) -> dict[str, Any]:
    """The arguments ``module`` was built with, read from its attributes of the same name."""
    names = list(inspect.signature(type(module).__init__).parameters)[1:]
    values = {name: getattr(module, name) for name in names}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def one_of(name: str, value: str, choices: Sequence[str]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        ValueError: It is none of them; the message lists them.
    """
    check_choice(name, value, choices)
    return value


def widths(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Widths of at least one layer, each a whole number of at least 1.

    Raises:
        TypeError: They are no sequence, or one is no whole number.
        ValueError: There is none, or one is below 1.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise TypeError(f"{name}={values!r} must be a list of whole numbers, such as (32, 64)")
    if not values:
        raise ValueError(f"{name} is empty; wanted the width of at least one layer")
    return tuple(whole_number(name, value, least=1) for value in values)


def height_and_width(size: int | Sequence[int], *, name: str = "image_size") -> tuple[int, int]:
    """``size`` as (height, width); one number means a square.

    Args:
        size: What was given.
        name: Name of the argument.

    Raises:
        TypeError: It is neither a whole number nor two of them.
        ValueError: It has another length than two, or a side is below 1.
    """
    if isinstance(size, str | bytes) or not isinstance(size, Sequence):
        side = whole_number(name, size, least=1, hint="wanted one number or (height, width)")
        return side, side
    if len(size) != 2:
        raise ValueError(f"{name} is {size!r}; wanted one number or (height, width)")
    return whole_number(name, size[0], least=1), whole_number(name, size[1], least=1)
