"""A VAE of one's own under Lightning: what it looks at is logged while it trains, and so is a loss.

    python examples/lightning_callback.py [--epochs 2] [--weight 5] [--out lightning_run]

The VAE trains on the digits of scikit-learn. The callback shows each latent dimension's attention
in the trainer's logger; three lines of ``training_step`` add attention disentanglement.
"""

import argparse

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from captum_vae import watch_forward
from captum_vae.data import OneClassDigits
from captum_vae.losses import AttentionDisentanglementLoss
from captum_vae.training import LatentAttentionCallback


class VAE(nn.Module):
    """A small VAE; nothing of captum_vae is in it."""

    def __init__(self, dims: int = 6) -> None:
        """Two convolutions and a head each for mean and log-variance."""
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()
        )
        self.fc_mu, self.fc_logvar = nn.Linear(32 * 49, dims), nn.Linear(32 * 49, dims)
        self.decoder = nn.Sequential(nn.Linear(dims, 128), nn.ReLU(), nn.Linear(128, 784))

    def forward(self, x):
        """Reconstruction, mean and log-variance."""
        hidden = self.encoder(x).flatten(1)
        mu, logvar = self.fc_mu(hidden), self.fc_logvar(hidden)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        return self.decoder(z).sigmoid().reshape(x.shape), mu, logvar


class LitVAE(pl.LightningModule):
    """The VAE as Lightning trains it."""

    def __init__(self, weight: float) -> None:
        """Keep the weight of the overlap, lambda in the paper."""
        super().__init__()
        self.vae, self.weight = VAE(), weight
        self.overlap = AttentionDisentanglementLoss()

    def training_step(self, batch, _):
        """One step: the ELBO, and the overlap of the maps of the very same forward."""
        (x,) = batch
        with watch_forward(self.vae, "encoder.2") as watched:  # 1
            reconstruction, mu, logvar = self.vae(x)
        nll = nn.functional.binary_cross_entropy(reconstruction, x, reduction="sum") / len(x)
        kl = (mu.square() + logvar.exp() - logvar - 1).sum() / (2 * len(x))
        overlap = self.overlap.of_forward(watched, mu, logvar)  # 2
        self.log_dict({"nll": nll, "kl": kl, "overlap": overlap}, prog_bar=True)
        return nll + kl + self.weight * overlap  # 3

    def configure_optimizers(self):
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main() -> None:
    """Train for a moment and say where the maps lie."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--weight", type=float, default=5.0)
    parser.add_argument("--out", default="lightning_run")
    options = parser.parse_args()

    pl.seed_everything(0)
    digits = OneClassDigits("train", digits=list(range(10)), image_size=28)
    images = torch.stack([sample.image for sample in digits])
    callback = LatentAttentionCallback(
        "encoder.2", images[:: len(images) // 8], model="vae", every_n_epochs=1
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        callbacks=[callback],
        logger=CSVLogger(options.out),
        enable_checkpointing=False,
        log_every_n_steps=5,
    )
    loader = DataLoader(TensorDataset(images), batch_size=32, shuffle=True)
    trainer.fit(LitVAE(options.weight), loader)
    print(f"maps and numbers of {callback.monitor.snapshots} epochs in {trainer.log_dir}")


if __name__ == "__main__":
    main()
