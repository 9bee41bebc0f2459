"""Maps over images in one line, in a notebook or as a file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import interpolate

from captum_vae.checks import check_choice, floating_tensor, whole_number
from captum_vae.report.color_scale import COLORMAP, ColorScale
from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid
from captum_vae.report.pictures import save_picture

ScaleChoice = Literal["common", "image", "map"]


@dataclass(frozen=True, repr=False)
class Shown:
    """A grid of maps over images; a notebook shows it, and :meth:`save` writes it.

    Attributes:
        figure: The drawn figure.
        caption: What is drawn, and what of it is not.
    """

    figure: Figure
    caption: str

    def save(self, path: str | Path, *, dpi: int = 160) -> Path:
        """Write the grid as PNG, whole or not at all.

        Args:
            path: The file to write, ending in .png.
            dpi: Pixels per inch.

        Raises:
            ValueError: The path has another ending.
            OSError: The file cannot be written.
        """
        return save_picture(self.figure, path, dpi=dpi)

    def _repr_html_(self) -> str:
        """The picture with its caption, for a notebook."""
        content = io.BytesIO()
        self.figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
        picture = base64.b64encode(content.getvalue()).decode()
        caption = html.escape(self.caption)
        return (
            f'<figure style="margin:0"><img alt="{caption}" style="max-width:100%" '
            f'src="data:image/png;base64,{picture}"><figcaption>{caption}</figcaption></figure>'
        )

    def __repr__(self) -> str:
        """The caption, for a terminal, which shows no pictures."""
        return f"{self.caption}; show(...).save('maps.png') writes the picture"


def show(
    maps: Tensor,
    images: Tensor,
    *,
    titles: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    scale: ScaleChoice = "common",
    max_images: int = 8,
    max_maps: int = 10,
    colormap: str = COLORMAP,
    label: str = "attention",
) -> Shown:
    """A row per image: the image, then its maps laid over it.

    Args:
        maps: (B, T, h, w), (B, h, w) or (h, w), at any size; they are resized to the images.
        images: (B, C, H, W), (C, H, W) or (H, W). Values outside [0, 1] are shown from the lowest
            to the highest of the image.
        titles: What stands above the T maps; None numbers them.
        names: What stands beside the B images; None numbers them.
        scale: Which maps share a colour scale: "common" for all, "image" for those of an image, and
            "map" for none, each from its own lowest to highest value.
        max_images: How many images are drawn at most.
        max_maps: How many maps of each are drawn at most.
        colormap: The name of a matplotlib colormap.
        label: What the colours mean.

    Returns:
        The grid. Its caption says how many of the images and maps are drawn.

    Raises:
        TypeError: Maps or images are no tensors of floats.
        ValueError: Shapes do not fit, a word is unknown, or maps hold NaN.

    Example::

        show(LatentGradCAM(vae, "encoder.conv2").attribute(images), images)
    """
    check_choice("scale", scale, get_args(ScaleChoice))
    drawn = _batched("images", images, {2: (0, 0), 3: (0,), 4: ()})
    found = _batched("maps", maps, {2: (0, 0), 3: (1,), 4: ()})
    count, per_image = found.shape[:2]
    if len(drawn) != count:
        raise ValueError(
            f"maps has shape {tuple(maps.shape)} and images {tuple(images.shape)}; wanted maps "
            "(B, T, h, w) of images (B, C, H, W)"
        )
    shown_names = _words("names", names, count, [f"image {b}" for b in range(count)])
    shown_titles = _words("titles", titles, per_image, [f"z{d}" for d in range(per_image)])
    rows_drawn = min(count, whole_number("max_images", max_images, least=1))
    columns = min(per_image, whole_number("max_maps", max_maps, least=1))
    found = interpolate(
        found[:rows_drawn, :columns].float(),
        drawn.shape[2:],
        mode="bilinear",
        align_corners=False,
    )
    common = ColorScale.of([found])
    rows = []
    for b in range(rows_drawn):
        image = _in_unit_range(drawn[b])
        of_image = common if scale == "common" else ColorScale.of([found[b]])
        strips = [Strip([image])]
        if scale == "map":
            strips += [Strip([image], maps=[one]) for one in found[b]]
        else:
            strips.append(Strip([image] * columns, maps=[*found[b]], scale=of_image))
        rows.append(GridRow(shown_names[b], strips))
    above = [[t] for t in shown_titles[:columns]] if scale == "map" else [shown_titles[:columns]]
    figure = draw_map_grid(rows, column_titles=[[""], *above], bar_label=label, colormap=colormap)
    return Shown(
        figure,
        f"{_counted(rows_drawn, count, 'image')}, {_counted(columns, per_image, 'map')} each",
    )


def _batched(name: str, given: Any, missing: dict[int, tuple[int, ...]]) -> Tensor:
    """The tensor with four axes."""
    floating_tensor(name, given)
    values: Tensor = given.detach().cpu()
    if values.dim() not in missing or 0 in values.shape:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}; wanted (B, T, h, w), none of them 0"
        )
    for axis in missing[values.dim()]:
        values = values.unsqueeze(axis)
    return values


def _in_unit_range(image: Tensor) -> Tensor:
    """The image itself, or stretched to [0, 1] where it reaches beyond."""
    low, high = image.min(), image.max()
    if bool(low >= 0) and bool(high <= 1):
        return image
    return (image - low) / torch.where(high > low, high - low, torch.ones_like(high))


def _words(name: str, words: Sequence[str] | None, count: int, default: list[str]) -> list[str]:
    if words is None:
        return default
    if isinstance(words, str) or len(words) != count:
        raise ValueError(f"{name} is {words!r}; wanted {count} of them, one each")
    return [str(word) for word in words]


def _counted(drawn: int, count: int, noun: str) -> str:
    plural = "" if count == 1 else "s"
    return f"{count} {noun}{plural}" if drawn == count else f"{drawn} of {count} {noun}s"
