"""Memory and speed of the exact pixel metrics.

    python benchmarks/bench_localization_metrics.py speed [--images 229] [--repeats 3]
    python benchmarks/bench_localization_metrics.py memory [--frames 7200] [--limit-mib 400]

``speed`` measures 229 images of 256 x 256 pixels (15 million) with every metric, AUPRO included,
and scikit-learn's AUROC and average precision on the same pixels in the same process, in turn. It
compares their values too.

``memory`` feeds 7,200 frames of 158 x 238 pixels (270 million, as UCSD Ped1) that are drawn
on the fly, and reports by how much the process grew above what drawing takes. Frames are coarse
noise, resized bilinearly as attention maps are, so hardly any two pixels are tied; 2% of the pixels
are anomalous. It fails above the limit. Both print one JSON object.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from captum_vae.metrics import PixelMetrics

BATCH = 16


def frames(count: int, height: int, width: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of maps and masks; a box of 2.5% of the area in four frames of five."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        coarse = torch.randn(size, 1, height // 8, width // 8, generator=generator)
        maps = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        maps = maps.squeeze(1).abs()
        masks = torch.zeros(maps.shape, dtype=torch.bool)
        side = round((0.025 * height * width) ** 0.5)
        for index in range(size):
            if (start + index) % 5:
                masks[index, 40 : 40 + side, 50 : 50 + side] = True
        yield maps + 0.8 * masks, masks


def measure_speed(images: int, repeats: int) -> dict[str, Any]:
    batches = list(frames(images, 256, 256))
    truth = torch.cat([masks.flatten() for _, masks in batches]).numpy()
    scores = torch.cat([maps.flatten() for maps, _ in batches]).numpy()
    times: dict[str, list[float]] = {"ours": [], "sklearn_auroc": [], "sklearn_ap": []}
    for _ in range(repeats):
        with Timed(times["ours"]):
            metric = PixelMetrics()
            for maps, masks in batches:
                metric.update(maps, masks)
            result = metric.compute()
        with Timed(times["sklearn_auroc"]):
            area = roc_auc_score(truth, scores)
        with Timed(times["sklearn_ap"]):
            precision = average_precision_score(truth, scores)
    median = {name: statistics.median(values) for name, values in times.items()}
    sklearn = median["sklearn_auroc"] + median["sklearn_ap"]
    return {
        "pixels": truth.size,
        "anomalous": int(truth.sum()),
        "seconds": {name: [round(value, 3) for value in values] for name, values in times.items()},
        "times_faster_than_sklearn_auroc": round(median["sklearn_auroc"] / median["ours"], 2),
        "times_faster_than_sklearn_auroc_and_ap": round(sklearn / median["ours"], 2),
        "difference_auroc": abs(result.scores["auroc"].value - area),
        "difference_average_precision": abs(result.scores["average_precision"].value - precision),
    }


def measure_memory(count: int, limit_mib: float) -> dict[str, Any]:
    for _ in frames(4 * BATCH, 158, 238):  # so that drawing is in the baseline
        pass
    warm = PixelMetrics()
    warm.update(*next(frames(BATCH, 158, 238)))
    warm.compute()
    del warm
    before = peak_mib()
    metric = PixelMetrics()
    pixels, drawing, start = 0, 0.0, time.perf_counter()
    last = start
    for maps, masks in frames(count, 158, 238):
        drawing += time.perf_counter() - last
        metric.update(maps, masks)
        pixels += maps.numel()
        last = time.perf_counter()
    result = metric.compute()
    seconds = time.perf_counter() - start - drawing
    growth = peak_mib() - before
    return {
        "pixels": pixels,
        "anomalous": result.counts.positives,
        "seconds_without_drawing": round(seconds, 1),
        "nanoseconds_per_pixel": round(1e9 * seconds / pixels, 1),
        "peak_mib_above_the_stream": round(growth, 1),
        "limit_mib": limit_mib,
        "within_limit": growth <= limit_mib,
        "slabs": len(metric.slabs),
        "scores": {name: score.value for name, score in result.scores.items()},
    }


class Timed:
    """Appends the wall seconds of its block."""

    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        """Start."""
        self.start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.seconds.append(time.perf_counter() - self.start)


def peak_mib() -> float:
    """The most memory this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    speed = modes.add_parser("speed")
    speed.add_argument("--images", type=int, default=229)
    speed.add_argument("--repeats", type=int, default=3)
    memory = modes.add_parser("memory")
    memory.add_argument("--frames", type=int, default=7200)
    memory.add_argument("--limit-mib", type=float, default=400)
    options = parser.parse_args()
    load = [round(value, 2) for value in os.getloadavg()]
    if options.mode == "speed":
        report = measure_speed(options.images, options.repeats)
    else:
        report = measure_memory(options.frames, options.limit_mib)
    report["machine"] = {
        "name": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_before": load,
    }
    print(json.dumps(report, indent=2))
    if report.get("within_limit") is False:
        sys.exit(1)


if __name__ == "__main__":
    main()
