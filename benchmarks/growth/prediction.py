"""``captum-vae predict`` over many images: processor seconds and the memory of the process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.growth.files import make_folder
from benchmarks.growth.measuring import Growth, Row, in_child, up_to
from captum_vae import AnomalyDetector

SIDE = 32


def measure(smoke: bool, largest: float) -> list[Growth]:
    """Predict each number of images once, from a folder to a table, masks and a page."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        detector = AnomalyDetector.from_backbone(
            "test_resnet", ["layer1"], image_size=SIDE, pretrained=False
        )
        detector.fit(torch.rand(60, 3, SIDE, SIDE)).save(folder / "detector")
        for images in up_to(largest, (20, 60) if smoke else (1000, 10_000, 100_000)):
            make_folder(folder / f"new{images}", images, side=SIDE, mode="RGB")
            row = {"series": "captum-vae predict", "size": images}
            row |= in_child(partial(_predict, folder, images))
            rows.append(row)
            print(row, flush=True)
    return [
        Growth(
            "Prediction in images",
            "images",
            f"`captum-vae predict` with its defaults over a folder of images of {SIDE} x {SIDE} "
            "pixels (hard links to a hundred files), by a linear VAE of a small encoder's "
            "features: table, a mask for each image, and the page. Memory is all that the process "
            "ever held, PyTorch included.",
            rows,
            {"captum-vae predict": 1.0},
        )
    ]


def _predict(folder: Path, images: int) -> dict[str, Any]:
    out = folder / f"out{images}"
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "captum_vae", "predict"),
            *("detector", f"new{images}", "--out", out.name),
        ],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with open(out / "predictions.csv", "rb") as table:
        rows = sum(1 for _ in table) - 1
    assert rows == images, (rows, images)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(used.ru_maxrss / 2**10, 1),
        "masks": sum(1 for _ in (out / "masks").rglob("*.png")),
    }
