"""One benchmark of localization by one, two and four processes: same counts, and how much faster.

Processes talk by gloo, as ``torchrun`` starts them on CPUs.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from benchmarks.growth.measuring import Growth, Row, up_to
from captum_vae.localization import Evaluation, LatentAttention, Protocol, benchmark
from captum_vae.models import ConvVAE
from captum_vae.provenance import peak_memory

SERIES, TOO_MANY = "benchmark of latent attention", "the same, more processes than cores"
ROUNDS = 5
LEAST = 1.7
"""How many times faster two processes should be."""


def measure(smoke: bool, largest: float) -> list[Growth]:
    """Every number of processes in turn, several times; the least of each is kept."""
    runs: dict[int, list[dict[str, Any]]] = {}
    for _ in range(1 if smoke else ROUNDS):
        for processes in up_to(largest, (1, 2) if smoke else (1, 2, 4)):
            runs.setdefault(processes, []).append(_run(processes, smoke))
            print(processes, runs[processes][-1], flush=True)
    rows: list[Row] = []
    alone = _least(runs[1])
    for processes, found in runs.items():
        least = _least(found)
        rows.append(
            {
                "series": SERIES if processes <= (os.cpu_count() or 1) else TOO_MANY,
                "size": processes,
                **least,
                "times_faster_by_processor": round(alone["cpu_seconds"] / least["cpu_seconds"], 2),
                "times_faster_on_the_wall": round(alone["wall_seconds"] / least["wall_seconds"], 2),
                "same_counts_as_one": all(run["counts"] == runs[1][0]["counts"] for run in found),
            }
        )
    return [
        Growth(
            "Evaluation in processes",
            "processes",
            "The same `benchmark`, fitting, thresholds and intervals included, by one process and "
            "by several over gloo, after a small one: what is imported for the first is imported "
            f"by every process. Seconds are the least of {len(runs[1])} runs: those of the "
            "processor are of the process that took most, which is what the wall would show were "
            "the cores idle otherwise; on the wall four processes cannot beat the number of cores. "
            f"{LEAST:g} times faster with two is a slope of -0.77. Counts are the digests of "
            "all thresholds, true and false positives, region overlaps, scores and intervals; "
            "memory is all that a process ever held, PyTorch included.",
            rows,
            {SERIES: -0.77, TOO_MANY: 0.0},
        )
    ]


def _least(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: min(run[name] for run in runs) for name in ("cpu_seconds", "wall_seconds")} | {
        "peak_mb": max(run["peak_mb"] for run in runs)
    }


def _run(processes: int, smoke: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *(sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", str(processes), "-m", "benchmarks.growth.processes"),
                *(folder, str(int(smoke))),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=True,
        )
        ranks = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    assert len(ranks) == processes
    assert len({rank["counts"] for rank in ranks}) == 1, "processes found different counts"
    return {
        "counts": ranks[0]["counts"],
        **{n: max(r[n] for r in ranks) for n in ("cpu_seconds", "wall_seconds", "peak_mb")},
    }


def work(folder: Path, smoke: bool) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    side, images = (32, 8) if smoke else (128, 256)
    vae = ConvVAE(32, image_size=side, channels=(32, 64), hidden=128).eval()
    scorer = LatentAttention(
        vae, "encoder.relu1", rectifier="abs", order="channelwise", baselines="mean_activation"
    )
    masks = torch.zeros(images, side, side, dtype=torch.bool)
    masks[::2, side // 4 : side // 2, side // 4 : side // 2] = True
    normal, test = torch.rand(8, 1, side, side), torch.rand(images, 1, side, side)

    def evaluate(some: int) -> Evaluation:
        return benchmark(
            {"attention": scorer},
            normal,
            (test[:some], masks[:some]),
            protocol=Protocol(smoothing=2.0),
            batch_size=16,
            progress="off",
        )

    evaluate(32)
    dist.barrier()
    start = time.process_time(), time.perf_counter()
    found = evaluate(images)
    spent = time.process_time() - start[0], time.perf_counter() - start[1]
    (row,) = found.rows
    counts = row.pixel.counts
    digest = hashlib.sha256()
    assert counts.region_overlap is not None
    for values in (
        *(counts.thresholds, counts.true_positives, counts.false_positives),
        *(counts.tied_negatives, counts.region_overlap),
    ):
        digest.update(values.numpy().tobytes())
    totals = counts.positives, counts.negatives, counts.regions
    digest.update(repr((totals, row.pixel.to_dict()["scores"])).encode())
    told = {
        "cpu_seconds": round(spent[0], 3),
        "wall_seconds": round(spent[1], 3),
        "peak_mb": round((peak_memory() or 0) / 2**20),
        "counts": digest.hexdigest(),
    }
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


if __name__ == "__main__":
    work(Path(sys.argv[1]), bool(int(sys.argv[2])))
