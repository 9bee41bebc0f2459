"""FactorVAE (Kim and Mnih 2018): the dSprites VAE and its total-correlation discriminator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from captum_vae.checks import floating_tensor, real_number, whole_number
from captum_vae.models.base import constructor_arguments
from captum_vae.models.conv import ConvVAE
from captum_vae.models.layers import NamedLayers, named_sequence


class FactorVAE(ConvVAE):
    """The dSprites VAE (Kim and Mnih 2018, appendix; Liu et al. 2020 widen its latent to 32).

    Convolutions 32-32-64-64 (kernel 4, stride 2, padding 1, ReLU), Linear 128, a Linear each
    for mean and log-variance, and the mirrored decoder. The Linear 128 on the 4x4 features is
    the 4x4 convolution of the public implementation that replication b adapted, and the two
    Linear heads are its last 1x1 convolution: the same functions, 254,848 encoder parameters
    at D = 32 either way. Together with the decoder 506,497. PyTorch's default initialisation,
    which replication b needed to reach the published scores.

    Training settings, Table 1 of replication b: Adam at 1e-4 with betas 0.9, 0.999, batch 64,
    binary cross-entropy; ``output="logits"`` suits ``binary_cross_entropy_with_logits``.

    Layers to explain: ``encoder.conv1`` (32x32) to ``encoder.conv4`` (4x4), and their
    ``relu``.

    Args:
        latent_dims: D; 32 in the attention-disentanglement paper, 10 in Kim and Mnih.
        image_size: Height and width in pixels; 64 as published.
        in_channels: Number of channels of an image; 1 as published.
        output: What the decoder returns: ``"sigmoid"``, ``"logits"`` or ``"linear"``.
        latent: Shape of z: ``"vector"``, as published, or ``"spatial"``.

    Example::

        >>> vae = FactorVAE(latent_dims=10, output="logits")
        >>> logits, mean, log_variance = vae(torch.rand(4, 1, 64, 64).round())
    """

    def __init__(
        self,
        latent_dims: int = 32,
        *,
        image_size: int | Sequence[int] = 64,
        in_channels: int = 1,
        output: str = "sigmoid",
        latent: str = "vector",
    ) -> None:
        """Build the layers with PyTorch's default initialisation."""
        super().__init__(
            latent_dims,
            image_size=image_size,
            in_channels=in_channels,
            channels=(32, 32, 64, 64),
            hidden=128,
            output=output,
            latent=latent,
        )


class FactorDiscriminator(nn.Module):
    """Tells latents of q(z) from latents with dimensions permuted over the batch.

    Six hidden layers of 1000 with LeakyReLU (Kim and Mnih 2018, appendix) and two logits:
    column 0 for q(z), column 1 for the product of its marginals, so that column 0 minus
    column 1 estimates the log density ratio whose mean is the total correlation.
    5,040,002 parameters at D = 32. The implementation that replication b adapted has five
    hidden layers (``layers=5``).

    Layers: ``network.fc1, relu1, ..., fc6, relu6, logits``.

    Args:
        latent_dims: D, as in the VAE.
        hidden: Width of the hidden layers.
        layers: Number of hidden layers.
        slope: Slope of LeakyReLU below zero; 0.2 by Table 1 of replication b.

    Raises:
        TypeError: An argument is no number.
        ValueError: A count is below 1, or the slope is not finite.

    Example::

        >>> logits = FactorDiscriminator(latent_dims=10)(torch.randn(64, 10))
        >>> logits.shape
        torch.Size([64, 2])
    """

    def __init__(
        self,
        latent_dims: int = 32,
        *,
        hidden: int = 1000,
        layers: int = 6,
        slope: float = 0.2,
    ) -> None:
        """Build the layers with PyTorch's default initialisation."""
        super().__init__()
        self.latent_dims = whole_number("latent_dims", latent_dims, least=1)
        self.hidden = whole_number("hidden", hidden, least=1)
        self.layers = whole_number("layers", layers, least=1)
        self.slope = real_number("slope", slope)
        named: NamedLayers = {}
        for i in range(1, self.layers + 1):
            named[f"fc{i}"] = nn.Linear(self.latent_dims if i == 1 else self.hidden, self.hidden)
            named[f"relu{i}"] = nn.LeakyReLU(self.slope)
        named["logits"] = nn.Linear(self.hidden, 2)
        self.network = named_sequence(named)

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable."""
        return constructor_arguments(self)

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, 2) of latents (B, D).

        Raises:
            TypeError: The latents are no floating-point tensor.
            ValueError: They have another shape.
        """
        floating_tensor("z", z, wanted=f"(B, {self.latent_dims})")
        if z.ndim != 2 or z.shape[1] != self.latent_dims:
            raise ValueError(
                f"z has shape {tuple(z.shape)}; this FactorDiscriminator reads "
                f"(B, {self.latent_dims}); flatten spatial latents and size it for them"
            )
        logits: Tensor = self.network(z)
        return logits
