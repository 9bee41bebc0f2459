"""Does attention disentanglement help? FactorVAEs on paired seeds decide.

Every seed trains FactorVAE and its attention-disentangled variants from the same initial weights
on the same batches, so that a difference between two variants is that of the loss. One seed's
FactorVAE score has a standard deviation of about 0.065: a difference of 0.05 takes about 27 seeds.

Runs go to processes with one thread each. Seeds of a variant can be trained in one process instead
(:mod:`captum_vae.training.stacked`), which saves a third of a step's time on the CPU. On a GPU
a step of many seeds then launches no more kernels than one of a single seed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from captum_vae.data import DSprites
from captum_vae.experiments.cost import Planned, StepCost, announcement, step_cost
from captum_vae.experiments.seed_comparison import BASELINE, compare, comparison_table
from captum_vae.experiments.seed_run import FactorInitialization, SeedRun
from captum_vae.experiments.work import read_record, write_record
from captum_vae.files import check_writable, holding, write_json
from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.losses.options import Mode
from captum_vae.models import FactorDiscriminator, FactorVAE
from captum_vae.progress import stage
from captum_vae.provenance import Code, run_record
from captum_vae.training import AttentionTerm, FactorVAEObjective, Trainer, TrainingResult
from captum_vae.training.checkpoint import keep_model_alone
from captum_vae.training.configuration import CudaGraph, TrainerConfig
from captum_vae.training.devices import chosen_device
from captum_vae.training.logs import say
from captum_vae.training.model_scores import score_model
from captum_vae.training.random_state import isolated_randomness, seed_everything
from captum_vae.training.stacked import StackedRun, fit_stacked


@dataclass(frozen=True)
class Execution:
    """How runs are carried out, which does not change what they find.

    Attributes:
        processes: How many processes train at the same time, with one CPU thread each.
        stacked: Whether the seeds of a variant are trained together: in one process for all of them
            on a GPU, and in ``processes`` of them on the CPU.
        cuda_graph: Whether a step of stacked runs is recorded as a CUDA graph and replayed.
        save_every: Steps between checkpoints.
    """

    processes: int = 2
    stacked: bool = False
    cuda_graph: CudaGraph = "off"
    save_every: int = 500


def compare_seeds(
    experiments: Sequence[SeedRun],
    out: Path,
    execution: Execution,
    report_json: Path | None = None,
) -> None:
    """Run what is not done yet, and write and print how the variants compare.

    Args:
        experiments: The runs, which differ in variant and seed alone.
        out: The folder of the runs and of results.json, which no other command may be writing to.
        execution: How the runs are carried out.
        report_json: A second file for the results.

    Raises:
        ValueError: A number is out of range, a finished run in ``out`` had other settings, or
            another command writes there.
    """
    started = time.perf_counter()
    if report_json is not None:
        check_writable(report_json, "report_json")
    with holding(out):
        runs = run_experiments(experiments, out, execution)
        settings = asdict(experiments[0])
        del settings["variant"], settings["seed"]
        results = {
            **run_record(chosen_device(experiments[0].device)),
            "seconds": round(time.perf_counter() - started, 1),
            "settings": settings,
            "stacked": execution.stacked,
            "seeds": list(dict.fromkeys(experiment.seed for experiment in experiments)),
            **compare(runs),
            "runs": runs,
        }
        for path in (out / "results.json", *([report_json] if report_json else [])):
            write_json(path, results)
    say(comparison_table(results))
    say(f"results in {out / 'results.json'}")


def run_experiments(
    experiments: Sequence[SeedRun], out: Path, execution: Execution
) -> list[dict[str, Any]]:
    """Run what is not done yet; one flat row of numbers each, in order.

    Raises:
        ValueError: A finished run in ``out`` had other settings.
        DamagedFileError: What a finished run left in ``out`` cannot be read.
    """
    *_, finished = run_grid({out: experiments}, execution)
    return [row for _, row in finished]


Finished = list[tuple[SeedRun, dict[str, Any]]]
"""Runs with their rows."""


def run_grid(folders: Mapping[Path, Sequence[SeedRun]], execution: Execution) -> Iterator[Finished]:
    """Run what is not done yet, some at a time, and say beforehand what it will take.

    Args:
        folders: The runs by the folder that they go to.
        execution: How the runs are carried out.

    Yields:
        The runs that have finished so far, in order: once at first if there are some, and after
        every share of runs that finishes.

    Raises:
        ValueError: A finished run had other settings.
        DamagedFileError: What a finished run left cannot be read.
    """
    runs = [(experiment, out) for out, of_folder in folders.items() for experiment in of_folder]
    done = {place: row for place, run in enumerate(runs) if (row := _finished(*run)) is not None}
    waiting = [run for place, run in enumerate(runs) if place not in done]
    stage(f"{len(done)} of {len(runs)} runs are done")
    _announce([experiment for experiment, _ in waiting], len(done), execution.processes)
    if done:
        yield [(runs[place][0], done[place]) for place in sorted(done)]
    if not waiting:
        return
    shares = [([experiment], out) for experiment, out in waiting]
    if execution.stacked:
        shares = [
            (share, out)
            for out in folders
            for share in _shares([e for e, at in waiting if at == out], execution.processes)
        ]
    # A forked child would inherit the parent's thread pools, which then hang.
    with ProcessPoolExecutor(execution.processes, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(run_share, share, out, execution): (share, out) for share, out in shares
        }
        try:
            for future in as_completed(futures):
                share, out = futures[future]
                for experiment, row in zip(share, future.result(), strict=True):
                    done[runs.index((experiment, out))] = row
                    stage(f"{experiment.name}: {_numbers(row)} after {row['seconds']:.0f} s")
                yield [(runs[place][0], done[place]) for place in sorted(done)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _announce(waiting: Sequence[SeedRun], done: int, processes: int) -> None:
    """Say what runs will take, by a few steps of every variant, on one thread as they run."""
    if not waiting:
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        costs: dict[str, StepCost] = {}
        data = DSprites()
        for run in waiting:
            if run.variant not in costs:
                with isolated_randomness(run.seed):
                    costs[run.variant] = step_cost(
                        _model(run),
                        data,
                        _objective(run),
                        images=len(data),
                        batch_size=run.batch_size,
                        device=chosen_device(run.device),
                        precision=run.precision,
                    )
    finally:
        torch.set_num_threads(threads)
    planned = [Planned(1, run.steps, costs[run.variant]) for run in waiting]
    say(announcement(planned, done, chosen_device(waiting[0].device), processes))


def run_share(
    experiments: Sequence[SeedRun], out: Path, execution: Execution
) -> list[dict[str, Any]]:
    """Train and score FactorVAEs that differ in their seed alone, on one CPU thread.

    Args:
        experiments: The runs; one where they are not stacked.
        out: The folder below which each writes its result.json.
        execution: How the runs are carried out.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    code, data = Code.now(), DSprites()
    built = [build_run(experiment) for experiment in experiments]
    first = experiments[0]
    config = TrainerConfig(
        steps=first.steps,
        batch_size=first.batch_size,
        seed=first.seed,
        accelerator=first.device,
        precision=first.precision,
        save_every=execution.save_every,
        keep=1,
        progress="off",
    )
    if not execution.stacked:
        (model, objective) = built[0]
        results = [Trainer.of(config).fit(model, data, objective, out=out / first.name)]
    else:
        runs = [
            StackedRun(experiment.seed, model, objective, out / experiment.name)
            for experiment, (model, objective) in zip(experiments, built, strict=True)
        ]
        results = fit_stacked(runs, data, config, cuda_graph=execution.cuda_graph)
    trained = (time.perf_counter() - started) / len(experiments)
    return [
        _scored(experiment, model, result, data, code, out, trained)
        for experiment, (model, _), result in zip(experiments, built, results, strict=True)
    ]


def _shares(waiting: Sequence[SeedRun], processes: int) -> list[list[SeedRun]]:
    """Runs that differ in their seed alone, in one share on a GPU and one a process on the CPU."""
    kinds: dict[SeedRun, list[SeedRun]] = {}
    for experiment in waiting:
        kinds.setdefault(replace(experiment, seed=0), []).append(experiment)
    shares = []
    for alike in kinds.values():
        parts = 1 if chosen_device(alike[0].device).type == "cuda" else processes
        shares += [alike[i::parts] for i in range(parts)]
    return [share for share in shares if share]


def build_run(experiment: SeedRun) -> tuple[FactorVAE, FactorVAEObjective]:
    """The model of a run before its first step, and what it minimises."""
    seed_everything(experiment.seed)
    return _model(experiment), _objective(experiment)


def _scored(
    experiment: SeedRun,
    model: FactorVAE,
    result: TrainingResult,
    data: DSprites,
    code: Code,
    out: Path,
    trained: float,
) -> dict[str, Any]:
    """The row of a trained model, which is also written to its result.json."""
    started = time.perf_counter()
    scores = score_model(
        model,
        data,
        metrics=experiment.metrics,
        protocol=experiment.protocol,
        samples=experiment.samples,
        seed=experiment.seed,
        device=str(chosen_device(experiment.device)),
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
        "seconds": round(trained + time.perf_counter() - started, 1),
    }
    write_record(
        out / experiment.name / "result.json", {"experiment": asdict(experiment), "row": row}
    )
    # A finished run is not trained further, and many of them are kept.
    keep_model_alone(result.checkpoint)
    return row


def _model(experiment: SeedRun) -> FactorVAE:
    # On the CPU this layout makes a step of this model a quarter faster.
    model = FactorVAE(experiment.latent_dims, output="logits").to(memory_format=torch.channels_last)
    initialize(model, experiment.initialization)
    return model


def _objective(experiment: SeedRun) -> FactorVAEObjective:
    discriminator = FactorDiscriminator(experiment.latent_dims)
    initialize(discriminator, experiment.initialization)
    return FactorVAEObjective(
        ELBO("bernoulli", scale="logits"),
        gamma=experiment.gamma,
        discriminator=discriminator,
        learning_rate=experiment.learning_rate,
        discriminator_learning_rate=experiment.learning_rate,
        extra_terms=_extra_terms(experiment),
    )


def initialize(module: nn.Module, how: FactorInitialization) -> None:
    """Draw weights as the code that replication b adapted does; ``pytorch`` leaves them.

    Convolutions and Linear layers get normal weights, of standard deviation 0.02 or kaiming's for
    ReLU, and biases of 0; transposed convolutions stay as PyTorch drew them.
    """
    for layer in module.modules():
        if how != "pytorch" and isinstance(layer, (nn.Linear, nn.Conv2d)):
            if how == "normal":
                nn.init.normal_(layer.weight, 0.0, 0.02)
            else:
                nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


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
    # A run is not repeated because another device is at hand, and what runs did not know of when
    # they were made was as it is by default.
    later = {"initialization": "pytorch"}
    done = {**later, **stored["experiment"], "device": wanted["device"]}
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
