"""``captum-vae disentangle-seeds``: does attention disentanglement help? Paired seeds decide.

Every seed trains FactorVAE and its attention-disentangled variants from the same initial weights
on the same batches, so that a difference between two variants is that of the loss. One seed's
FactorVAE score has a standard deviation of about 0.065: a difference of 0.05 takes about 27 seeds.

Runs go to processes with one thread each: batching the seeds' parameters with ``torch.func.vmap``
instead turns convolutions into grouped ones, which cost more CPU time per seed (0.25 s against
0.16-0.23 s for a step of the VAE, four seeds, batch 64), and its functional gradients leave no
graph from which to take channel weights.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, cast

import torch

from captum_vae.attr.options import Rectifier
from captum_vae.data import DSprites
from captum_vae.experiments.seed_comparison import BASELINE, compare, comparison_table
from captum_vae.experiments.work import write_json
from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.losses.options import Aggregation, Gate, Mode
from captum_vae.models import FactorDiscriminator, FactorVAE
from captum_vae.provenance import Code, run_record
from captum_vae.training import AttentionTerm, FactorVAEObjective, Trainer
from captum_vae.training.configuration import Precision, ScoreName, VoteProtocolName
from captum_vae.training.logs import say
from captum_vae.training.model_scores import score_model
from captum_vae.training.random_state import seed_everything

Variant = Literal["factorvae", "paper", "normalised", "replication"]
VARIANTS: tuple[Variant, ...] = ("factorvae", "paper", "normalised", "replication")


@dataclass(frozen=True)
class SeedRun:
    """One FactorVAE, trained and scored.

    Attributes:
        variant: ``factorvae``, or the mode of the attention disentanglement added to it.
        seed: of weights, batches and votes.
        steps: optimizer steps.
        batch_size: images per step, and as many again for the discriminator.
        gamma: weight of the total correlation.
        weight: lambda, weight of the overlap.
        layer: encoder layer of the maps.
        aggregation: of the overlap over pairs.
        gate: of the overlap.
        latent_dims: D.
        learning_rate: of both optimizers.
        metrics: to score.
        protocol: of the votes.
        samples: images encoded for the scores.
        precision: of training; scores are always float32.
        device: cpu or cuda.
        rectifier: of the maps; None takes the one that the variant's mode is made for.
    """

    variant: Variant
    seed: int
    steps: int
    batch_size: int
    gamma: float
    weight: float
    layer: str
    aggregation: Aggregation
    gate: Gate
    latent_dims: int
    learning_rate: float
    metrics: tuple[str, ...]
    protocol: VoteProtocolName
    samples: int
    precision: Precision
    device: Literal["cpu", "cuda"]
    rectifier: Rectifier | None = None

    @property
    def name(self) -> str:
        """Folder of the run."""
        return f"{self.variant}/seed_{self.seed}"


def disentangle_seeds(
    *,
    out: str,
    seeds: int = 4,
    first_seed: int = 0,
    variants: Sequence[Variant] = VARIANTS,
    steps: int = 5000,
    batch_size: int = 64,
    gamma: float = 40.0,
    weight: float = 1.0,
    layer: str = "encoder.conv4",
    aggregation: Aggregation = "mean",
    rectifier: Rectifier | None = None,
    gate: Gate = "none",
    latent_dims: int = 32,
    learning_rate: float = 1e-4,
    metrics: Sequence[ScoreName] = ("factor_vae", "mig", "sap", "modularity"),
    protocol: VoteProtocolName = "publish",
    samples: int = 50_000,
    precision: Precision = "float32",
    device: Literal["cpu", "cuda"] = "cpu",
    processes: int = 2,
    report_json: str | None = None,
) -> None:
    """Train FactorVAE with and without attention disentanglement on paired seeds; compare.

    Run the same command again to continue; runs that have finished are not repeated.

    Args:
        out: folder of the runs and of results.json.
        seeds: how many.
        first_seed: the first of them.
        variants: factorvae, and the modes paper, normalised, replication.
        steps: optimizer steps of each run.
        batch_size: images per step.
        gamma: weight of the total correlation.
        weight: lambda, weight of the overlap.
        layer: encoder layer of the maps.
        aggregation: of the overlap over pairs.
        rectifier: relu or abs; by default the one that each variant is made for.
        gate: kl leaves collapsed dimensions out of the overlap.
        latent_dims: number of latent dimensions.
        learning_rate: of both optimizers.
        metrics: to score at the end of each run; dci takes minutes.
        protocol: of the votes.
        samples: images encoded for the scores.
        precision: of training: float32, or bfloat16 for autocast, which halves a step's time on
            CPUs with AMX; scores are always float32.
        device: cpu or cuda.
        processes: runs at the same time, with one CPU thread each.
        report_json: also write the results to this file.

    Raises:
        ValueError: a number or a name out of range, or runs in ``out`` with other settings.
    """
    if seeds < 1 or processes < 1:
        raise ValueError(f"seeds is {seeds} and processes {processes}; wanted at least 1 of each")
    started = time.perf_counter()
    experiments = [
        SeedRun(
            variant=variant,
            seed=seed,
            steps=steps,
            batch_size=batch_size,
            gamma=gamma,
            weight=weight,
            layer=layer,
            aggregation=aggregation,
            gate=gate,
            latent_dims=latent_dims,
            learning_rate=learning_rate,
            metrics=tuple(metrics),
            protocol=protocol,
            samples=samples,
            precision=precision,
            device=device,
            rectifier=rectifier,
        )
        for seed in range(first_seed, first_seed + seeds)
        for variant in variants
    ]
    runs = run_experiments(experiments, Path(out), processes)
    settings = asdict(experiments[0])
    del settings["variant"], settings["seed"]
    results = {
        **run_record(torch.device(device)),
        "seconds": round(time.perf_counter() - started, 1),
        "settings": settings,
        "seeds": list(range(first_seed, first_seed + seeds)),
        **compare(runs),
        "runs": runs,
    }
    for path in [Path(out) / "results.json", *([Path(report_json)] if report_json else [])]:
        write_json(path, results)
    say(comparison_table(results))
    say(f"results in {Path(out) / 'results.json'}")


def run_experiments(
    experiments: Sequence[SeedRun], out: Path, processes: int
) -> list[dict[str, Any]]:
    """Run what is not done yet, ``processes`` at a time; one flat row of numbers each, in order.

    Raises:
        ValueError: a finished run in ``out`` had other settings.
    """
    waiting = [experiment for experiment in experiments if _finished(experiment, out) is None]
    say(f"{len(experiments) - len(waiting)} of {len(experiments)} runs are done")
    # A forked child would inherit the parent's thread pools, which then hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(run_experiment, e, out): e for e in waiting}
        try:
            for future in as_completed(futures):
                row = future.result()
                say(f"{futures[future].name}: {_numbers(row)} after {row['seconds']:.0f} s")
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
    write_json(folder / "result.json", {"experiment": asdict(experiment), "row": row})
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
    stored = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(asdict(experiment)))
    # Runs from before it could be chosen took the rectifier of their variant. A run is not repeated
    # because another device is at hand.
    done = {"rectifier": None, **stored["experiment"], "device": wanted["device"]}
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
