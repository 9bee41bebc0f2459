"""Attention of a VAE on timm's ResNet18, at four depths from one forward pass.

    python examples/timm_resnet18.py [FIGURE.png] [--steps 30]

Trains on rendered scenes of pedestrians for a moment, then shows where the most informative
latent dimension looks, from the backbone's first layer to its last, on a scene with a vehicle that
training never showed. Without FIGURE.png the picture goes to a temporary folder.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from captum_vae import LatentGradCAM
from captum_vae.data import MovingPedestrians
from captum_vae.losses import ELBO
from captum_vae.models import TimmVAE
from captum_vae.report import GridRow, Strip, draw_map_grid, save_picture
from captum_vae.training import Trainer, VAEObjective

SIZE = 64


def main() -> None:
    """Train, explain, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    figure = options.figure or Path(tempfile.mkdtemp()) / "timm_resnet18.png"

    torch.manual_seed(0)
    vae = TimmVAE(
        "resnet18",
        latent_dims=8,
        image_size=SIZE,
        in_channels=1,
        hidden=None,
        decoder_channels=(128, 64, 32, 16),
    )
    scenes = MovingPedestrians("train", clips=4, frames=20, image_size=SIZE)
    objective = VAEObjective(ELBO("optimal_gaussian", warmup_steps=20))
    with tempfile.TemporaryDirectory() as run:
        result = Trainer(steps=options.steps, batch_size=16).fit(vae, scenes, objective, out=run)
    print(result.active.table())

    vae.eval()
    test = MovingPedestrians("test", clips=1, frames=20, image_size=SIZE)
    x = torch.stack([test[frame].image for frame in (4, 8, 12, 16)]).to(result.device)
    layers = [f"encoder.backbone.layer{depth}" for depth in (1, 2, 3, 4)]
    cam = LatentGradCAM(vae, layers)
    dim = int(result.active.kl.argmax())
    maps = cam.attribute(x, target=dim, rectifier="abs", size="input")  # 4 x (4, 1, 64, 64)
    for layer, plan in zip(layers, cam.explain_plan(x, target=dim), strict=True):
        print(f"{layer}: {plan.path}, since {plan.reason}")

    rows = [GridRow("scene", [Strip(list(x))])]
    rows += [
        GridRow(f"dimension {dim}\n{layer.rpartition('.')[2]}", [Strip(list(x), list(m[:, 0]))])
        for layer, m in zip(layers, maps, strict=True)
    ]
    grid = draw_map_grid(rows, bar_label="attention, within each row")
    print("saved", save_picture(grid, figure))


if __name__ == "__main__":
    main()
