"""What is written of an explanation: maps as numbers, overlays, and the page that shows them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_vae.checks import check_choice, whole_number
from captum_vae.explain.explanation import Explanation
from captum_vae.files import holding, replacing, write_json
from captum_vae.provenance import run_record
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

PACKAGES = ("captum-vae", "torch", "captum", "numpy", "matplotlib")
"""Distributions whose versions are written down with the maps."""

_OURS = re.compile(r"(overlays/[^/]+|figures)/[^/]+\.png")
"""The files of an earlier run that a later one may remove, relative to its folder."""


def write_explanation(
    explanation: Explanation,
    folder: str | Path,
    *,
    shown_dims: int = 10,
    shown_images: int = 16,
    scale: Literal["common", "own"] = "common",
) -> Path:
    """Write an explanation as numbers and pictures: maps.npz, explain.json, overlays/, index.html.

    Files of an earlier explanation in the folder are replaced, and those of its pictures that this
    one does not have are removed; nothing else there is touched.

    Args:
        explanation: The maps with their images.
        folder: The folder to write to; it is created.
        shown_dims: Columns of the page at most, those of the highest KL; maps.npz holds all.
        shown_images: Rows of the page at most.
        scale: ``"common"`` puts all maps under one colour scale; ``"own"`` each under its own, from
            0 (or its lowest value) to its highest, which shows faint maps and compares none.

    Returns:
        The page.

    Raises:
        ValueError: An argument is out of range, or another run writes to the folder.
        OSError: The disk is full or refuses; the message names the file.
    """
    shown_dims = whole_number("shown_dims", shown_dims, least=1)
    shown_images = whole_number("shown_images", shown_images, least=1)
    check_choice("scale", scale, ("common", "own"))
    drawing = Drawing(explanation, shown_dims=shown_dims, shown_images=shown_images, scale=scale)
    with holding(folder):
        folder = Path(folder)
        files = [*drawing.overlay_files(), *drawing.grid_files()]
        _remove_pictures(folder, keep=files)
        report = {
            **run_record(explanation.device),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            **explanation.to_dict(),
            "files": files,
        }
        explanation.save(folder / "maps.npz")
        write_json(folder / "explain.json", report)
        drawing.write_overlays(folder)
        return _write_page(folder / "index.html", drawing, report)


def _remove_pictures(folder: Path, keep: Sequence[str]) -> None:
    """Remove the pictures of an earlier run, which its explain.json lists, and empty folders."""
    try:
        listed = json.loads((folder / "explain.json").read_text(encoding="utf-8"))["files"]
        names = [name for name in listed if _OURS.fullmatch(name) and ".." not in name]
    # No earlier run, one of a version that kept no list, or a file of somebody else.
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name in set(names) - set(keep):
        (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty, or gone with another picture
            (folder / name).parent.rmdir()


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
        shown_dims: Columns at most.
        shown_images: Rows at most.
        scale: ``common``, or ``own`` from 0 (or its lowest value) to the largest value of each map.
    """

    def __init__(
        self,
        explanation: Explanation,
        *,
        shown_dims: int,
        shown_images: int,
        scale: Literal["common", "own"],
    ) -> None:
        """Choose what is shown, and the scale."""
        self.explanation = explanation
        self.places = explanation.order[:shown_dims] if explanation.per_dimension else [0]
        self.rows = range(min(shown_images, len(explanation.names)))
        self.titles = column_titles(explanation, self.places)
        self.common_scale = (
            scale_of(explanation.maps[: len(self.rows), self.places]) if scale == "common" else None
        )

    def shown(self, row: int) -> tuple[Tensor, list[Tensor]]:
        """An image (C, H, W) and its maps (H, W), resized bilinearly."""
        image = self.explanation.images[row].image
        maps = self.explanation.maps[row, self.places]
        size = (image.shape[1], image.shape[2])
        resized = F.interpolate(maps[None].float(), size, mode="bilinear", align_corners=False)
        return image, list(resized[0])

    def overlay_files(self) -> list[str]:
        """The names of the overlays, image by image: overlays/0000_name/dim_000.png, ..."""
        return [self._overlay_file(row, place) for row in self.rows for place in self.places]

    def grid_files(self) -> list[str]:
        """The names of the figures, some rows each: figures/maps_0000.png, ..."""
        return [f"figures/maps_{start:04d}.png" for start in self.rows[::ROWS_PER_PICTURE]]

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
        return f"overlays/{row:04d}_{_file_name(self.explanation.names[row])}/{kind}.png"

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
                strips = [Strip([image]), Strip([image] * len(maps), maps, scale)]
                drawn.append(GridRow(_short(self.explanation.names[row]), strips))
            figure = draw_map_grid(
                drawn,
                column_titles=[["image"], self.titles],
                bar_label="attention"
                if self.common_scale
                else "attention, from each map's lowest to highest",
            )
            path = save_picture(figure, folder / name)
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


def _write_page(path: Path, drawing: Drawing, report: Mapping[str, Any]) -> Path:
    """Write the page, with its figures beside it; ``report`` is what explain.json holds."""
    explanation = drawing.explanation
    model = report["model"]
    layer = f", layer {report['layer']}" if report["layer"] else ""
    whose = f"{model['class']} from {model['source']}" if "source" in model else model["class"]
    lead = f"{whose}, by {report['attribution']}{layer}."
    if explanation.meaningless:
        lead = (
            f"The posterior of {whose} is collapsed on these images: no dimension depends on what "
            "it sees, and the maps below are noise."
        )
    return write_page(
        path,
        title="Where each latent dimension is at work",
        lead=lead,
        sections=[
            Section("Maps", _notes(drawing), drawing.grids(path.parent)),
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
            f"{left_out} dimensions of lower {measure} are not shown here (shown_dims shows "
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
        ("model", _model_in_words(model)),
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


def _model_in_words(model: Mapping[str, Any]) -> str:
    if "source" not in model:
        return str(model["class"])
    return " ".join([model["source"], _words(model["options"]), f"({model['class']})"])


def _words(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _file_name(name: str, longest: int = 60) -> str:
    """A name for a folder on any system; the number before it tells long names apart."""
    stem = name.rpartition(".")[0] or name
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
    return safe[-longest:]


def _short(name: str, length: int = 18) -> str:
    """The end of a long name, which tells images apart."""
    return name if len(name) <= length else f"…{name[1 - length :]}"
