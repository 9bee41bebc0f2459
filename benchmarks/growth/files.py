"""Training data of many files: listing them, the data set and its cache, and the first batch."""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.growth.measuring import Growth, Row, in_child, peak_above, up_to
from captum_vae.data import ImageFolder
from captum_vae.data.listing import list_images
from captum_vae.training.batches import BatchOrder, SeededImages, load_batches

IN_A_FOLDER = 5000
STAGES = (
    "listing the folder",
    "the data set: listing, headers, cache reserved",
    "the first batch of 32 images",
    "every image decoded into the cache",
    "digest: every file read once",
)


def measure(smoke: bool, largest: float) -> list[Growth]:
    """Every stage at each number of files."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for files in up_to(largest, (40, 200) if smoke else (1000, 10_000, 100_000, 1_000_000)):
            folder = Path(name) / str(files)
            make_folder(folder, files, side=8, mode="L")
            found = in_child(partial(_stages, folder, files))
            for stage in STAGES:
                rows.append({"series": stage, "size": files, **found[stage]})
                print(rows[-1], flush=True)
    return [
        Growth(
            "Training data in files",
            "files",
            f"Images of 8 x 8 pixels, {IN_A_FOLDER:,} in a folder (hard links: their number is "
            "what counts): the stages of one process one after the other, each stage's "
            "processor seconds and all that the process has held until its end.",
            rows,
            dict.fromkeys(STAGES, 1.0),
        )
    ]


def _stages(folder: Path, files: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    start = time.process_time()

    def ended(stage: str) -> None:
        nonlocal start
        now = time.process_time()
        found[stage] = {"cpu_seconds": round(now - start, 4), "peak_mb": round(peak_above(), 1)}
        start = now

    assert len(list_images(folder).images) == files
    ended(STAGES[0])
    dataset = ImageFolder(folder)
    ended(STAGES[1])
    order = BatchOrder(len(dataset), batch_size=32, seed=0, start=0, stop=1)
    images = SeededImages(dataset, seed=0)
    (batch,) = load_batches(images, order, workers=0, device=torch.device("cpu"))
    assert batch.shape == (32, 1, 8, 8)
    ended(STAGES[2])
    dataset.preload()
    ended(STAGES[3])
    assert len(dataset.digest) == 64
    ended(STAGES[4])
    return found


def make_folder(folder: Path, images: int, *, side: int, mode: str) -> None:
    """A folder of PNG files in folders of 5,000, most of them hard links to one of each folder's.

    A file cannot have as many links as there are images, so each folder has a hundred of its own.
    """
    random = np.random.default_rng(0)
    shape = (side, side) if mode == "L" else (side, side, 3)
    for start in range(0, images, IN_A_FOLDER):
        inside = folder / f"{start // IN_A_FOLDER:04d}"
        inside.mkdir(parents=True)
        for number in range(min(IN_A_FOLDER, images - start)):
            path = inside / f"{number:06d}.png"
            if number < 100:
                Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(path)
            else:
                os.link(inside / f"{number % 100:06d}.png", path)
