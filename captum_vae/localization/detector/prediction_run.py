"""Predicting very many images into a folder: as they come, in constant memory, killed or not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from captum_vae.data.image_bytes import stacked
from captum_vae.data.loading import loaded, naming_dead_loaders
from captum_vae.data.sources import ImageSources
from captum_vae.files import DamagedFileError, reading, write_json
from captum_vae.localization.detector.detector import AnomalyDetector
from captum_vae.localization.detector.journal import (
    TABLE,
    Journal,
    cut_back,
    done,
    join,
    printable,
    progress_file,
    rows_of,
    tables,
)
from captum_vae.localization.detector.output_files import (
    MapFormat,
    place_of,
    upsampled_mask,
    write_coco,
    write_json_table,
    write_map,
    write_mask,
)
from captum_vae.localization.detector.prediction import boxes_of
from captum_vae.processes import process_count, rank
from captum_vae.progress import ProgressBar

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Outputs:
    """What is written of each image beside its row in the table.

    Attributes:
        masks: Masks as PNG, at the size of the image.
        maps: Maps at the detector's size: none, tiff or npz.
        coco: Annotations in COCO's format, from the masks.
    """

    masks: bool = True
    maps: MapFormat = "none"
    coco: bool = False


@dataclass
class Found:
    """What a table of predictions holds.

    Attributes:
        images: Images in the table.
        anomalous: Images called anomalous.
        unreadable: Images that could not be read.
        first_reason: Why the first of these could not.
    """

    images: int = 0
    anomalous: int = 0
    unreadable: int = 0
    first_reason: str = ""


class _Item(NamedTuple):
    """An image as it is read for prediction, or why it could not be."""

    name: str
    pixels: NDArray[np.uint8] | None
    size: tuple[int, int]
    reason: str


class _Reading(Dataset[_Item]):
    """Images by number; what cannot be read is told instead of raised, unless asked."""

    def __init__(self, sources: ImageSources, indices: Sequence[int], on_error: str) -> None:
        self.sources = sources
        self.indices = list(indices)
        self.on_error = on_error

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> _Item:
        index = self.indices[place]
        name = printable(self.sources.name(index))
        try:
            read = self.sources.read(index)
        except (DamagedFileError, FileNotFoundError, PermissionError) as error:
            if self.on_error == "raise":
                raise
            return _Item(name, None, (0, 0), " ".join(str(error).split()))
        return _Item(name, read.pixels, read.size, "")


def predict_into(
    detector: AnomalyDetector,
    sources: ImageSources,
    folder: Path,
    outputs: Outputs,
    *,
    batch_size: int = 16,
    workers: int = 0,
    on_error: Literal["skip", "raise"] = "skip",
    settled: float = 0.0,
    bar: ProgressBar = lambda batches, title: batches,
) -> int:
    """Predict the images that the folder's table does not hold yet.

    Under torch.distributed each process takes its share.

    Args:
        detector: The detector, fitted.
        sources: The images.
        folder: Where the table, masks and maps go.
        outputs: What is written.
        batch_size: Images per pass.
        workers: Processes that read images.
        on_error: "skip" writes a row that says why an image could not be read, "raise" stops.
        settled: Seconds for which a file must not have changed, since it may still be copied.
        bar: Wraps the batches for a progress bar.

    Returns:
        How many images this process predicted.
    """
    own, processes = rank(), process_count()
    before = done(folder)
    if dist.is_initialized():
        # Nobody writes before all have read what was there.
        dist.barrier()
    now = time.time()
    waiting = [
        index
        for index in range(len(sources))
        if printable(sources.name(index)) not in before
        and (not settled or sources.path(index).stat().st_mtime <= now - settled)
    ]
    share = waiting[own::processes]
    if not share:
        return 0
    loader = DataLoader(
        _Reading(sources, share, on_error),
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=list,
    )
    journal = Journal(folder, own, processes)
    try:
        with naming_dead_loaders():
            for items in loaded(bar(loader, "predicting")):
                journal.add(_rows(detector, items, folder, outputs))
    finally:
        journal.close()
    return len(share)


def _rows(
    detector: AnomalyDetector, items: Sequence[_Item], folder: Path, outputs: Outputs
) -> list[dict[str, Any]]:
    """Rows of a batch, whose masks and maps are written first."""
    pixels = [item.pixels for item in items if item.pixels is not None]
    names = [item.name for item in items if item.pixels is not None]
    found: Iterator[Any] = iter(detector.predict_batch(stacked(pixels), names) if pixels else ())
    rows: list[dict[str, Any]] = []
    for item in items:
        if item.pixels is None:
            rows.append(
                dict.fromkeys(("score", "p_value", "area", "boxes", "height", "width"), "")
                | {"image": item.name, "verdict": "unreadable", "reason": item.reason}
            )
            continue
        one = next(found)
        resized, mask = upsampled_mask(one.map, detector.threshold, item.size)
        boxes = boxes_of(mask.numpy(), resized.numpy())
        if outputs.masks or outputs.coco:
            write_mask(place_of(folder / "masks", item.name, ".png"), mask.numpy())
        if outputs.maps != "none":
            path = place_of(folder / "maps", item.name, f".{outputs.maps}")
            write_map(path, one.map.numpy(), outputs.maps)
        rows.append(
            {
                "image": item.name,
                "score": repr(one.score),
                "p_value": repr(one.p_value),
                "verdict": one.verdict,
                "area": repr(one.area),
                "boxes": json.dumps([[b.x, b.y, b.width, b.height, b.score] for b in boxes]),
                "height": item.size[0],
                "width": item.size[1],
                "reason": "",
            }
        )
    return rows


def check_settings(folder: Path, settings: dict[str, Any], *, resume: bool) -> None:
    """Refuse a folder that holds predictions made in another way, and remember how these are made.

    Args:
        folder: The run's folder.
        settings: The detector's digest, and what is written how.
        resume: Whether predictions that are there are kept; otherwise they are removed.

    Raises:
        ValueError: The folder holds other predictions.
    """
    path = folder / SETTINGS
    if not resume:
        for table in tables(folder):
            table.unlink()
            progress_file(table).unlink(missing_ok=True)
    elif path.is_file():
        with reading(path, "settings of captum-vae predict", remedy="use another folder"):
            known = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name in settings if known.get(name) != settings[name]]
        if different:
            told = ", ".join(f"{n} {known.get(n)!r} there, {settings[n]!r} now" for n in different)
            raise ValueError(
                f"{folder} holds predictions made in another way ({told}); choose another folder, "
                "or replace them with resume=never"
            )
    write_json(path, settings)


def finish(folder: Path, sources: ImageSources, outputs: Outputs, about: dict[str, Any]) -> None:
    """Join the parts of several processes and write what is made of the whole table."""
    if tables(folder) != [folder / TABLE]:
        join(folder, {printable(sources.name(i)): i for i in range(len(sources))})
    write_json_table(folder, about)
    if outputs.coco:
        write_coco(folder)


def count_rows(folder: Path) -> Found:
    """What the table of a folder holds."""
    found = Found()
    cut_back(folder / TABLE)
    for row in rows_of(folder / TABLE):
        found.images += 1
        found.anomalous += row["verdict"] == "anomalous"
        if row["verdict"] == "unreadable":
            found.unreadable += 1
            found.first_reason = found.first_reason or row["reason"]
    return found
