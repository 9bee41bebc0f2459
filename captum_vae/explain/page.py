"""What is written of an explanation: raw maps, overlays, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_vae.data.sample import SampleDataset
from captum_vae.explain.attribution import Explanation
from captum_vae.report import (
    ColorScale,
    GridRow,
    Picture,
    Section,
    Strip,
    Table,
    draw_map_grid,
    overlay,
    save_picture,
    write_page,
)

ROWS_PER_PICTURE = 8
"""Images in one figure, so that column titles stay in sight."""

PIXELS_PER_INCH = 74
"""Of a figure on the page; below that its smallest words cannot be read."""

Scale = Literal["common", "own"]
"""One colour scale for all maps, or each map's own."""


def scale_of(maps: Tensor) -> ColorScale:
    """From 0, or the lowest value if it is negative, to the highest."""
    return ColorScale.of([maps], low=min(0.0, float(maps.min())))


def column_titles(explanation: Explanation, places: Sequence[int], label: str) -> list[str]:
    """Above each map: the dimension, its KL and whether it is collapsed; ``label`` for all in one.

    Args:
        explanation: the maps.
        places: in ``explanation.dims``.
        label: of a single map of all dimensions.
    """
    if not explanation.per_dimension:
        return [label]
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
        explanation: the maps.
        images: what they explain, in [0, 1].
        shown_dims: columns at most.
        shown_images: rows at most.
        scale: ``common``, or ``own`` from 0 (or its lowest value) to the largest value of each map.
        label: of a single map of all dimensions.
    """

    def __init__(
        self,
        explanation: Explanation,
        images: SampleDataset,
        *,
        shown_dims: int,
        shown_images: int,
        scale: Scale,
        label: str,
    ) -> None:
        """Choose what is shown, and the scale."""
        self.explanation = explanation
        self.images = images
        self.places = explanation.order[:shown_dims] if explanation.per_dimension else [0]
        self.rows = range(min(shown_images, len(explanation.names)))
        self.titles = column_titles(explanation, self.places, label)
        self.common_scale = (
            scale_of(explanation.maps[: len(self.rows), self.places]) if scale == "common" else None
        )

    def shown(self, row: int) -> tuple[Tensor, list[Tensor]]:
        """An image (C, H, W) and its maps (H, W), resized bilinearly."""
        image = self.images[row].image
        maps = self.explanation.maps[row, self.places]
        size = (image.shape[1], image.shape[2])
        resized = F.interpolate(maps[None].float(), size, mode="bilinear", align_corners=False)
        return image, list(resized[0])

    def overlays(self, folder: Path) -> list[Path]:
        """Write one PNG for every image and map that is shown; their paths."""
        written = []
        for row in self.rows:
            image, maps = self.shown(row)
            for place, attention in zip(self.places, maps, strict=True):
                name = f"dim_{self.explanation.dims[place]:03d}"
                path = folder / f"{row:04d}_{_file_name(self.explanation.names[row])}"
                path = path / f"{name if self.explanation.per_dimension else 'all'}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                colored = overlay(image, attention, self.common_scale or scale_of(attention))
                pixels = (colored * 255).round().astype(np.uint8)
                Image.fromarray(pixels).save(path)
                written.append(path)
        return written

    def grids(self, folder: Path) -> list[Picture]:
        """Write the figures, some rows each."""
        pictures = []
        for start in range(0, len(self.rows), ROWS_PER_PICTURE):
            rows = self.rows[start : start + ROWS_PER_PICTURE]
            drawn = []
            for row in rows:
                image, maps = self.shown(row)
                scale = self.common_scale
                if scale is None:
                    maps = [scale_of(attention).position(attention) for attention in maps]
                    scale = ColorScale(0, 1)
                strips = [Strip([image]), Strip([image] * len(maps), maps, scale)]
                drawn.append(GridRow(_short(self.explanation.names[row]), strips))
            figure = draw_map_grid(
                drawn,
                column_titles=[["image"], self.titles],
                bar_label="attention"
                if self.common_scale
                else "attention, from each map's lowest to highest",
            )
            path = save_picture(figure, folder / f"maps_{start:04d}.png")
            names = ", ".join(self.explanation.names[row] for row in rows)
            pictures.append(
                Picture(
                    path,
                    alt=f"Images as rows ({names}), maps as columns "
                    f"({', '.join(title.replace(chr(10), ' ') for title in self.titles)}).",
                    caption="",
                    legible_width=round(figure.get_figwidth() * PIXELS_PER_INCH),
                )
            )
        return pictures


def write_explanation_page(path: Path, drawing: Drawing, report: Mapping[str, Any]) -> Path:
    """Write the page, its pictures beside it.

    Args:
        path: of the page.
        drawing: of the maps.
        report: as written to explain.json.
    """
    explanation = drawing.explanation
    model = report["model"]
    layer = f", layer {report['layer']}" if report["layer"] else ""
    lead = f"{model['class']} from {model['source']}, by {report['attribution']}{layer}."
    if explanation.meaningless:
        lead = (
            f"The posterior of {model['class']} from {model['source']} is collapsed on these "
            "images: no dimension depends on what it sees, and the maps below are noise."
        )
    return write_page(
        path,
        title="Where each latent dimension is at work",
        lead=lead,
        sections=[
            Section("Maps", _notes(drawing), drawing.grids(path.parent / "figures")),
            _settings(report),
        ],
        footer=f"Made by captum_vae {report['version']} with Captum "
        f"{report['packages']['captum']}.",
    )


def _notes(drawing: Drawing) -> list[str]:
    """How to read the maps, and what is not shown."""
    explanation, scale = drawing.explanation, drawing.common_scale
    rows, columns = len(drawing.rows), len(drawing.places)
    measure, order = "KL", "by their KL to the prior, averaged over these images"
    if explanation.kl is None:
        measure = "spread"
        order = "by the spread of their mean, since the posterior's log-variance is unknown"
    sentences = [f"One row per image, {_of(rows, len(explanation.names))}."]
    if explanation.per_dimension:
        counted = _of(columns, len(explanation.dims))
        sentences.append(f"One column per latent dimension, {counted}, ordered {order}.")
    else:
        sentences.append(f"One map of {len(explanation.dims)} latent dimensions together.")
    sentences.append(
        f"All maps are under one colour scale, from {scale.low:.4g} to {scale.high:.4g}."
        if scale
        else "Each map is under a colour scale of its own, up to its largest value: brightness "
        "does not compare between maps."
    )
    notes = [" ".join(sentences)]
    left_out = len(explanation.dims) - columns if explanation.per_dimension else 0
    if left_out:
        notes.append(
            f"{left_out} dimensions of lower {measure} are not shown here (--shown_dims shows "
            "more); maps.npz holds all of them."
        )
    gone = explanation.collapsed & set(explanation.dims)
    if gone:
        notes.append(
            f"{len(gone)} of {len(explanation.dims)} dimensions are collapsed on these images "
            f"(active means {explanation.rule}): they ignore what they see, and their maps are "
            "noise."
        )
    return notes


def _of(shown: int, count: int) -> str:
    return f"all {count}" if shown == count else f"{shown} of {count}"


def _settings(report: Mapping[str, Any]) -> Section:
    model, options = report["model"], _words(report["options"])
    machine = report["machine"]
    rows = [
        ("model", " ".join([model["source"], _words(model["options"]), f"({model['class']})"])),
        ("posterior, as read", model["posterior_read_by"]),
        ("layer", report["layer"] or "-"),
        ("attribution", f"{report['attribution']}{f' with {options}' if options else ''}"),
        ("computed as", report["plan"]),
        ("images", f"{report['images']['count']} from {report['images']['path']}"),
        ("size and range", f"{report['images']['shape']}, values {report['images']['range']}"),
        ("versions", ", ".join(f"{name} {v}" for name, v in report["packages"].items())),
        ("commit", str(report["commit"])),
        ("machine", f"{machine['cpu']}, {machine['device']}, Python {machine['python']}"),
    ]
    return Section(
        "Settings",
        ["All of them are in explain.json, the maps as numbers in maps.npz."],
        tables=[Table(("setting", "value"), rows)],
        code=report["command"],
    )


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _file_name(name: str) -> str:
    """A name for a folder on any system."""
    stem = name.rpartition(".")[0] or name
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)


def _short(name: str, length: int = 18) -> str:
    """The end of a long name, which tells images apart."""
    return name if len(name) <= length else f"…{name[1 - length :]}"
