"""What trainings will cost, measured on a few steps of each kind before any of them starts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from captum_vae.provenance import peak_memory
from captum_vae.training.batches import BatchOrder, SeededImages
from captum_vae.training.configuration import Precision
from captum_vae.training.objectives import VAEObjective
from captum_vae.training.random_state import isolated_randomness

_STEPS = 2
"""Steps that are timed, after one that is not."""


@dataclass(frozen=True)
class StepCost:
    """What one training step takes.

    Attributes:
        seconds: Wall time of a step, reading its images included.
        memory: Peak memory of the process in bytes, or of the device where that is CUDA; None on
            systems that do not tell.
    """

    seconds: float
    memory: int | None


@dataclass(frozen=True)
class Planned:
    """Trainings of one kind that are still to be done.

    Attributes:
        count: How many there are.
        steps: The optimizer steps of each.
        cost: What a step takes.
    """

    count: int
    steps: int
    cost: StepCost


def step_cost(
    model: nn.Module,
    dataset: Dataset[Any],
    objective: VAEObjective,
    *,
    images: int,
    batch_size: int,
    device: torch.device,
    precision: Precision = "float32",
) -> StepCost:
    """Train a model for three steps, the first of them not timed; no random state is changed.

    Args:
        model: The model, whose weights change; it is not needed afterwards.
        dataset: What it is trained on.
        objective: What is minimised.
        images: The length of the data set.
        batch_size: Images per step.
        device: Where to train.
        precision: The precision of the forward pass.
    """
    order = BatchOrder(
        images,
        batch_size=batch_size * objective.batches_per_step,
        seed=0,
        start=0,
        stop=_STEPS + 1,
    )
    reader = SeededImages(dataset, seed=0)
    model, objective = model.to(device).train(), objective.to(device)
    optimizers = objective.optimizers(model)
    autocast: Any = nullcontext()
    if precision == "bfloat16":
        autocast = torch.autocast(device.type, torch.bfloat16)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    started = 0.0
    with isolated_randomness(0):
        for step, keys in enumerate(order):
            if step == 1:
                _wait(device)
                started = time.perf_counter()
            batch = reader.batch(keys).to(device)
            with autocast:
                losses = objective(model, batch, step)
            for name, optimizer in optimizers.items():
                optimizer.zero_grad(set_to_none=True)
                losses[name].backward()
                optimizer.step()
        _wait(device)
    seconds = (time.perf_counter() - started) / _STEPS
    return StepCost(seconds, _peak_memory(device))


def announcement(
    planned: Iterable[Planned], done: int, device: torch.device, processes: int = 1
) -> str:
    """The plan in a line: how many trainings, how long they will take, how much memory.

    Args:
        planned: What is still to be done, by kind.
        done: How many trainings are kept from earlier calls.
        device: Where the trainings go.
        processes: How many trainings go on at the same time.
    """
    kinds: Sequence[Planned] = list(planned)
    count = sum(kind.count for kind in kinds)
    kept = f"; {done} are kept from before" if done else ""
    if not count:
        return f"0 trainings to do{kept}"
    steps = sum(kind.count * kind.steps for kind in kinds)
    seconds = sum(kind.count * kind.steps * kind.cost.seconds for kind in kinds)
    at_once = min(processes, count)
    known = [kind.cost.memory for kind in kinds if kind.cost.memory is not None]
    memory = f" and {max(known) * at_once / 1e9:.1f} GB of its memory" if known else ""
    together = f", {at_once} at a time" if at_once > 1 else ""
    return (
        f"{count} trainings to do, {steps:,} steps in all{together}: about "
        f"{_duration(seconds / at_once)} on {device.type}{memory}, by {_STEPS} "
        f"steps of each kind; measuring comes on top{kept}"
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def _peak_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_memory()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
