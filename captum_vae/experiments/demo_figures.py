"""The demo's figures: the published maps, the maps relative to normal, single dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_vae.attr import LatentGradCAM, MeanSumGradCAM
from captum_vae.attr.options import Rectifier
from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.models import GaussianVAE
from captum_vae.progress import progress_bar
from captum_vae.report import (
    ColorScale,
    GridRow,
    Picture,
    Strip,
    draw_active_dimensions,
    draw_map_grid,
    save_picture,
)

RECTIFIERS: dict[Rectifier, str] = {
    "relu": "ReLU\n(the paper)",
    "abs": "absolute value\n(authors' code)",
    "sigmoid": "sigmoid\n(a replication)",
}
SHOWN_DIMENSIONS = 6


@dataclass(frozen=True)
class DemoImages:
    """The images to explain.

    Attributes:
        normal_digit: The digit that the VAE was trained on.
        normal: Test images (B, 1, H, W) of that digit.
        other_digits: The digit on each of ``others``.
        others: Test images (B, 1, H, W) of other digits.
    """

    normal_digit: int
    normal: Tensor
    other_digits: tuple[int, ...]
    others: Tensor

    def to(self, device: torch.device) -> DemoImages:
        """The same on another device."""
        return replace(self, normal=self.normal.to(device), others=self.others.to(device))

    @property
    def all(self) -> Tensor:
        """Normal images first, then the others."""
        return torch.cat([self.normal, self.others])

    @property
    def titles(self) -> list[str]:
        """What is on each of :attr:`all`."""
        return [f"{self.normal_digit}, normal"] * len(self.normal) + [
            str(digit) for digit in self.other_digits
        ]


def draw_demo(
    vae: GaussianVAE, layer: str, images: DemoImages, active: ActiveDimensions, folder: Path
) -> dict[str, Picture]:
    """Draw and save every figure.

    Args:
        vae: The trained VAE, in eval mode, on the images' device.
        layer: The layer whose features are explained.
        images: The images to explain.
        active: Which dimensions of the VAE are active, and how much.
        folder: The folder of the PNG files.

    Returns:
        The pictures by name, in the order of the page.
    """
    drawn: dict[str, Callable[[], Picture]] = {
        "reconstruction_baseline": lambda: draw_reconstruction_baseline(vae, layer, images, folder)
    }
    dims = most_informative(active)
    if dims:
        drawn["latent_dimensions"] = lambda: draw_latent_dimensions(
            vae, layer, images, dims, active.kl, folder
        )
    drawn["rectifiers"] = lambda: draw_rectifiers(vae, layer, images, folder)
    drawn["active_dimensions"] = lambda: draw_active(active, folder)
    bar = progress_bar("auto")
    return {name: draw() for name, draw in bar(list(drawn.items()), "figures")}


def draw_active(active: ActiveDimensions, folder: Path) -> Picture:
    """How much each latent dimension is used, as bars."""
    return Picture(
        save_picture(draw_active_dimensions(active), folder / "active_dimensions.png"),
        alt=f"Two bar charts over {active.kl.numel()} latent dimensions, KL to the prior and "
        f"spread of the posterior mean: {active.count} dimensions are active.",
        caption="A dimension without KL, or whose mean does not move, ignores its input; its map "
        "would be noise.",
    )


def draw_rectifiers(vae: GaussianVAE, layer: str, images: DemoImages, folder: Path) -> Picture:
    """Methods 1 and 2 along x, rectifiers along y: Figure 1 of the second replication study."""
    first, second = LatentGradCAM(vae, layer), MeanSumGradCAM(vae, layer)
    shown = list(images.others)
    rows = [GridRow("image", [Strip(shown), Strip(shown)])]
    for rectifier, label in RECTIFIERS.items():
        options: dict[str, Any] = {"rectifier": rectifier, "size": "input"}
        averaged = first.attribute(images.others, aggregate="mean", **options)
        summed = second.attribute(images.others, **options)
        rows.append(GridRow(label, [Strip(shown, list(maps[:, 0])) for maps in (averaged, summed)]))
    titles = [str(digit) for digit in images.other_digits]
    figure = draw_map_grid(
        rows,
        strip_titles=["Method 1: mean over dimensions", "Method 2: sum of dimensions"],
        column_titles=[titles, titles],
        bar_label="attention, within each group of images",
    )
    return Picture(
        save_picture(figure, folder / "rectifiers.png"),
        alt=f"Attention on the digits {', '.join(titles)}: rectifiers ReLU, absolute value and "
        "sigmoid as rows, methods 1 and 2 as columns.",
        caption="Colours run from the lowest to the highest value of the images that stand "
        "together; both numbers are printed under them. The sigmoid turns no attention into 0.5, "
        "so its whole range is narrow.",
    )


def draw_reconstruction_baseline(
    vae: GaussianVAE, layer: str, images: DemoImages, folder: Path
) -> Picture:
    """Method 1 as published and relative to the reconstruction, on normal and other digits."""
    inputs = images.all
    with torch.no_grad():
        reconstructions = vae.reconstruct(inputs)
    shown = list(inputs)
    figure = draw_map_grid(
        [
            GridRow("image", [Strip(shown)]),
            GridRow("reconstruction", [Strip(list(reconstructions))]),
            *method_1_rows(vae, layer, inputs),
        ],
        column_titles=[images.titles],
        bar_label="attention, within each row",
    )
    return Picture(
        save_picture(figure, folder / "reconstruction_baseline.png"),
        alt=f"Columns of digits: two images of the normal digit {images.normal_digit}, then other "
        "digits; under each its reconstruction and two attention maps.",
        caption="Colours run from 0 to the row's highest value, printed under the row. Where the "
        "lowest row stays dark, the VAE takes what it sees for normal.",
    )


def method_1_rows(vae: GaussianVAE, layer: str, images: Tensor) -> list[GridRow]:
    """Method 1 on images (B, 1, H, W): as published, and relative to the reconstruction."""
    cam = LatentGradCAM(vae, layer)
    published = cam.attribute(images, aggregate="mean", size="input")
    relative = cam.attribute(
        images,
        aggregate="mean",
        rectifier="abs",
        order="channelwise",
        baselines="reconstruction",
        size="input",
    )
    return [
        row_from_zero("method 1,\nas published", images, published),
        row_from_zero("method 1,\nrelative to the\nreconstruction", images, relative),
    ]


def row_from_zero(label: str, images: Tensor, maps: Tensor) -> GridRow:
    """Maps (B, 1, H, W) over their images, in colours from 0 to the highest value of the row."""
    return GridRow(label, [Strip(list(images), list(maps[:, 0]), _from_zero(maps))])


def draw_latent_dimensions(
    vae: GaussianVAE,
    layer: str,
    images: DemoImages,
    dims: Sequence[int],
    kl: Tensor,
    folder: Path,
) -> Picture:
    """Method 1 of single dimensions, a column each, all under one scale; ``kl`` is (D,) nats."""
    inputs = torch.cat([images.normal[:1], images.others])
    titles = [images.titles[0], *map(str, images.other_digits)]
    maps = LatentGradCAM(vae, layer).attribute(inputs, target=dims, size="input")
    scale = _from_zero(maps)
    figure = draw_map_grid(
        [
            GridRow(title, [Strip([image]), Strip([image] * len(dims), list(per_dim), scale)])
            for title, image, per_dim in zip(titles, inputs, maps, strict=True)
        ],
        column_titles=[["image"], [f"dim {dim}\n{kl[dim]:.1f} nats" for dim in dims]],
        bar_label="attention, method 1",
    )
    return Picture(
        save_picture(figure, folder / "latent_dimensions.png"),
        alt=f"Digits {', '.join(titles)} as rows, latent dimensions {', '.join(map(str, dims))} "
        "as columns: where each dimension looks.",
        caption=f"The {len(dims)} active dimensions with the highest KL, from left to right, all "
        "under one colour scale.",
    )


def most_informative(active: ActiveDimensions, count: int = SHOWN_DIMENSIONS) -> list[int]:
    """Up to ``count`` active dimensions, highest KL first."""
    order: list[int] = active.kl.argsort(descending=True).tolist()
    return [dim for dim in order if active.active[dim]][:count]


def _from_zero(maps: Tensor) -> ColorScale:
    return ColorScale.of([maps], low=0.0)
