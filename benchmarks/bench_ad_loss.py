"""What attention disentanglement adds to a training step: AD-FactorVAE against FactorVAE.

    python -m benchmarks.bench_ad_loss [--rounds 15] [--device cuda] [--out FILE]

A step is the whole of it: both forwards, the ELBO, total correlation, all 496 pairs of maps with
the exact gradient, the discriminator, both backward passes and both Adams, at D = 32 and batch 64.
Every round times FactorVAE right before each variant; the ratio is the median over rounds of the
two neighbours' quotient. Prints a table and one JSON object.

Then the overlap of all pairs alone, forward and backward: one sort (``normalised``) and L1
distances (``paper``), with the broadcast minimum of all pairs beside them.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.machine import describe_machine
from benchmarks.pairing import PairedTimer, spread, timed
from captum_vae.attr import watch_forward
from captum_vae.data import DSprites
from captum_vae.losses import ELBO, AttentionDisentanglementLoss
from captum_vae.losses.attention_disentanglement import all_minima, sum_of_all_minima
from captum_vae.models import FactorDiscriminator, FactorVAE
from captum_vae.provenance import command, commit
from captum_vae.training import AttentionTerm, FactorVAEObjective

DIMS, BATCH = 32, 64
LAYERS = ("conv4", "relu4", "conv3", "conv2", "conv1")
MODES = ("normalised", "paper", "replication")
LIMIT = 1.3


def training_step(images: Tensor, variant: tuple[str, str] | None) -> Callable[[], None]:
    """One step of FactorVAE, with the mode and layer of ``variant`` added."""
    torch.manual_seed(0)
    model = FactorVAE(DIMS, output="logits").to(images.device)
    terms = {}
    if variant is not None:
        mode, layer = variant
        terms["overlap"] = AttentionTerm(
            AttentionDisentanglementLoss(mode), layer=f"encoder.{layer}"
        )
    objective = FactorVAEObjective(
        ELBO("bernoulli", scale="logits"),
        gamma=40.0,
        discriminator=FactorDiscriminator(DIMS),
        extra_terms=terms,
    ).to(images.device)
    optimizers = objective.optimizers(model)

    def step() -> None:
        losses = objective(model, images, 0)
        for name, optimizer in optimizers.items():
            optimizer.zero_grad()
            losses[name].backward()
            optimizer.step()

    return step


def step_ratios(images: Tensor, rounds: int, device: str) -> dict[str, dict]:
    """Variant -> seconds of its step, and its ratio to FactorVAE's."""
    plain = training_step(images, None)
    results = {}
    for variant in [("normalised", layer) for layer in LAYERS] + [
        (mode, layer) for mode in MODES[1:] for layer in ("conv4", "conv1")
    ]:
        timer = PairedTimer(training_step(images, variant), {"factorvae": plain}, device)
        last = variant[1] in ("conv4", "relu4")
        for _ in range(2):  # warm-up
            plain(), timer.call()
        timer.run_rounds(rounds if last else max(3, rounds // 4))
        results["/".join(variant)] = {
            "seconds": spread(timer.seconds),
            "factorvae_seconds": spread(timer.reference_seconds["factorvae"]),
            "ratio": timer.ratios()["factorvae"],
            "path": path_of(images, variant[1]),
        }
    return results


def path_of(images: Tensor, layer: str) -> str:
    """How the channel weights of the layer are computed."""
    model = FactorVAE(DIMS).to(images.device)
    with watch_forward(model, f"encoder.{layer}") as watched:
        mean = model(images[:2])[1]
    return watched.plan(mean).path


def pair_seconds(device: str) -> dict[str, dict[str, float]]:
    """Positions -> seconds of all pairs' minima, forward and backward."""

    def broadcast(maps: Tensor) -> Tensor:
        first, second = torch.triu_indices(DIMS, DIMS, 1, device=maps.device)
        return torch.minimum(maps[:, first], maps[:, second]).sum(2)

    ways = {"one sort": sum_of_all_minima, "L1 distances": all_minima, "broadcast": broadcast}
    results: dict[str, dict[str, float]] = {}
    for positions in (16, 64, 256):
        maps = torch.rand(BATCH, DIMS, positions, device=device, requires_grad=True)
        for name, way in ways.items():

            def call(way: Callable[[Tensor], Tensor] = way, maps: Tensor = maps) -> None:
                torch.autograd.grad(way(maps).sum(), maps)

            call()
            seconds = spread([timed(call, device) for _ in range(7)])["median"]
            results.setdefault(str(positions), {})[name] = seconds
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the JSON to this file")
    options = parser.parse_args()
    images = DSprites().images(torch.arange(2 * BATCH) * 5003).to(options.device)
    steps = step_ratios(images, options.rounds, options.device)
    report = {
        "command": command(),
        "commit": commit(),
        "machine": {"device": options.device, **describe_machine()},
        "setting": {"dims": DIMS, "pairs": DIMS * (DIMS - 1) // 2, "batch": BATCH},
        "steps": steps,
        "all_pairs_seconds": pair_seconds(options.device),
        "limit": LIMIT,
        "within_limit": {
            name: steps[name]["ratio"]["median"] <= LIMIT for name in steps if "4" in name
        },
    }
    print("| mode / layer | path | AD-FactorVAE [s] | FactorVAE [s] | ratio | lowest, highest |")
    print("|---|---|---|---|---|---|")
    for name, row in steps.items():
        ratio = row["ratio"]
        print(
            f"| {name} | {row['path']} | {row['seconds']['median']:.3f} "
            f"| {row['factorvae_seconds']['median']:.3f} | {ratio['median']:.2f} "
            f"| {ratio['low']:.2f}, {ratio['high']:.2f} |"
        )
    text = json.dumps(report, indent=2)
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
