"""Attention disentanglement under Lightning Fabric: FactorVAE's encoder and decoder on dSprites.

    python examples/ad_loss_fabric.py [--steps 30]
    torchrun --nproc-per-node 2 examples/ad_loss_fabric.py

The layer is watched in the wrapped model's own forward, and its gradients are averaged over
processes as those of any loss.
"""

import argparse
import os

import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

from captum_vae.attr import watch_forward
from captum_vae.data import DSprites
from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.models import FactorVAE


def main() -> None:
    """Train for a moment and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--weight", type=float, default=20.0)
    parser.add_argument("--accelerator", default="auto")
    options = parser.parse_args()

    fabric = Fabric(
        accelerator=options.accelerator, devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    )
    fabric.launch()
    fabric.seed_everything(0)
    vae = FactorVAE(10, output="logits")
    model, optimizer = fabric.setup(vae, torch.optim.Adam(vae.parameters(), lr=1e-3))
    elbo = ELBO("bernoulli", scale="logits")
    overlap = AttentionDisentanglementLoss("normalised")
    loader = fabric.setup_dataloaders(
        DataLoader(DSprites(), batch_size=options.batch_size, shuffle=True)
    )
    for step, (images, _) in zip(range(options.steps), loader, strict=False):
        with watch_forward(model, vae.encoder.conv4) as watched:
            logits, mean, log_variance = model(images)
        terms = elbo(logits, images, mean, log_variance)
        attention = overlap.of_forward(watched, mean, log_variance)
        optimizer.zero_grad()
        fabric.backward(terms["loss"] + options.weight * attention)
        optimizer.step()
        if step % 10 == 0 or step == options.steps - 1:
            fabric.print(
                f"step {step}: nll {terms['nll']:.1f}, KL {terms['kl']:.2f}, "
                f"attention overlap {attention:.3f}"
            )


if __name__ == "__main__":
    main()
