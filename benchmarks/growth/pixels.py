"""Evaluation in pixels, and counts beyond 32 bits that are known beforehand."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.bench_localization_metrics import frames
from benchmarks.growth.measuring import Growth, Row, in_child, timing, up_to
from captum_vae.metrics import PixelMetrics
from captum_vae.metrics.localization.metric import PixelResult

MANTISSAS = 1 << 23
"""How many float32 there are from 1 to 2."""

ANOMALOUS = 1 << 12
"""Anomalous pixels of an image whose counts are known."""


def measure(smoke: bool, largest: float) -> list[Growth]:
    """Both growths."""
    return [in_pixels(smoke, largest), beyond_32_bits(smoke)]


def in_pixels(smoke: bool, largest: float) -> Growth:
    """Pixels of maps with hardly any ties."""
    rows: list[Row] = []
    for wanted in up_to(largest, (10**5, 10**6) if smoke else (10**6, 10**7, 10**8, 10**9)):
        images = -(-wanted // 256**2)
        row = {"series": "every metric", "size": images * 256**2}
        rows.append(row | in_child(partial(_count, images)))
        print(rows[-1], flush=True)
    return Growth(
        "Evaluation in pixels",
        "pixels",
        "Every metric of pixels, AUPRO included, of images of 256 x 256 pixels whose scores have "
        "hardly any ties and of whose pixels 2% are anomalous. Drawing them is not counted in the "
        "seconds.",
        rows,
        {"every metric": 1.0},
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


def beyond_32_bits(smoke: bool) -> Growth:
    """Counts that arithmetic tells beforehand, up to more pixels than 32 bits count."""
    rows: list[Row] = []
    images, stride = (9, 64) if smoke else (65, 1)
    for processes in (1, 3) if smoke else (1, 8, 32, 64):
        found = in_child(partial(known_counts, images, processes, stride))
        rows.append({"series": "known counts", **found})
        print(rows[-1], flush=True)
    return Growth(
        "Counts beyond 32 bits",
        "pixels",
        f"Every metric of pixels of {images} images of a million pixels, whose counts arithmetic "
        "tells beforehand: of the 2^23 float32 from 1 to 2 each image holds every eighth among its "
        "normal pixels, in turn, and 4,096 of them as anomalous pixels. They are counted once, and "
        "gathered as from so many processes that each counted them, which takes them beyond 2^31 "
        "and 2^32 pixels.",
        rows,
        {"known counts": 1.0},
    )


def known_counts(images: int, processes: int = 1, stride: int = 1) -> dict[str, Any]:
    """Count images whose counts are known, gather them and compare.

    Image i holds the scores 1 + k / 2^23 for k = i mod 8, i mod 8 + 8, ... (times ``stride``) as
    normal pixels in a random order, and the same ``ANOMALOUS`` scores of them as anomalous ones.

    Args:
        images: How many images are counted.
        processes: How many processes' counts are gathered, all alike.
        stride: Takes every so many-th score only.
    """
    scores = MANTISSAS // stride
    shuffled = torch.randperm(scores // 8, generator=torch.Generator().manual_seed(0))
    places = torch.arange(0, scores, scores // ANOMALOUS)
    masks = torch.zeros(1, scores // 8 // ANOMALOUS + 1, ANOMALOUS, dtype=torch.bool)
    masks[:, -1] = True
    metric = PixelMetrics(
        distributed_available_fn=lambda: processes > 1,
        dist_sync_fn=lambda state, group=None: [state] * processes,
    )
    spent: list[float] = []
    for image in range(images):
        keys = torch.cat([8 * shuffled + image % 8, places])
        maps = (1 + keys.to(torch.float32) * (stride / MANTISSAS)).reshape(masks.shape)
        with timing(spent):
            metric.update(maps, masks)
    with timing(spent):
        result = metric.compute()
    different = _different(result, places, images, processes, scores)
    return {
        "size": processes * images * masks.numel(),
        "cpu_seconds": round(sum(spent), 4),
        "processes": processes,
        "normal": result.counts.negatives,
        "equal_to_arithmetic": not different,
        **({"different": different} if different else {}),
    }


def _different(
    result: PixelResult, places: Tensor, images: int, processes: int, scores: int
) -> list[str]:
    """The counts that are not those of arithmetic, by NumPy, on 64-bit integers."""
    each = np.full(scores, images // 8, dtype=np.int64)
    each += np.arange(scores) % 8 < images % 8
    each *= processes
    at_least = each[::-1].cumsum()[::-1]
    falling = places.numpy()[::-1]
    # Mann and Whitney: of all pairs, those where the anomalous score is higher, ties as halves.
    pairs = len(places) * int(each.sum())
    higher = sum(int(each.sum()) - int(at_least[k]) + int(each[k]) / 2 for k in places.tolist())
    found = result.counts
    same = {
        "negatives": found.negatives == int(each.sum()),
        "positives": found.positives == processes * images * len(places),
        "true_positives": np.array_equal(
            found.true_positives.numpy(), processes * images * np.arange(1, len(places) + 1)
        ),
        "false_positives": np.array_equal(found.false_positives.numpy(), at_least[falling]),
        "tied_negatives": np.array_equal(found.tied_negatives.numpy(), each[falling]),
        "regions": found.regions == processes * images,
        "auroc": abs(result.scores["auroc"].value - higher / pairs) < 1e-12,
    }
    return [name for name, equal in same.items() if not equal]
