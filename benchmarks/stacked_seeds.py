r"""Seeds trained in one process against as many runs by themselves: processor time, and how alike.

One command for each variant, some minutes on one core::

    python -m benchmarks.stacked_seeds --variants factorvae --seeds 0 1 --steps 200 --pairs 1 \
        --out docs/results/stacked_seeds_factorvae_cpu.json

Every run is a process of its own with one thread: it draws dSprites, trains the model that
``captum-vae disentangle-seeds`` trains (``vae`` without the discriminator and its second batch),
writes log and checkpoint and measures the active dimensions. ``single`` is K such processes of one
seed each by :class:`~captum_vae.training.Trainer`, ``stacked`` one process of K seeds by
:func:`~captum_vae.training.stacked.fit_stacked`. The two take turns. A whole process is told as the
system accounts for it, plus the seconds that starting Python and importing took, which is done
once and then forked. Beside it stand the seconds a step, to which a long run tends: what the
training of so many steps takes above one of a tenth of them, so that no set-up counts.
``single_keeping_memory`` is a single run in which freed memory is kept, as stacked runs keep
it, so that the allocator's part of the gain is told apart.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from captum_vae.data import DSprites
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.seed_runs import build_run
from captum_vae.files import write_json
from captum_vae.losses import ELBO
from captum_vae.models.base import GaussianVAE
from captum_vae.provenance import run_record
from captum_vae.training import Trainer, VAEObjective
from captum_vae.training.configuration import TrainerConfig
from captum_vae.training.memory import keep_freed_memory
from captum_vae.training.stacked import StackedRun, fit_stacked

IMPORT_SECONDS = time.process_time()
"""Processor seconds of starting Python and importing what a run needs."""

VARIANTS = ("vae", "factorvae", "normalised")


def train(way: str, variant: str, seeds: Sequence[int], steps: int, batch: int, out: Path) -> float:
    """Train in this process and return the processor seconds of the steps."""
    torch.set_num_threads(1)
    if way == "single_keeping_memory":
        keep_freed_memory()
    data = DSprites()
    runs = [StackedRun(s, *_built(variant, s, batch), out / str(s)) for s in seeds]
    config = TrainerConfig(
        steps=steps,
        batch_size=batch,
        seed=seeds[0],
        accelerator="cpu",
        save_every=steps,
        log_every=steps,
        keep=1,
        progress="off",
    )
    started = time.process_time()
    if way == "stacked":
        fit_stacked(runs, data, config)
    else:
        (run,) = runs
        Trainer.of(config).fit(run.model, data, run.objective, out=run.out)
    return time.process_time() - started


def _built(variant: str, seed: int, batch: int) -> tuple[GaussianVAE, VAEObjective]:
    kind: Any = "factorvae" if variant == "vae" else variant
    run = SeedRun(kind, seed, steps=1, batch_size=batch, gamma=40.0)
    model, objective = build_run(run)
    if variant == "vae":
        return model, VAEObjective(
            ELBO("bernoulli", scale="logits"), learning_rate=run.learning_rate
        )
    return model, objective


def process(
    way: str, variant: str, seeds: Sequence[int], steps: int, batch: int, out: Path
) -> tuple[float, float]:
    """Train in a process of its own; processor seconds of all of it, and of the training."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        # What is raised here is printed, and the status tells the parent.
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            os.write(writing, str(train(way, variant, seeds, steps, batch, out)).encode())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="ascii") as pipe:
        said = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{way} {variant} {list(seeds)} ended with status {status}")
    return IMPORT_SECONDS + usage.ru_utime + usage.ru_stime, float(said)


def measure(variant: str, seeds: Sequence[int], steps: int, batch: int, pairs: int) -> dict:
    """Both ways in turn; medians over pairs, and the largest difference of a loss at the end."""
    whole, trained, kept = [], [], []
    fewer = max(1, steps // 10)

    def run(way: str, some: Sequence[int], out: Path) -> tuple[float, float]:
        """Seconds of the process, and of the steps above those of the shorter run."""
        seconds, training = process(way, variant, some, steps, batch, out)
        shorter = process(way, variant, some, fewer, batch, out / "fewer")[1]
        return seconds, training - shorter

    with tempfile.TemporaryDirectory() as folder:
        for pair in range(pairs):
            out = Path(folder) / str(pair)
            single = [run("single", [s], out / "single") for s in seeds]
            stacked = run("stacked", seeds, out / "stacked")
            whole.append((sum(seconds for seconds, _ in single), stacked[0]))
            trained.append((sum(seconds for _, seconds in single), stacked[1]))
            kept.append(run("single_keeping_memory", seeds[:1], out / "kept")[1])
            print(variant, whole[-1], trained[-1], kept[-1], file=sys.stderr, flush=True)
        apart = max(
            _apart(Path(folder) / "0" / "single" / str(s), Path(folder) / "0" / "stacked" / str(s))
            for s in seeds
        )
    count = len(seeds)

    def per_step(values: Sequence[float]) -> float:
        return round(statistics.median(values) / (count * (steps - fewer)) * 1e3, 1)

    def ratio(values: Sequence[tuple[float, float]]) -> float:
        return round(statistics.median(one / other for one, other in values), 2)

    kept_of_all = [count * seconds for seconds in kept]
    return {
        "variant": variant,
        "import_s": round(IMPORT_SECONDS, 1),
        "single_s": round(statistics.median(one for one, _ in whole), 1),
        "stacked_s": round(statistics.median(other for _, other in whole), 1),
        "speedup": ratio(whole),
        "speedup_of_pairs": [round(one / other, 3) for one, other in whole],
        "single_step_ms": per_step([one for one, _ in trained]),
        "single_keeping_memory_step_ms": per_step(kept_of_all),
        "stacked_step_ms": per_step([other for _, other in trained]),
        "speedup_of_steps": ratio(trained),
        "speedup_of_steps_keeping_memory": ratio(
            [(one, other) for one, (_, other) in zip(kept_of_all, trained, strict=True)]
        ),
        "largest_relative_difference_of_a_loss": apart,
    }


def _apart(one: Path, other: Path) -> float:
    """The largest difference of a logged loss, relative to it or to one where it is smaller."""
    first, second = (
        json.loads((folder / "log.jsonl").read_text().splitlines()[-1]) for folder in (one, other)
    )
    losses = first.keys() - {"step", "images_per_second"}
    return max(abs(first[name] - second[name]) / max(abs(first[name]), 1) for name in losses)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--steps", type=int, default=100, help="two or more")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    options = parser.parse_args(arguments)
    steps, batch = options.steps, options.batch_size
    rows = [measure(v, options.seeds, steps, batch, options.pairs) for v in options.variants]
    settings = {"seeds": len(options.seeds), "steps": steps, "batch_size": batch}
    write_json(
        options.out,
        {
            **run_record(torch.device("cpu")),
            "settings": {**settings, "pairs": options.pairs},
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
