"""Latent traversals beside attention maps: what a dimension draws, and where it looks."""

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from captum_vae.attr import LatentGradCAM
from captum_vae.attr.options import Rectifier
from captum_vae.models import GaussianVAE
from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid

VALUES = (-2.0, -4 / 3, -2 / 3, 0.0, 2 / 3, 4 / 3, 2.0)
"""What the dimension is set to, in standard deviations of the prior."""


def draw_traversals(
    model: GaussianVAE,
    layer: str,
    images: Tensor,
    labels: Mapping[int, str],
    *,
    rectifier: Rectifier = "abs",
) -> Figure:
    """One row per latent dimension: the first image under a traversal, then maps of all images.

    Args:
        model: in eval mode, with a vector latent.
        layer: encoder layer of the maps.
        images: (B, C, H, W) on the model's device.
        labels: the dimensions shown, and what stands beside their rows.
        rectifier: of the maps.
    """
    dims = list(labels)
    maps = LatentGradCAM(model, layer).attribute(images, dims, rectifier=rectifier, size="input")
    drawn = traverse(model, images[:1], dims)
    rows = [
        GridRow(
            labels[dim],
            [
                Strip([*drawn[place].cpu()]),
                Strip([*images.cpu()], maps=[*maps[:, place].cpu()]),
            ],
        )
        for place, dim in enumerate(dims)
    ]
    return draw_map_grid(
        rows,
        strip_titles=["traversal of the first image", f"attention at {layer}"],
        column_titles=[[f"{value:+.1f}" for value in VALUES], [""] * len(images)],
        bar_label="attention",
    )


def traverse(model: GaussianVAE, image: Tensor, dims: list[int]) -> Tensor:
    """Decode one image's posterior mean with one dimension at a time set to ``VALUES``.

    Args:
        model: in eval mode, with a vector latent.
        image: (1, C, H, W).
        dims: latent dimensions, T of them.

    Returns:
        (T, len(VALUES), C, H, W) intensities.
    """
    with torch.no_grad():
        mean = model.encode(image)[0]
        codes = mean.repeat(len(dims), len(VALUES), 1)
        for place, dim in enumerate(dims):
            codes[place, :, dim] = torch.tensor(VALUES).to(mean)
        decoded = model.decode(codes.flatten(0, 1))
        if model.output == "logits":
            decoded = decoded.sigmoid()
        return decoded.reshape(len(dims), len(VALUES), *decoded.shape[1:])
