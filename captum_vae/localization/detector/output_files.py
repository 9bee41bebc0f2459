"""What is written of a prediction beside the table: masks, maps, JSON, COCO annotations."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_vae.files import reading, replacing
from captum_vae.localization.detector.journal import TABLE, rows_of
from captum_vae.localization.preparation import resize_maps

MapFormat = Literal["none", "tiff", "npz"]
"""How maps are kept: not at all, as float TIFF, or as NumPy archives."""


def place_of(folder: Path, name: str, suffix: str) -> Path:
    """The file of an image's mask or map: the image's name below the folder, with an ending.

    What a name could climb out of the folder by, is left out.
    """
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    parts = [part.replace("\0", "").replace("\\", "_").replace(":", "_") for part in parts]
    path = folder.joinpath(*parts)
    return path.with_name(path.name + suffix)


def upsampled_mask(
    image_map: Tensor, threshold: float, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Map and mask (H, W) at the size of the image as it was given."""
    resized = resize_maps(image_map[None], size)[0]
    return resized, resized >= threshold


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask as PNG: 255 where anomalous, 0 elsewhere."""
    picture = io.BytesIO()
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(picture, "PNG")
    with replacing(path) as file:
        file.write(picture.getvalue())


def write_map(path: Path, image_map: NDArray[np.float32], kind: MapFormat) -> None:
    """Write a map as float TIFF, or as the array ``map`` of a NumPy archive."""
    content = io.BytesIO()
    if kind == "tiff":
        Image.fromarray(np.ascontiguousarray(image_map)).save(content, "TIFF")
    else:
        np.savez_compressed(content, map=image_map)
    with replacing(path) as file:
        file.write(content.getvalue())


def write_json_table(folder: Path, about: Mapping[str, Any]) -> Path:
    """Write ``predictions.json``: what was run, and an entry per row of the table."""
    path = folder / "predictions.json"
    with replacing(path, "w") as file:
        file.write(json.dumps(dict(about), indent=2)[:-2] + ',\n  "images": [')
        for number, row in enumerate(rows_of(folder / TABLE)):
            file.write((",\n    " if number else "\n    ") + json.dumps(entry_of(row)))
        file.write("\n  ]\n}\n")
    return path


def entry_of(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of the table as plain values."""
    if row["verdict"] == "unreadable":
        return {"image": row["image"], "verdict": "unreadable", "reason": row["reason"]}
    return {
        "image": row["image"],
        "score": float(row["score"]),
        "p_value": float(row["p_value"]),
        "verdict": row["verdict"],
        "area": float(row["area"]),
        "boxes": json.loads(row["boxes"]),
        "height": int(row["height"]),
        "width": int(row["width"]),
    }


def write_coco(folder: Path) -> Path:
    """Write ``annotations.json`` in COCO's format: a region per annotation, with its box and RLE.

    Regions are read from the masks, so that memory does not grow with the images.
    """
    path = folder / "annotations.json"
    with replacing(path, "w") as file:
        file.write('{\n"categories": [{"id": 1, "name": "anomaly"}],\n"images": [')
        for number, (key, row) in enumerate(_read_rows(folder)):
            entry = {
                "id": key,
                "file_name": row["image"],
                "height": int(row["height"]),
                "width": int(row["width"]),
            }
            file.write((",\n" if number else "\n") + json.dumps(entry))
        file.write('\n],\n"annotations": [')
        annotation = 0
        for key, row in _read_rows(folder):
            for entry in _regions(folder, row):
                annotation += 1
                entry = {"id": annotation, "image_id": key, **entry}
                file.write((",\n" if annotation > 1 else "\n") + json.dumps(entry))
        file.write("\n]\n}\n")
    return path


def _read_rows(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for key, row in enumerate(rows_of(folder / TABLE), 1):
        if row["verdict"] != "unreadable":
            yield key, row


def _regions(folder: Path, row: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    from scipy import ndimage

    boxes = json.loads(row["boxes"])
    if not boxes:
        return
    path = place_of(folder / "masks", row["image"], ".png")
    with reading(path, "the mask of an image in predictions.csv"):
        with Image.open(path) as picture:
            mask = np.asarray(picture) > 0
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    for x, y, width, height, score in boxes:
        inside = regions[y : y + height, x : x + width]
        # The region that spans the box; others may reach into it.
        numbers = [number for number in np.unique(inside) if number]
        for number in numbers:
            region = regions == number
            rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
            if (columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]) == (
                x,
                y,
                width,
                height,
            ):
                yield {
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": int(region.sum()),
                    "segmentation": {"size": list(mask.shape), "counts": run_lengths(region)},
                    "iscrowd": 0,
                    "score": score,
                }
                regions[region] = 0
                break


def run_lengths(region: NDArray[np.bool_]) -> list[int]:
    """COCO's run lengths of a mask: down the columns, pixels outside and inside in turn."""
    flat = np.r_[False, region.T.ravel()]
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(count) for count in np.diff(np.r_[0, changes, flat.size - 1])]
