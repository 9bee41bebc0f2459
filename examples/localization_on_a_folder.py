"""Anomaly localization on a folder of images: train on the normal ones, score, print the table.

    python examples/localization_on_a_folder.py [FOLDER] [--image-size 32] [--steps 300]

FOLDER holds ``train`` (normal images), ``good`` (normal images to test on), ``defective`` and
``masks`` (white on the defects, named as the images in ``defective``). Without FOLDER one is made
in a temporary place: digits of scikit-learn with defects painted on them.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torchvision.utils import save_image

from captum_vae.data import ImageFolder, OneClassDigits, SyntheticDefects
from captum_vae.localization import (
    FeatureDifference,
    LatentAttention,
    MeanImageDifference,
    ReconstructionError,
    benchmark,
)
from captum_vae.losses import ELBO
from captum_vae.models import ConvVAE
from captum_vae.training import Trainer, VAEObjective


def make_folder(folder: Path) -> None:
    """Write images of the digit 3, some of them with a defect and its mask."""
    normal = OneClassDigits("train", digits=[3], image_size=32)
    held_out = OneClassDigits("test", digits=[3], image_size=32)
    for name in ("train", "good", "defective", "masks"):
        (folder / name).mkdir(parents=True)
    for number, sample in enumerate(normal):
        save_image(sample.image, folder / "train" / f"{number:03d}.png")
    for number, sample in enumerate(held_out):
        save_image(sample.image, folder / "good" / f"{number:03d}.png")
    for number, sample in enumerate(SyntheticDefects(held_out, area=(0.01, 0.05), seed=0)):
        save_image(sample.image, folder / "defective" / f"{number:03d}.png")
        save_image(sample.mask.float(), folder / "masks" / f"{number:03d}.png")


def train(normal: ImageFolder, image_size: int, steps: int, out: Path) -> ConvVAE:
    """A small VAE of the normal images."""
    torch.manual_seed(0)
    vae = ConvVAE(16, image_size=image_size, channels=(16, 32), hidden=128)
    objective = VAEObjective(ELBO("optimal_gaussian", warmup_steps=100))
    trainer = Trainer(steps=steps, batch_size=32)
    active = trainer.fit(vae, normal, objective, out=out).active
    print(f"{active.count} of {active.kl.numel()} latent dimensions are active")
    return vae.eval()


def measure(vae: ConvVAE, normal: ImageFolder, test: ImageFolder, layer: str) -> None:
    """Fit five scorers on the normal images, measure them on the test images, print the table."""
    scorers = {
        "reconstruction error": ReconstructionError(vae),
        "mean image": MeanImageDifference(vae),
        "latent attention, as published": LatentAttention(vae, layer),
        "latent attention, from the mean activation": LatentAttention(
            vae, layer, rectifier="abs", order="channelwise", baselines="mean_activation"
        ),
        "its control, without latent weights": FeatureDifference(vae, layer),
    }
    print(benchmark(scorers, normal, test))


def main() -> None:
    """Make or take a folder, train on it, score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder
        if folder is None:
            folder = Path(temporary) / "digits"
            make_folder(folder)
        images = {"image_size": options.image_size, "image_channels": 1}
        normal = ImageFolder(folder / "train", **images)
        test = ImageFolder(folder / "good", folder / "defective", folder / "masks", **images)
        print(f"{folder}: {len(normal)} images to train on, {len(test)} to test on")
        vae = train(normal, options.image_size, options.steps, Path(temporary) / "run")
        measure(vae, normal, test, "encoder.conv1")


if __name__ == "__main__":
    main()
