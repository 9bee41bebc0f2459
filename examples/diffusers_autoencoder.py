"""Explain a diffusers AutoencoderKL: which latent channel looks where. Needs diffusers.

    python examples/diffusers_autoencoder.py [FIGURE.png] [--steps 60]

A small one is trained on the digits of scikit-learn for a moment; a large pretrained one is
explained by the same three lines. Its latent is spatial, (B, C, h, w): there is a map per channel,
of its mean over positions. Without FIGURE.png the picture goes to a temporary folder.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from captum_vae import LatentGradCAM
from captum_vae.data import OneClassDigits
from captum_vae.report import GridRow, Strip, draw_map_grid, save_picture


def train(model: AutoencoderKL, images: Tensor, steps: int) -> None:
    """Minimise squared error plus a little KL, with Adam."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(steps):
        batch = images[torch.randint(len(images), (16,))]
        posterior = model.encode(batch).latent_dist
        reconstruction = model.decode(posterior.sample()).sample
        error = F.mse_loss(reconstruction, batch)
        loss = error + 1e-5 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step}: mean squared error {error:.3f}, KL {posterior.kl().mean():.1f}")


def main() -> None:
    """Train, explain, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args()
    figure = options.figure or Path(tempfile.mkdtemp()) / "diffusers_autoencoder.png"

    torch.manual_seed(0)
    digits = OneClassDigits("train", image_size=32)
    images = torch.stack([sample.image for sample in digits])
    model = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
    )
    train(model, images, options.steps)

    model.eval()
    cam = LatentGradCAM(model, "encoder.down_blocks.1")
    maps = cam.attribute(images[:8], rectifier="abs", size="input")  # (8, 4, 32, 32)
    print(cam)
    print(cam.explain_plan(images[:8])[0].reason)

    rows = [GridRow("image", [Strip(list(images[:8]))])]
    rows += [
        GridRow(f"channel {c}", [Strip(list(images[:8]), list(maps[:, c]))])
        for c in range(maps.shape[1])
    ]
    grid = draw_map_grid(rows, bar_label="attention, within each row")
    print("saved", save_picture(grid, figure))


if __name__ == "__main__":
    main()
