"""The still pictures of an explanation: overlays as files, and grids for paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_vae.explain.explanation import Explanation
from captum_vae.files import replacing
from captum_vae.report import (
    ColorScale,
    GridRow,
    Picture,
    Strip,
    draw_map_grid,
    overlay,
    save_picture,
)

FAINT = 0.25
"""A map that stays below this share of the scale is drawn in its darkest colours."""

ROWS_PER_PICTURE = 5
"""Images in one figure, so that column titles stay in sight."""


def scale_of(maps: Tensor) -> ColorScale:
    """From 0, or the lowest value if it is negative, to the highest."""
    return ColorScale.of([maps], low=min(0.0, float(maps.min())))


def column_titles(explanation: Explanation, places: Sequence[int]) -> list[str]:
    """The text above each map: the dimension, its KL and whether it is collapsed.

    Args:
        explanation: The maps; of a single map for all dimensions, the attribution is the title.
        places: Places in ``explanation.dims``.
    """
    if not explanation.per_dimension:
        return [explanation.settings["attribution"]]
    titles = []
    for place in places:
        dim = explanation.dims[place]
        used = float(explanation.usage[dim])
        state = f"std {used:.2f}" if explanation.kl is None else f"{used:.2f} nats"
        titles.append(f"dim {dim}\n{'collapsed' if dim in explanation.collapsed else state}")
    return titles


class Drawing:
    """The pictures of an explanation, all under one scale.

    Args:
        explanation: The maps with their images.
        layer: The layer whose maps are drawn, as ``explanation.layer_maps`` names it.
        shown_dims: Columns at most.
        shown_images: Rows at most.
        scale: ``common``, or ``own`` from 0 (or its lowest value) to the largest value of each map.
    """

    def __init__(
        self,
        explanation: Explanation,
        layer: str,
        *,
        shown_dims: int,
        shown_images: int,
        scale: Literal["common", "own"],
    ) -> None:
        """Choose what is shown, and the scale."""
        self.explanation = explanation
        self.layer = layer
        self.maps = explanation.layer_maps[layer]
        self._several = len(explanation.layer_maps) > 1
        self.places = explanation.order[:shown_dims] if explanation.per_dimension else [0]
        self.rows = range(min(shown_images, len(explanation.names)))
        self.titles = column_titles(explanation, self.places)
        self.common_scale = (
            scale_of(self.maps[: len(self.rows), self.places]) if scale == "common" else None
        )

    @property
    def hidden(self) -> list[tuple[int, float]]:
        """Dimensions drawn too faintly to be seen under the common scale: (dimension, share)."""
        if self.common_scale is None or not self.explanation.per_dimension:
            return []
        low, high = self.common_scale.low, self.common_scale.high
        highest = self.maps[: len(self.rows), self.places].amax((0, 2, 3)).tolist()
        found = [
            (self.explanation.dims[place], (value - low) / (high - low) if high > low else 1.0)
            for place, value in zip(self.places, highest, strict=True)
        ]
        return [(dim, share) for dim, share in found if share < FAINT]

    def shown(self, row: int) -> tuple[Tensor, list[Tensor]]:
        """An image (C, H, W) and its maps (H, W), resized bilinearly."""
        image = self.explanation.images[row].image
        maps = self.maps[row, self.places]
        size = (image.shape[1], image.shape[2])
        resized = F.interpolate(maps[None].float(), size, mode="bilinear", align_corners=False)
        return image, list(resized[0])

    def _reconstruction(self, image: Tensor) -> list[Tensor]:
        """The model's reconstruction of an image; empty where it gives none."""
        decoded = self.explanation.decoded
        made = None if decoded is None else decoded.reconstructions(image[None])
        return [] if made is None else [made[0]]

    def overlay_files(self) -> list[str]:
        """The names of the overlays, image by image: overlays/0000_name/dim_000.png, ..."""
        return [self._overlay_file(row, place) for row in self.rows for place in self.places]

    def grid_files(self) -> list[str]:
        """The names of the figures, some rows each: figures/maps_0000.png, ..."""
        of = f"{_file_name(self.layer + '.')}_" if self._several else ""
        return [f"figures/maps_{of}{start:04d}.png" for start in self.rows[::ROWS_PER_PICTURE]]

    def write_overlays(self, folder: Path) -> None:
        """Write one PNG for every image and map that is shown."""
        for row in self.rows:
            image, maps = self.shown(row)
            for place, attention in zip(self.places, maps, strict=True):
                colored = overlay(image, attention, self.common_scale or scale_of(attention))
                pixels = (colored * 255).round().astype(np.uint8)
                with replacing(folder / self._overlay_file(row, place)) as file:
                    Image.fromarray(pixels).save(file, format="PNG")

    def _overlay_file(self, row: int, place: int) -> str:
        dim = f"dim_{self.explanation.dims[place]:03d}"
        kind = dim if self.explanation.per_dimension else "all"
        of = f"{_file_name(self.layer + '.')}_" if self._several else ""
        return f"overlays/{row:04d}_{_file_name(self.explanation.names[row])}/{of}{kind}.png"

    def grids(self, folder: Path) -> list[Picture]:
        """Write the figures, some rows each."""
        pictures = []
        for name, start in zip(self.grid_files(), self.rows[::ROWS_PER_PICTURE], strict=True):
            rows = self.rows[start : start + ROWS_PER_PICTURE]
            drawn = []
            for row in rows:
                image, maps = self.shown(row)
                scale = self.common_scale
                if scale is None:
                    maps = [scale_of(attention).position(attention) for attention in maps]
                    scale = ColorScale(0, 1)
                first = [image, *self._reconstruction(image)]
                drawn += [
                    GridRow(
                        _short(self.explanation.names[row]),
                        [Strip(first), Strip([image] * len(maps), maps, scale)],
                    ),
                    GridRow(
                        "heat maps",
                        [Strip([None] * len(first)), Strip([None] * len(maps), maps, scale)],
                    ),
                ]
            figure = draw_map_grid(
                drawn,
                column_titles=[["image", "reconstruction"][: len(first)], self.titles],
                bar_label="attention"
                if self.common_scale
                else "attention, from each map's lowest to highest",
            )
            path = save_picture(figure, folder / name)
            names = ", ".join(self.explanation.names[row] for row in rows)
            pictures.append(
                Picture(
                    path,
                    alt=f"Images as rows ({names}), each above its heat maps; maps as columns "
                    f"({', '.join(title.replace(chr(10), ' ') for title in self.titles)}).",
                    caption="",
                )
            )
        return pictures


def _file_name(name: str, longest: int = 60) -> str:
    """A name for a folder on any system; the number before it tells long names apart."""
    stem = name.rpartition(".")[0] or name
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
    return safe[-longest:]


def _short(name: str, length: int = 18) -> str:
    """The end of a long name, which tells images apart."""
    return name if len(name) <= length else f"…{name[1 - length :]}"
