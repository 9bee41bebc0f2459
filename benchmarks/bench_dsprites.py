"""Speed of the dSprites renderer, and its agreement with original images where they are at hand.

    python benchmarks/bench_dsprites.py [--data FOLDER] [--device cuda] [--images 10000]

FOLDER holds dSprites .npz files and defaults to dsprites/ in $CAPTUM_VAE_DATA. Prints one JSON
object: images per second (median and quartiles of the repetitions, after a warm-up, the device
synchronised inside the timed region) and, per file and shape, the mean number of wrong pixels per
image, the share of exact images and the most wrong pixels of any image.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from statistics import quantiles

import torch

from captum_vae.data.dsprites import DSprites
from captum_vae.data.dsprites_factors import SHAPE_NAMES, sample_classes
from captum_vae.data.dsprites_renderer import render_classes


def images_per_second(dtype: torch.dtype, threads: int, options: argparse.Namespace) -> dict:
    torch.set_num_threads(threads)
    seeded = torch.Generator().manual_seed(0)
    classes = sample_classes(options.images, generator=seeded).to(options.device)
    rates = []
    for repeat in range(options.repeats + 1):
        start = time.perf_counter()
        render_classes(classes, dtype=dtype)
        if classes.is_cuda:
            torch.cuda.synchronize()
        if repeat:  # the first one warms up
            rates.append(options.images / (time.perf_counter() - start))
    low, median, high = quantiles(rates, n=4)
    return {"median": round(median), "quartiles": [round(low), round(high)]}


def agreement(path: Path, device: str) -> dict:
    originals = DSprites.from_npz(path, dtype=torch.uint8)
    drawn = render_classes(originals.classes.to(device), dtype=torch.uint8).cpu()
    wrong = (drawn != originals.images(torch.arange(len(originals)))).sum((1, 2, 3))
    report = {}
    for shape, name in enumerate(SHAPE_NAMES):
        of_shape = wrong[originals.classes[:, 0] == shape].double()
        report[name] = {
            "images": len(of_shape),
            "mean_wrong_pixels": round(float(of_shape.mean()), 6),
            "exact_percent": round(100 * float((of_shape == 0).double().mean()), 3),
            "max_wrong_pixels": int(of_shape.max()),
        }
    return report


def main() -> None:
    root = os.environ.get("CAPTUM_VAE_DATA")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(root) / "dsprites" if root else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    files = sorted(options.data.glob("*.npz")) if options.data else []
    device = options.device
    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor()
    report = {
        "machine": {
            "device": device,
            "name": name or platform.machine(),
            "torch": torch.__version__,
        },
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "images_per_second": {
            f"{dtype}, {threads} threads": images_per_second(dtype, threads, options)
            for dtype in (torch.uint8, torch.float32)
            for threads in (1, 2)
        },
        "agreement": {file.name: agreement(file, device) for file in files},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
