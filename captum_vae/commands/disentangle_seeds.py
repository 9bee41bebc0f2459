"""``captum-vae disentangle-seeds``: FactorVAE with and without attention, on paired seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from captum_vae.attr.options import Rectifier
from captum_vae.checks import LARGEST_SEED, check_choice, checked_seed, whole_number
from captum_vae.experiments.seed_run import SeedRun, Variant
from captum_vae.losses.options import Aggregation, Gate
from captum_vae.training.configuration import (
    Accelerator,
    CudaGraph,
    Precision,
    ScoreName,
    VoteProtocolName,
)


def disentangle_seeds(
    *,
    out: str,
    seeds: int = 4,
    first_seed: int = 0,
    variants: Sequence[Variant] = ("factorvae", "paper", "normalised", "replication"),
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
    device: Accelerator = "auto",
    processes: int = 2,
    stacked: bool = False,
    cuda_graph: CudaGraph = "off",
    save_every: int = 500,
    report_json: str | None = None,
) -> None:
    """Train FactorVAE with and without attention disentanglement on paired seeds; compare.

    Run the same command again to continue; runs that have finished are not repeated.

    Args:
        out: Folder of the runs and of results.json.
        seeds: How many seeds each variant is trained on.
        first_seed: The first of them.
        variants: Variants to train: factorvae, and the modes paper, normalised, replication.
        steps: Optimizer steps of each run.
        batch_size: Images per step.
        gamma: Weight of the total correlation.
        weight: Lambda, the weight of the overlap.
        layer: Encoder layer of the maps.
        aggregation: How the overlap is aggregated over pairs of dimensions: mean or sum.
        rectifier: Rectifier of the maps, relu or abs; by default the one that each variant is made
            for.
        gate: With kl, collapsed dimensions are left out of the overlap.
        latent_dims: Number of latent dimensions.
        learning_rate: Learning rate of both optimizers.
        metrics: Metrics to score at the end of each run; dci takes minutes.
        protocol: Protocol of the votes.
        samples: Images encoded for the scores.
        precision: Precision of the training: float32, or bfloat16 for autocast, which halves a
            step's time on CPUs with AMX; scores are always float32.
        device: Where to run: auto, cpu or cuda.
        processes: How many runs go on at the same time, with one CPU thread each.
        stacked: Whether the seeds of a variant are trained together, in one process on a GPU and in
            as many as processes says on the CPU. Results and checkpoints are the same to rounding.
        cuda_graph: With on, a step of stacked runs is recorded as a CUDA graph and replayed.
        save_every: Steps between checkpoints; that of a run under way holds 67 MB, of which the
            model, which alone is kept in the end, is 2 MB.
        report_json: A second file for the results.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: A number or a name is out of range, or runs in ``out`` had other settings.
    """
    whole_number("seeds", seeds, least=1)
    checked_seed(first_seed, name="first_seed", most=LARGEST_SEED - seeds)
    whole_number("processes", processes, least=1)
    whole_number("save_every", save_every, least=1)
    check_choice("cuda_graph", cuda_graph, get_args(CudaGraph))
    if cuda_graph == "on" and not (stacked and device == "cuda"):
        raise ValueError("cuda_graph=on needs --stacked and --device cuda")
    for name, words in (("variants", variants), ("metrics", metrics)):
        if isinstance(words, str) or not isinstance(words, Sequence):
            raise TypeError(f"{name} is {words!r}; wanted a list")
        if not words:
            raise ValueError(f"{name} is empty; wanted at least one")
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
    from captum_vae.data.listing import as_path
    from captum_vae.experiments.seed_runs import Execution, compare_seeds

    report = as_path("report_json", report_json) if report_json else None
    execution = Execution(processes, stacked, cuda_graph, save_every)
    compare_seeds(experiments, as_path("out", out), execution, report)
