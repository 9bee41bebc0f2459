"""A VAE of pythae, trained by pythae's trainer: maps while it trains, and the AD loss in its loss.

    python examples/pythae_training.py [--epochs 2] [--weight 5] [--out pythae_run]

The model's own ``forward`` is watched and its own ``loss_function`` gains a term.
"""

import argparse

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.nn.benchmarks.mnist import Encoder_Conv_VAE_MNIST
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from captum_vae import watch_forward
from captum_vae.data import OneClassDigits
from captum_vae.losses import AttentionDisentanglementLoss
from captum_vae.training import PythaeLatentAttentionCallback

LAYER = "encoder.layers.2"


class DisentangledVAE(VAE):
    """pythae's VAE whose latent dimensions are asked to look at different places."""

    weight = 5.0

    def __init__(self, model_config, encoder=None, decoder=None):
        """Build pythae's model and the loss."""
        super().__init__(model_config, encoder, decoder)
        self.overlap = AttentionDisentanglementLoss()
        self.watched = None

    def forward(self, inputs, **kwargs):
        """The model's forward, with the layer watched in it."""
        try:
            with watch_forward(self, LAYER) as self.watched:
                return super().forward(inputs, **kwargs)
        finally:
            self.watched = None  # pythae copies the best model, and a graph cannot be copied

    def loss_function(self, recon_x, x, mu, log_var, z):
        """The ELBO, and while it trains the overlap of the maps."""
        loss, reconstruction, kl = super().loss_function(recon_x, x, mu, log_var, z)
        if torch.is_grad_enabled():
            loss = loss + self.weight * self.overlap.of_forward(self.watched, mu, log_var)
        return loss, reconstruction, kl


def main() -> None:
    """Train for a moment and say where the maps lie."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--weight", type=float, default=5.0)
    parser.add_argument("--out", default="pythae_run")
    options = parser.parse_args()

    torch.manual_seed(0)
    digits = OneClassDigits("train", digits=[3], image_size=28)
    images = torch.stack([sample.image for sample in digits])
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=6)
    model = DisentangledVAE(config, encoder=Encoder_Conv_VAE_MNIST(config))
    model.weight = options.weight
    settings = BaseTrainerConfig(
        output_dir=options.out, num_epochs=options.epochs, learning_rate=1e-3, no_cuda=True
    )
    callback = PythaeLatentAttentionCallback(LAYER, images[:8])
    data = BaseDataset(images, torch.zeros(len(images)))
    BaseTrainer(model, data, None, settings, [callback]).train()
    print(f"maps and numbers of {callback.monitor.snapshots} epochs in {callback.monitor.out}")


if __name__ == "__main__":
    main()
