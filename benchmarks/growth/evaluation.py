"""Evaluation in pixels, images, regions and scorers, and counts beyond 32 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench_localization_metrics import frames
from benchmarks.growth.measuring import Growth, Row, in_child, peak_above, timing
from captum_vae.localization import Protocol, ReconstructionError, benchmark
from captum_vae.metrics import PixelMetrics, bootstrap_interval
from captum_vae.metrics.localization.metric import PixelResult
from captum_vae.models import ConvVAE

MANTISSAS = 1 << 23
"""How many float32 there are from 1 to 2."""

ANOMALOUS = 1 << 12
"""Anomalous pixels of an image whose counts are known."""


def measure(smoke: bool) -> list[Growth]:
    """All four growths."""
    return [in_pixels(smoke), in_images(smoke), in_regions(smoke), in_scorers(smoke)]


def in_pixels(smoke: bool) -> Growth:
    """Pixels of maps without ties, and of maps whose counts arithmetic tells beforehand."""
    rows = []
    for wanted in (10**5, 10**6) if smoke else (10**6, 10**7, 10**8):
        images = -(-wanted // 256**2)
        rows.append(_measured("hardly any ties", images * 256**2, partial(_count, images)))
    known = (2, 3) if smoke else (1, 10, 100, 1000, 2056, 4104)
    points = in_child(partial(known_counts, known, 16 if smoke else 1))["points"]
    for point in points:
        rows.append({"series": "known counts", **point})
        print(rows[-1], flush=True)
    return Growth(
        "Evaluation in pixels",
        "pixels",
        "Every metric of pixels, AUPRO included. Once of images of 256 x 256 pixels whose scores "
        "have hardly any ties and of whose pixels 2% are anomalous. And once of images of a "
        "million pixels, counted one after the other and looked at on the way, whose counts "
        "arithmetic tells beforehand: of the 2^23 float32 from 1 to 2 each image holds every "
        "eighth among its normal pixels, in turn. Drawing the images is not counted.",
        rows,
        {"hardly any ties": 1.0, "known counts": 1.0},
    )


def _count(images: int) -> dict[str, Any]:
    spent: list[float] = []
    metric = PixelMetrics()
    for maps, masks in frames(images, 256, 256):
        with timing(spent):
            metric.update(maps, masks)
    with timing(spent):
        found = metric.compute()
    return {"cpu_seconds": round(sum(spent), 4), "anomalous": found.counts.positives}


def known_counts(images: Sequence[int], stride: int = 1) -> dict[str, Any]:
    """Count images whose counts are known, and compare them after so many of them.

    Image i holds the scores 1 + k / 2^23 for k = i mod 8, i mod 8 + 8, ... (times ``stride``) as
    normal pixels in a random order, and the same ``ANOMALOUS`` scores of them as anomalous ones.

    Args:
        images: After how many images counts are compared, ascending.
        stride: Takes every so many-th score only.

    Returns:
        ``points``, with the seconds and the memory until then.
    """
    scores = MANTISSAS // stride
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(scores // 8, generator=generator)
    places = torch.arange(0, scores, scores // ANOMALOUS)
    masks = torch.zeros(1, scores // 8 // ANOMALOUS + 1, ANOMALOUS, dtype=torch.bool)
    masks[:, -1] = True
    metric = PixelMetrics()
    spent: list[float] = []
    points = []
    for image in range(images[-1]):
        keys = torch.cat([8 * shuffled + image % 8, places])
        maps = (1 + keys.to(torch.float32) * (stride / MANTISSAS)).reshape(masks.shape)
        with timing(spent):
            metric.update(maps, masks)
        if image + 1 not in images:
            continue
        with timing(spent):
            result = metric.compute()
        different = _different(result, places, image + 1, scores)
        points.append(
            {
                "size": (image + 1) * masks.numel(),
                "cpu_seconds": round(sum(spent), 4),
                "peak_mb": round(peak_above(), 1),
                "anomalous": result.counts.positives,
                "normal": result.counts.negatives,
                "equal_to_arithmetic": not different,
                **({"different": different} if different else {}),
            }
        )
    return {"points": points}


def _different(result: PixelResult, places: Tensor, images: int, scores: int) -> list[str]:
    """The counts that are not those of arithmetic, by NumPy, on 64-bit integers."""
    each = np.full(scores, images // 8, dtype=np.int64)
    each += np.arange(scores) % 8 < images % 8
    at_least = each[::-1].cumsum()[::-1]
    falling = places.numpy()[::-1]
    # Mann and Whitney: of all pairs, those where the anomalous score is higher, ties as halves.
    pairs = len(places) * int(each.sum())
    higher = sum(int(each.sum()) - int(at_least[k]) + int(each[k]) / 2 for k in places.tolist())
    found = result.counts
    same = {
        "negatives": found.negatives == int(each.sum()),
        "positives": found.positives == images * len(places),
        "true_positives": np.array_equal(
            found.true_positives.numpy(), images * np.arange(1, len(places) + 1)
        ),
        "false_positives": np.array_equal(found.false_positives.numpy(), at_least[falling]),
        "tied_negatives": np.array_equal(found.tied_negatives.numpy(), each[falling]),
        "regions": found.regions == images,
        "auroc": abs(result.scores["auroc"].value - higher / pairs) < 1e-12,
    }
    return [name for name, equal in same.items() if not equal]


def in_images(smoke: bool) -> Growth:
    """Images counted one by one, and their bootstrap."""
    rows = []
    for images in (50, 200) if smoke else (100, 1000, 10_000):
        found = in_child(partial(_table, images))
        for series in ("counting, with a table of images", "interval of AUROC, 1,000 resamples"):
            rows.append({"series": series, "size": images, **found[series]})
            print(rows[-1], flush=True)
    return Growth(
        "Evaluation in images",
        "images",
        "Images of 16 x 16 pixels, so that what an image costs outweighs its pixels: every metric "
        "with the counts of each image kept, and the bootstrap over images from them.",
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


def in_regions(smoke: bool) -> Growth:
    """Regions of one image."""
    side = 128 if smoke else 1024
    rows = []
    for across in (1, 8) if smoke else (1, 8, 64, 256, 512):
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


def in_scorers(smoke: bool) -> Growth:
    """Scorers of one model in one benchmark."""
    rows = []
    for count in (1, 2) if smoke else (1, 2, 4, 8, 16, 32):
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
