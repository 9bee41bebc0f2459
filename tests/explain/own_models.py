"""VAEs as users bring them: functions that the command line names by import path."""

import torch
from torch import Tensor, nn

from captum_vae.models import ConvVAE

SIDE = 16


def conv_vae(latent_dims: int = 3) -> ConvVAE:
    """Three dimensions by their bias alone: KL 2, 0.5 and 0 nats on every image."""
    torch.manual_seed(0)
    vae = ConvVAE(latent_dims, image_size=SIDE, channels=(4, 6), hidden=8)
    with torch.no_grad():
        for head in (vae.mean, vae.log_variance):
            last = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
            last.weight.mul_(1e-4)
            last.bias.zero_()
            if head is vae.mean:
                last.bias[:3] = torch.tensor([1.0, 2.0, 0.0])
    return vae


class Tokens(nn.Module):
    """A transformer's shape: 4 x 4 patches as tokens (B, 16, 8), then the mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4)
        self.mix = nn.Linear(8, 8)
        self.mean, self.logvar = nn.Linear(128, 2), nn.Linear(128, 2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.mix(self.patches(x).flatten(2).transpose(1, 2)).relu()
        return self.mean(tokens.flatten(1)), self.logvar(tokens.flatten(1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        return x, mu, logvar


def tokens() -> Tokens:
    torch.manual_seed(0)
    return Tokens()


def to_grid(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, (4, 4))


class TwoTensors(nn.Module):
    """encode returns two latents without names: nothing says which is the posterior's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.head = nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().flatten(1))


def ambiguous() -> TwoTensors:
    model = TwoTensors()
    model(torch.zeros(1, 1, SIDE, SIDE))
    return model


def pythae_vae(steps: int = 8) -> nn.Module:
    """pythae's own VAE with an encoder of its own base class, trained a few steps."""
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 6, 4, 2, 1), nn.Conv2d(6, 8, 4, 2, 1)
            self.embedding, self.log_var = nn.Linear(128, 5), nn.Linear(128, 5)

        def forward(self, x: Tensor) -> ModelOutput:
            features = self.conv2(self.conv1(x).relu()).relu().flatten(1)
            return ModelOutput(
                embedding=self.embedding(features), log_covariance=self.log_var(features)
            )

    torch.manual_seed(0)
    vae = VAE(VAEConfig(input_dim=(1, SIDE, SIDE), latent_dim=5), encoder=Encoder())
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    images = (torch.rand(32, 1, SIDE, SIDE) > 0.7).float()
    for _ in range(steps):
        optimizer.zero_grad()
        vae({"data": images}).loss.backward()
        optimizer.step()
    return vae
