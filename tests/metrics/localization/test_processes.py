"""Two gloo processes give the integers of one process."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from captum_vae.metrics import ImageAUROC, PixelMetrics
from captum_vae.metrics.localization import counts as counts_module

IMAGES = 9


def data() -> tuple[Tensor, Tensor, list[str]]:
    generator = torch.Generator().manual_seed(5)
    masks = torch.zeros(IMAGES, 30, 30, dtype=torch.bool)
    masks[:5, 3:9, 4:12] = True
    masks[2, 20:25, 20:22] = True
    maps = torch.rand(IMAGES, 30, 30, generator=generator) + 0.3 * masks
    return maps, masks, [f"clip{index % 3}" for index in range(IMAGES)]


def count(indices: list[int]) -> dict[str, Any]:
    """Everything that one process knows after counting its images, and all others theirs."""
    counts_module._WAITING, counts_module._PAIRS_WORTH_A_SLAB = 2000, 300
    maps, masks, names = data()
    metric = PixelMetrics(units="groups", threshold=0.9)
    image_metric = ImageAUROC()
    for index in indices:
        part = slice(index, index + 1)
        metric.update(maps[part], masks[part], names[part])
        image_metric.update(maps[part], [int(masks[index].any())])
    result = metric.compute()
    repeated = metric.compute()
    assert repeated.scores == result.scores
    counts, units = result.counts, result.units
    return {
        "counts": [counts.thresholds, counts.true_positives, counts.false_positives],
        "ties": [counts.tied_negatives, counts.region_overlap],
        "totals": [counts.positives, counts.negatives, counts.regions, result.images],
        "units": [units.units, units.positives, units.negatives],
        "overlap": units.overlap,
        "scores": {name: score.value for name, score in result.scores.items()},
        "image_auroc": image_metric.compute().value,
        "slabs": len(metric.slabs) > 0,
    }


def worker(rank: int, shares: list[list[int]], folder: str) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(shares)
    )
    torch.save(count(shares[rank]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def assert_same(first: Any, second: Any) -> None:
    assert str(first["counts"]) == str(second["counts"])
    for name in ("counts", "ties", "units"):
        assert all(torch.equal(a, b) for a, b in zip(first[name], second[name], strict=True)), name
    assert first["totals"] == second["totals"]
    assert first["scores"] == second["scores"]
    assert first["image_auroc"] == second["image_auroc"]
    torch.testing.assert_close(first["overlap"], second["overlap"], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shares",
    [[[0, 2, 4, 6, 8], [1, 3, 5, 7]], [list(range(IMAGES)), []]],
    ids=["shared", "one_process_without_images"],
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_two_processes_count_what_one_counts(shares: list[list[int]]) -> None:
    waiting, worth = counts_module._WAITING, counts_module._PAIRS_WORTH_A_SLAB
    try:
        alone = count(list(range(IMAGES)))
    finally:
        counts_module._WAITING, counts_module._PAIRS_WORTH_A_SLAB = waiting, worth
    assert alone["slabs"], "meant to count in slabs"
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (shares, folder), nprocs=2)
        for rank in range(2):
            together = torch.load(Path(folder) / f"{rank}.pt", weights_only=False)
            assert_same(alone, together)
