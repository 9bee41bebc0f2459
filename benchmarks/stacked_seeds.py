"""Seeds trained in one process against runs by themselves: processor time, and how far apart.

One command, some minutes on one core::

    python -m benchmarks.stacked_seeds --out docs/results/stacked_seeds_cpu.json

Both ways train the dSprites models of ``captum-vae disentangle-seeds``, one after the other in
one process with one thread. ``single`` is the trainer as ``disentangle-seeds`` runs it; it is timed
before freed memory is kept (as single runs are) and after (``single_keeping_memory``), so that the
saving of the allocator and that of the work can be told apart.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from captum_vae.data import DSprites
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.seed_runs import build_run
from captum_vae.files import write_json
from captum_vae.provenance import run_record
from captum_vae.training import Trainer
from captum_vae.training.configuration import TrainerConfig
from captum_vae.training.memory import keep_freed_memory
from captum_vae.training.stacked import StackedRun, fit_stacked

VARIANTS = ("factorvae", "normalised", "paper", "replication")


def measure(variant: str, seeds: int, steps: int, batch_size: int) -> dict[str, object]:
    """Processor seconds a seed and step of each way, and the largest differences at the end."""
    runs = [
        SeedRun(variant, seed, steps=steps, batch_size=batch_size, gamma=40.0)  # type: ignore[arg-type]
        for seed in range(seeds)
    ]
    data = DSprites()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)

        def single(name: str) -> list[torch.nn.Module]:
            models = []
            for run in runs:
                model, objective = build_run(run)
                trainer = Trainer.of(_config(run.seed, steps, batch_size))
                trainer.fit(model, data, objective, out=out / name / str(run.seed))
                models.append(model)
            return models

        def stacked(name: str) -> list[torch.nn.Module]:
            stack = [
                StackedRun(run.seed, *build_run(run), out / name / str(run.seed)) for run in runs
            ]
            fit_stacked(stack, data, _config(0, steps, batch_size))
            return [run.model for run in stack]

        first, single_seconds = _timed(lambda: single("single"))
        keep_freed_memory()
        second, stacked_seconds = _timed(lambda: stacked("stacked"))
        _, kept_seconds = _timed(lambda: single("kept"))
        logs = [_last_losses(out / name / "0") for name in ("single", "stacked")]
    apart = max(abs(logs[0][name] - logs[1][name]) / max(abs(logs[0][name]), 1) for name in logs[0])
    differences = [
        (a - b).detach().abs()
        for one, other in zip(first, second, strict=True)
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    ]
    per_step = seeds * steps
    return {
        "variant": variant,
        "single_ms": round(single_seconds / per_step * 1e3, 1),
        "single_keeping_memory_ms": round(kept_seconds / per_step * 1e3, 1),
        "stacked_ms": round(stacked_seconds / per_step * 1e3, 1),
        "speedup": round(single_seconds / stacked_seconds, 2),
        "speedup_keeping_memory": round(kept_seconds / stacked_seconds, 2),
        "largest_relative_difference_of_a_loss": apart,
        "largest_difference_of_a_weight": float(max(d.max() for d in differences)),
        "mean_difference_of_a_weight": float(
            sum(d.sum() for d in differences) / sum(d.numel() for d in differences)
        ),
    }


def _config(seed: int, steps: int, batch_size: int) -> TrainerConfig:
    return TrainerConfig(
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        accelerator="cpu",
        save_every=steps,
        keep=1,
        progress="off",
    )


def _timed(run: Callable[[], list[torch.nn.Module]]) -> tuple[list[torch.nn.Module], float]:
    started = time.process_time()
    models = run()
    return models, time.process_time() - started


def _last_losses(folder: Path) -> dict[str, float]:
    line = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    return {k: v for k, v in line.items() if k not in ("step", "images_per_second")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    # What the first call loads and builds is nobody's cost.
    measure(options.variants[0], 1, 1, 4)
    rows = []
    for variant in options.variants:
        rows.append(measure(variant, options.seeds, options.steps, options.batch_size))
        print(rows[-1], file=sys.stderr, flush=True)
    settings = {"seeds": options.seeds, "steps": options.steps, "batch_size": options.batch_size}
    write_json(
        options.out,
        {**run_record(torch.device("cpu")), "settings": settings, "rows": rows},
    )


if __name__ == "__main__":
    main()
