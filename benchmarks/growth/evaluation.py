"""Evaluation in images, regions and scorers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.growth.measuring import Growth, Row, in_child, peak_above, timing, up_to
from captum_vae.localization import Protocol, ReconstructionError, benchmark
from captum_vae.metrics import PixelMetrics, bootstrap_interval
from captum_vae.models import ConvVAE


def measure(smoke: bool, largest: float) -> list[Growth]:
    """All three growths."""
    return [in_images(smoke, largest), in_regions(smoke, largest), in_scorers(smoke, largest)]


def in_images(smoke: bool, largest: float) -> Growth:
    """Images counted one by one, and their bootstrap."""
    rows = []
    for images in up_to(largest, (50, 200) if smoke else (100, 1000, 10_000)):
        found = in_child(partial(_table, images))
        for series in ("counting, with a table of images", "interval of AUROC, 1,000 resamples"):
            rows.append({"series": series, "size": images, **found[series]})
            print(rows[-1], flush=True)
    return Growth(
        "Evaluation in images",
        "images",
        "Images of 16 x 16 pixels, so that what an image costs outweighs its pixels: every metric "
        "with the counts of each image kept, and the bootstrap over images from them, whose memory "
        "includes the counting before it.",
        rows,
        {row["series"]: 1.0 for row in rows},
    )


def _table(images: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    spent: list[float] = []
    metric = PixelMetrics(units="images")
    for start in range(0, images, 100):
        count = min(100, images - start)
        maps = torch.rand(count, 16, 16, generator=generator)
        masks = torch.zeros(maps.shape, dtype=torch.bool)
        masks[::2, 4:8, 4:8] = True
        with timing(spent):
            metric.update(maps + masks * 0.3, masks, [str(start + i) for i in range(count)])
    with timing(spent):
        result = metric.compute()
    counting = {"cpu_seconds": round(sum(spent), 4), "peak_mb": round(peak_above(), 1)}
    assert result.units is not None
    spent.clear()
    with timing(spent):
        bootstrap_interval(result.units, "auroc", resamples=1000)
    interval = {"cpu_seconds": round(sum(spent), 4), "peak_mb": round(peak_above(), 1)}
    return {
        "counting, with a table of images": counting,
        "interval of AUROC, 1,000 resamples": interval,
    }


def in_regions(smoke: bool, largest: float) -> Growth:
    """Regions of one image."""
    side = 128 if smoke else 1024
    rows = []
    for across in (1, 8) if smoke else (1, 8, 64, 256, 512):
        if across**2 > largest:
            break
        rows.append(_measured("every metric", across**2, partial(_regions, side, across)))
    return Growth(
        "Evaluation in regions",
        "regions",
        f"One image of {side:,} x {side:,} pixels, a quarter of them anomalous however many "
        "squares they form: every metric, AUPRO included.",
        rows,
        {"every metric": 1.0},
    )


def _regions(side: int, across: int) -> dict[str, Any]:
    maps = torch.rand(1, side, side, generator=torch.Generator().manual_seed(0))
    cell = side // across
    line = torch.arange(side) % cell < cell // 2
    masks = (line[:, None] & line)[None]
    metric = PixelMetrics()
    spent: list[float] = []
    with timing(spent):
        metric.update(maps, masks)
        found = metric.compute()
    assert found.counts.regions == across**2, found.counts.regions
    return {"cpu_seconds": round(sum(spent), 4)}


def in_scorers(smoke: bool, largest: float) -> Growth:
    """Scorers of one model in one benchmark."""
    rows = []
    for count in up_to(largest, (1, 2) if smoke else (1, 2, 4, 8, 16, 32)):
        rows.append(_measured("scorers of one model", count, partial(_scorers, count, smoke)))
    return Growth(
        "Evaluation in scorers",
        "scorers",
        "`benchmark` of so many scorers of one model on 64 images of 64 x 64 pixels with intervals "
        "over images, fitting and thresholds included. They share the model's calls.",
        rows,
        {"scorers of one model": 1.0},
    )


def _scorers(count: int, smoke: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    images = 8 if smoke else 64
    vae = ConvVAE(16, image_size=64, channels=(16, 32), hidden=64).eval()
    masks = torch.zeros(images, 64, 64, dtype=torch.bool)
    masks[::2, 20:30, 20:30] = True
    scorers = {
        f"error {number}": (ReconstructionError(vae), Protocol(smoothing=0.1 * number))
        for number in range(count)
    }
    spent: list[float] = []
    with timing(spent):
        benchmark(
            scorers,
            torch.rand(images, 1, 64, 64),
            (torch.rand(images, 1, 64, 64), masks),
            resamples=100,
            progress="off",
        )
    return {"cpu_seconds": round(sum(spent), 4)}


def _measured(series: str, size: int, work: Callable[[], dict[str, Any]]) -> Row:
    row = {"series": series, "size": size, **in_child(work)}
    print(row, flush=True)
    return row
