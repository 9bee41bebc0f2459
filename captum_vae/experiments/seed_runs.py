"""Does attention disentanglement help? FactorVAEs on paired seeds decide.

Every seed trains FactorVAE and its attention-disentangled variants from the same initial weights
on the same batches, so that a difference between two variants is that of the loss. One seed's
FactorVAE score has a standard deviation of about 0.065: a difference of 0.05 takes about 27 seeds.

Runs go to processes with one thread each: batching the seeds' parameters with ``torch.func.vmap``
instead turns convolutions into grouped ones, which cost more CPU time per seed (0.25 s against
0.16-0.23 s for a step of the VAE, four seeds, batch 64), and its functional gradients leave no
graph from which to take channel weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch

from captum_vae.data import DSprites
from captum_vae.experiments.seed_comparison import BASELINE, compare, comparison_table
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.work import read_record, write_record
from captum_vae.files import holding, write_json
from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.losses.options import Mode
from captum_vae.models import FactorDiscriminator, FactorVAE
from captum_vae.progress import stage
from captum_vae.provenance import Code, run_record
from captum_vae.training import AttentionTerm, FactorVAEObjective, Trainer
from captum_vae.training.logs import say
from captum_vae.training.model_scores import score_model
from captum_vae.training.random_state import seed_everything


def compare_seeds(
    experiments: Sequence[SeedRun], out: Path, processes: int, report_json: Path | None = None
) -> None:
    """Run what is not done yet, and write and print how the variants compare.

    Args:
        experiments: The runs, which differ in variant and seed alone.
        out: The folder of the runs and of results.json, which no other command may be writing to.
        processes: How many runs go on at the same time.
        report_json: A second file for the results.

    Raises:
        ValueError: A number is out of range, a finished run in ``out`` had other settings, or
            another command writes there.
    """
    started = time.perf_counter()
    with holding(out):
        runs = run_experiments(experiments, out, processes)
        settings = asdict(experiments[0])
        del settings["variant"], settings["seed"]
        results = {
            **run_record(torch.device(experiments[0].device)),
            "seconds": round(time.perf_counter() - started, 1),
            "settings": settings,
            "seeds": list(dict.fromkeys(experiment.seed for experiment in experiments)),
            **compare(runs),
            "runs": runs,
        }
        for path in (out / "results.json", *([report_json] if report_json else [])):
            write_json(path, results)
    say(comparison_table(results))
    say(f"results in {out / 'results.json'}")


def run_experiments(
    experiments: Sequence[SeedRun], out: Path, processes: int
) -> list[dict[str, Any]]:
    """Run what is not done yet, ``processes`` at a time; one flat row of numbers each, in order.

    Raises:
        ValueError: A finished run in ``out`` had other settings.
        DamagedFileError: What a finished run left in ``out`` cannot be read.
    """
    waiting = [experiment for experiment in experiments if _finished(experiment, out) is None]
    stage(f"{len(experiments) - len(waiting)} of {len(experiments)} runs are done")
    # A forked child would inherit the parent's thread pools, which then hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_experiment, e, out): e for e in waiting}
        try:
            for future in as_completed(futures):
                row = future.result()
                stage(f"{futures[future].name}: {_numbers(row)} after {row['seconds']:.0f} s")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    rows = [_finished(experiment, out) for experiment in experiments]
    return [row for row in rows if row is not None]


def run_experiment(experiment: SeedRun, out: Path) -> dict[str, Any]:
    """Train and score one FactorVAE, on one CPU thread, and write its result.json."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    code = Code.now()
    seed_everything(experiment.seed)
    # On the CPU this layout makes a step of this model a quarter faster.
    model = FactorVAE(experiment.latent_dims, output="logits").to(memory_format=torch.channels_last)
    objective = FactorVAEObjective(
        ELBO("bernoulli", scale="logits"),
        gamma=experiment.gamma,
        discriminator=FactorDiscriminator(experiment.latent_dims),
        learning_rate=experiment.learning_rate,
        discriminator_learning_rate=experiment.learning_rate,
        extra_terms=_extra_terms(experiment),
    )
    trainer = Trainer(
        steps=experiment.steps,
        batch_size=experiment.batch_size,
        seed=experiment.seed,
        accelerator=experiment.device,
        precision=experiment.precision,
        save_every=500,
        keep=1,
        progress="off",
    )
    data, folder = DSprites(), out / experiment.name
    result = trainer.fit(model, data, objective, out=folder)
    scores = score_model(
        model,
        data,
        metrics=experiment.metrics,
        protocol=experiment.protocol,
        samples=experiment.samples,
        seed=experiment.seed,
        device=experiment.device,
    )
    row = {
        "version": code.version,
        "commit": code.commit,
        "variant": experiment.variant,
        "seed": experiment.seed,
        **{s.name: _json_number(s.value) for s in scores.disentanglement.scores},
        "reconstruction_nats": round(scores.reconstruction, 4),
        "kl_nats": round(float(scores.active.kl.sum()), 4),
        "active_dimensions": scores.active.count,
        "final_losses": {name: round(value, 5) for name, value in result.losses.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_record(folder / "result.json", {"experiment": asdict(experiment), "row": row})
    return row


def _extra_terms(experiment: SeedRun) -> dict[str, AttentionTerm]:
    if experiment.variant == BASELINE:
        return {}
    loss = AttentionDisentanglementLoss(
        cast(Mode, experiment.variant),
        aggregation=experiment.aggregation,
        gate=experiment.gate,
        rectifier=experiment.rectifier,
    )
    term = AttentionTerm(loss, layer=experiment.layer, weight=experiment.weight)
    return {"attention_overlap": term}


def _finished(experiment: SeedRun, out: Path) -> dict[str, Any] | None:
    path = out / experiment.name / "result.json"
    if not path.is_file():
        return None
    stored = read_record(path, "the result of a finished run")
    wanted = json.loads(json.dumps(asdict(experiment)))
    # A run is not repeated because another device is at hand.
    done = {**stored["experiment"], "device": wanted["device"]}
    if done != wanted:
        changed = {k: v for k, v in done.items() if wanted.get(k) != v}
        raise ValueError(
            f"{path.parent} holds a run with other settings ({changed}); choose another out"
        )
    row: dict[str, Any] = stored["row"]
    return row


def _numbers(row: Mapping[str, Any]) -> str:
    names = ("factor_vae", "reconstruction_nats", "kl_nats", "active_dimensions")
    return ", ".join(f"{name} {row[name]:.3f}" for name in names if row.get(name) is not None)


def _json_number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
