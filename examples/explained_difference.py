"""A difference from normal is what a linear VAE explains of it plus what it does not.

    python examples/explained_difference.py [--weights lite0.safetensors] [--out FOLDER]

Writes explained_digits.png and explained_latents.png: handwritten digits of scikit-learn, whose
pixels are the features of a linear VAE that knows the zeros alone. With a local file of weights for
timm's tf_efficientnet_lite0 (python -m benchmarks.pretrained writes one), explained_photograph.png
as well: views of one photograph as the camera moves and the light changes, one of them damaged.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits, load_sample_image
from torch import Tensor, nn
from torch.nn import functional as F

from captum_vae import LatentGradCAM
from captum_vae.attr import MeanActivation
from captum_vae.models import FrozenFeatures, LinearFeatureVAE
from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid

COLUMNS = ["difference", "explained", "unexplained"]


def split(vae: LinearFeatureVAE, normal: Tensor, images: Tensor) -> dict[str, Tensor]:
    """The three terms of the identity at every place, in units of the noise s2, (B, h, w) each.

    ``explained`` is latent attention in the KL metric, from the gradients that LatentGradCAM takes:
    sum_d (e_d . D / sigma_d) (e_d * D / sigma_d), summed over channels. Its sum over places is the
    sum over d of (e_d . D / sigma_d)^2. ``unexplained`` is D * (A - explained A) / s2, whose sum is
    the Mahalanobis distance D' C^-1 D.
    """
    cam = LatentGradCAM(vae, "features")
    mean = MeanActivation().fit(cam, normal.split(32))
    with torch.no_grad():
        features = vae.features(images)
        variance = vae.encode(images)[1].exp()[:, :, None, None]
    maps = cam.attribute(images, weighting="elementwise", rectifier="none", baselines=mean)
    difference = features - mean.features[0]
    unexplained = (difference * (features - vae.explained(features))).sum(1) / vae.latent.noise
    return {
        "difference": difference.square().sum(1) / vae.latent.noise,
        "explained": (maps.sum((2, 3), keepdim=True) * maps / variance).sum(1),
        "unexplained": unexplained.detach(),
    }


def draw(
    vae: LinearFeatureVAE, normal: Tensor, images: Tensor, words: list[str], path: Path
) -> None:
    """Draw images beside the three terms, a row each, with their sums, which add up too."""
    terms = split(vae, normal, images)
    gap = (terms["difference"] - terms["explained"] - terms["unexplained"]).abs().max()
    largest = terms["difference"].max()
    print(f"{path.name}: D = {vae.latent_dims}; the terms add up to {gap / largest:.0e} of a pixel")
    size = (128, 128)
    rows = []
    for place, word in enumerate(words):
        shown = F.interpolate(images[place][None].float(), size)[0]
        maps = [
            F.interpolate(terms[name][place][None, None].float(), size)[0, 0] for name in COLUMNS
        ]
        total, explained, rest = (float(terms[name][place].sum()) for name in COLUMNS)
        label = f"{word}\n{total:.0f} =\n{explained:.0f} + {rest:.0f}"
        rows.append(GridRow(label, [Strip([shown]), Strip([None] * 3, maps=maps)]))
    figure = draw_map_grid(
        rows,
        strip_titles=["image", ""],
        column_titles=[[""], COLUMNS],
        bar_label="squared difference / noise",
    )
    figure.savefig(path, dpi=110)


def digits(folder: Path) -> None:
    """Zeros are normal: what is explained of a digit is how zeros differ among each other."""
    data = load_digits()
    images = torch.from_numpy(data.images)[:, None] / 16
    of = {digit: images[torch.from_numpy(data.target) == digit] for digit in range(10)}
    normal, held_aside = of[0][:-2], of[0][-2:]
    # The features of a digit are its pixels themselves.
    pixels = FrozenFeatures(nn.Sequential(nn.Identity()), "0", image_size=8, in_channels=1)
    vae = LinearFeatureVAE.fit(pixels.double(), normal, latent_dim=6)
    shown = torch.cat([held_aside, of[6][:1], of[8][:1], of[4][:1]])
    words = ["zero", "another zero", "six", "eight", "four"]
    draw(vae, normal, shown, words, folder / "explained_digits.png")
    draw_latents(vae, of[0], folder / "explained_latents.png")


def draw_latents(vae: LinearFeatureVAE, images: Tensor, path: Path) -> None:
    """Draw what each principal latent writes (a walk along it) and what it reads (attention)."""
    cam = LatentGradCAM(vae, "features")
    mean = MeanActivation().fit(cam, images.split(32))
    codes = vae.encode(images)[0]
    size, rows = (128, 128), []
    for dim in range(vae.latent_dims):
        walk = torch.zeros(5, vae.latent_dims).double()
        walk[:, dim] = torch.linspace(-2, 2, 5)
        written = vae.decode(walk) * vae.features.channel_std + vae.features.channel_mean
        extreme = images[codes[:, dim].argmax()][None]
        read = cam.attribute(
            extreme, dim, weighting="elementwise", rectifier="none", baselines=mean
        )
        share = float(vae.latent.eigenvalues[dim] / vae.latent.eigenvalues.sum())
        strips = [
            Strip(list(F.interpolate(written.clamp(0, 1), size).float())),
            Strip([F.interpolate(extreme, size)[0].float()]),
            Strip([None], [F.interpolate(read, size)[0, 0].float()]),
        ]
        rows.append(GridRow(f"latent {dim}\n{share:.0%} of what\nis explained", strips))
    figure = draw_map_grid(
        rows,
        strip_titles=["decoded at -2 to 2", "highest", "read there"],
        bar_label="gradient x difference",
    )
    figure.savefig(path, dpi=110)


def views(photograph: Tensor, count: int, *, seed: int, side: int = 192) -> Tensor:
    """Views of a photograph (3, H, W): moved by up to 12 pixels, in light of up to 15% more."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        top, left = torch.randint(0, 25, (2,), generator=generator).tolist()
        light = 0.85 + 0.3 * float(torch.rand((), generator=generator))
        view = photograph[:, 100 + top : 100 + top + side, 200 + left : 200 + left + side]
        found.append((view * light).clamp(0, 1))
    return torch.stack(found)


def photograph(folder: Path, weights: str) -> None:
    """Views of a photograph are normal; one more is damaged by a piece of another photograph."""
    flower, china = (
        torch.from_numpy(load_sample_image(name).copy()).permute(2, 0, 1) / 255
        for name in ("flower.jpg", "china.jpg")
    )
    normal, shown = views(flower, 100, seed=0), views(flower, 3, seed=1)
    shown[1, :, 60:84, 90:114] = china[:, 150:174, 300:324]
    shown[2, :, 120:123, 30:110] *= 0.3
    vae = LinearFeatureVAE.fit("tf_efficientnet_lite0", normal, weights=weights)
    words = ["another view", "a patch", "a scratch"]
    draw(vae, normal, shown, words, folder / "explained_photograph.png")


def main() -> None:
    """Write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="file of weights of tf_efficientnet_lite0")
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    digits(options.out)
    if options.weights:
        photograph(options.out, options.weights)


if __name__ == "__main__":
    main()
