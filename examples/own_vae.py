"""Your own VAE: nothing of captum_vae in the model, three lines to explain it.

    python examples/own_vae.py [FIGURE.png]

A plain PyTorch VAE learns the handwritten digits of scikit-learn for a few seconds; then
every latent dimension shows where it looks.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from captum_vae import LatentGradCAM
from captum_vae.report import GridRow, Strip, draw_map_grid, save_picture


class MyVAE(nn.Module):
    """Somebody's VAE: forward gives (reconstruction, mean, log-variance)."""

    def __init__(self, latent_dims: int = 6) -> None:
        """Two convolutions down, two up."""
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.fc_mu = nn.Linear(32 * 4 * 4, latent_dims)
        self.fc_logvar = nn.Linear(32 * 4 * 4, latent_dims)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dims, 32 * 4 * 4),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Images (B, 1, 16, 16)."""
        hidden = self.features(x).flatten(1)
        mu, logvar = self.fc_mu(hidden), self.fc_logvar(hidden)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp() if self.training else mu
        return self.decoder(z), mu, logvar


def train(model: MyVAE, images: torch.Tensor, steps: int = 400) -> None:
    """Minimise the negative ELBO, with Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (64,))]
        reconstruction, mu, logvar = model(batch)
        nll = F.binary_cross_entropy_with_logits(reconstruction, batch, reduction="sum")
        kl = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum()
        optimizer.zero_grad()
        ((nll + kl) / len(batch)).backward()
        optimizer.step()


def main(figure: str = "own_vae.png") -> None:
    """Train, explain, draw."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
    images = F.interpolate(images, size=16, mode="bilinear")
    model = MyVAE()
    train(model, images)

    model.eval()
    cam = LatentGradCAM(model, model.features[2])
    x = images[:8]
    maps = cam.attribute(x, size="input")  # (8, 6, 16, 16): one map per image and dimension

    rows = [GridRow("image", [Strip(list(x))])]
    rows += [
        GridRow(f"dimension {d}", [Strip(list(x), list(maps[:, d]))]) for d in range(maps.shape[1])
    ]
    grid = draw_map_grid(rows, bar_label="attention, within each row")
    print("saved", save_picture(grid, figure))


if __name__ == "__main__":
    main(*sys.argv[1:2])
