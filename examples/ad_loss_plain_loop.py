"""Attention disentanglement in a training loop of your own, on a VAE of your own.

    python examples/ad_loss_plain_loop.py [--steps 600] [--weight 0.5] [--mode normalised]

Trains a small VAE on the digits of scikit-learn and prints the overlap of its attention maps,
with and without the loss, under the same seed.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from captum_vae.attr import watch_forward
from captum_vae.losses import AttentionDisentanglementLoss


class VAE(nn.Module):
    """Any VAE will do: nothing in it knows of attention."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU()
        )
        self.mu = nn.Linear(16 * 9, 6)
        self.logvar = nn.Linear(16 * 9, 6)
        self.decoder = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the image, mean and log-variance."""
        hidden = self.features(x).flatten(1)
        mu, logvar = self.mu(hidden), self.logvar(hidden)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.decoder(z).reshape(x.shape), mu, logvar


def train(images: Tensor, steps: int, weight: float, mode: str) -> None:
    """Train, and print the losses of the last batch."""
    torch.manual_seed(0)
    model = VAE()
    overlap = AttentionDisentanglementLoss(mode, gate="kl")
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        x = images[torch.randint(len(images), (64,))]
        with watch_forward(model, model.features[2]) as watched:
            logits, mu, logvar = model(x)
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum() / len(x)
        attention = overlap.of_forward(watched, mu, logvar)
        optimizer.zero_grad()
        (nll + kl + weight * attention).backward()
        optimizer.step()
    print(f"weight {weight:4g}: nll {nll:.2f}, KL {kl:.2f}, overlap {attention:.3f}")


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--weight", type=float, default=0.5)
    parser.add_argument("--mode", default="normalised", choices=["normalised", "paper"])
    options = parser.parse_args()
    images = torch.tensor(load_digits().images / 16, dtype=torch.float32)[:, None]
    for weight in (0.0, options.weight):
        train(images, options.steps, weight, options.mode)


if __name__ == "__main__":
    main()
