"""Time and memory of fitting a linear VAE of features, and how both grow.

    python -m benchmarks.bench_linear_latent --out docs/results/linear_latent_cpu.json \
        [--parts bottle,growth,streamed,memory] [--weights lite0.safetensors]

``bottle`` takes the 209 normal images of MVTec AD bottle in the folder CAPTUM_VAE_DATA at 256
pixels through EfficientNet-Lite0 with ImageNet weights (``python -m benchmarks.pretrained`` writes
the file) and fits, with D given and chosen. ``growth`` varies the number N of images, the side of
the grid and D one at a time on drawn features, and fits a slope to the logarithms: seconds grow as
the variable to that power. ``streamed`` compares what is explained of new images by a fit within a
quarter of the memory with that of the exact one. ``memory`` streams 2,500 and 5,000 images, each
count in a process of its own, and says by how much the process grew above what drawing takes; it
fails above ``--limit-gb``. A file that another call on the same commit wrote keeps its other parts.
Seconds are processor seconds of one thread.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.pairing import timed
from captum_vae.data import MVTec
from captum_vae.files import write_json
from captum_vae.models import FrozenFeatures, fit_linear_latent
from captum_vae.provenance import run_record

CHANNELS, GRID, IMAGES, DIMS = 176, 32, 256, 32
"""What is not varied: the features of EfficientNet-Lite0 at strides 4, 8 and 16 of 256 pixels."""


class Drawn:
    """Batches of features (B, K, g, g): 64 smooth directions of falling variance, and noise."""

    def __init__(
        self, images: int, *, channels: int = CHANNELS, grid: int = GRID, seed: int = 0
    ) -> None:
        self.images, self.channels, self.grid, self.seed = images, channels, grid, seed
        generator = torch.Generator().manual_seed(1)
        shape = (64, channels, max(grid // 4, 2), max(grid // 4, 2))
        coarse = torch.randn(shape, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, (grid, grid), mode="bilinear")
        scales = torch.arange(1, 65, dtype=torch.float32) ** -0.7
        self.directions = scales[:, None] * smooth.flatten(1)

    def __iter__(self) -> Iterator[Tensor]:
        """Draw them, the same every time."""
        generator = torch.Generator().manual_seed(self.seed + 2)
        for start in range(0, self.images, 32):
            count = min(32, self.images - start)
            codes = torch.randn(count, 64, generator=generator)
            noise = torch.randn(count, self.directions.shape[1], generator=generator)
            features = codes @ self.directions + 0.5 * noise
            yield features.unflatten(1, (self.channels, self.grid, self.grid))


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    return statistics.median(timed(call, clock="cpu") for _ in range(repeats))


def bottle(weights: str) -> dict[str, Any]:
    root = os.environ.get("CAPTUM_VAE_DATA")
    if not root:
        raise SystemExit("set CAPTUM_VAE_DATA to a folder with mvtec_ad/bottle")
    normal = MVTec(Path(root) / "mvtec_ad", "bottle", "train", image_size=256)
    images = torch.stack([normal[place].image for place in range(len(normal))])
    features = FrozenFeatures("tf_efficientnet_lite0", image_size=256, weights=weights)
    stacked: list[Tensor] = []

    def encode() -> None:
        stacked[:] = [features.stacked(batch) for batch in images.split(32)]

    with torch.no_grad():
        encoding = seconds(encode, repeats=1)
        standardising = seconds(lambda: features.standardize_stacked(stacked))
        batches = [features.standardized(found) for found in stacked]
    chosen = fit_linear_latent(batches).latent_dims
    return {
        "images": len(images),
        "features": list(features.feature_shape),
        "seconds": {
            "features": encoding,
            "standardize": standardising,
            "fit, D = 32": seconds(lambda: fit_linear_latent(batches, 32)),
            "fit, D chosen": seconds(lambda: fit_linear_latent(batches)),
        },
        "chosen": chosen,
    }


def growth() -> dict[str, Any]:
    found = {}
    for name, values, fixed in (
        ("images", (64, 128, 256, 512), {}),
        ("grid", (8, 16, 32, 64), {"images": 64}),
        ("dims", (8, 16, 32, 64), {"images": 128}),
    ):
        rows = []
        for value in values:
            at = {"images": IMAGES, "grid": GRID, "dims": DIMS, **fixed, name: value}
            batches = list(Drawn(at["images"], grid=at["grid"]))
            took = seconds(lambda b=batches, at=at: fit_linear_latent(b, at["dims"], memory_gb=2))
            rows.append({**at, "seconds": took})
        logs = np.log([[row[name], row["seconds"]] for row in rows])
        last = logs[-2:]
        found[name] = {
            "rows": rows,
            "slope": float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]),
            "slope_of_the_last_two": float(np.diff(last[:, 1])[0] / np.diff(last[:, 0])[0]),
        }
    return found


def streamed() -> dict[str, Any]:
    options = {"channels": 32, "grid": 16}
    batches, new = Drawn(1024, **options), torch.cat(list(Drawn(64, **options, seed=9)))
    size = new[0].numel() * 4
    rows = []
    for kept in (1024, 256, 128):
        latent = fit_linear_latent(batches, DIMS, memory_gb=kept * size / 1e9)
        residual = (new - latent.explained(new)).square().sum()
        share = 1 - residual / (new - latent.mean).square().sum()
        rows.append({"images": 1024, "kept": kept, "explained_of_new_images": float(share)})
    return {"dims": DIMS, "rows": rows}


def memory(limit: float) -> dict[str, Any]:
    rows = []
    for images in (2500, 5000):
        command = [sys.executable, "-m", "benchmarks.bench_linear_latent", "--images", str(images)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout))
    largest = max(row["growth_gb"] for row in rows)
    if largest > limit:
        raise SystemExit(f"the process grew by {largest:.2f} GB, more than {limit} GB")
    return {"memory_gb": 0.5, "limit_gb": limit, "features": [CHANNELS, GRID, GRID], "rows": rows}


def one_stream(images: int) -> None:
    """Fit in this process and print by how much it grew."""
    drawn = Drawn(images)
    for _ in zip(range(2), drawn, strict=False):
        pass
    before = _peak()
    start = time.process_time()
    for _ in zip(range(20), drawn, strict=False):
        pass
    drawing = (time.process_time() - start) * images / (20 * 32)
    start = time.process_time()
    fit_linear_latent(drawn, DIMS, memory_gb=0.5)
    took = time.process_time() - start - drawing
    all_features = images * CHANNELS * GRID**2 * 4 / 1e9
    print(
        json.dumps(
            {
                "images": images,
                "all_features_gb": round(all_features, 3),
                "growth_gb": round((_peak() - before) / 1e9, 3),
                "seconds": round(took, 2),
            }
        )
    )


def _peak() -> int:
    """Most bytes that this process held at once; what its parent held does not count."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="linear_latent_cpu.json")
    parser.add_argument("--parts", default="bottle,growth,streamed,memory")
    parser.add_argument("--weights", default="lite0.safetensors")
    parser.add_argument("--limit-gb", type=float, default=1.0)
    parser.add_argument("--images", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.images:
        one_stream(options.images)
        return
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "bottle": lambda: bottle(options.weights),
        "growth": growth,
        "streamed": streamed,
        "memory": lambda: memory(options.limit_gb),
    }
    measured = {name: parts[name]() for name in options.parts.split(",")}
    record = run_record(torch.device("cpu"), seed=0)
    if Path(options.out).exists():
        # Parts measured by another call on the same code stay.
        earlier = json.loads(Path(options.out).read_text())
        if earlier["commit"] == record["commit"]:
            measured = {name: earlier[name] for name in parts if name in earlier} | measured
    write_json(options.out, {**record, "clock": "processor seconds of one thread", **measured})
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
