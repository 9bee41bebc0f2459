"""The active dimensions of a model over a data set, on every process's share of it."""

import math
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from captum_vae.metrics.active_dimensions import ActiveDimensionAccumulator, ActiveDimensions
from captum_vae.training.batches import BatchOrder, SeededImages, load_batches
from captum_vae.training.devices import total


def measure_active_dimensions(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    batch_size: int = 64,
    images: int = 2000,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> ActiveDimensions:
    """Per-dimension KL and spread of the posterior over a data set, in eval mode.

    Args:
        model: ``encode(images)`` gives mean and log-variance; left in the mode it came in.
        dataset: yields images, see :func:`captum_vae.training.batches.image_of`.
        device: where the model lies.
        batch_size: images per process and forward pass.
        images: how many images at most, drawn without replacement under a fixed seed.
        workers: processes that load.
        rank: of this process.
        world_size: number of processes; the result is that of all their shares.

    Returns:
        The same statistics on every process.
    """
    length: int = len(dataset)  # type: ignore[arg-type]
    wanted = min(images, length)
    # Equal batches keep the processes in step; at most steps - 1 images are left out.
    steps = math.ceil(wanted / (batch_size * world_size))
    order = BatchOrder(
        length,
        batch_size=max(wanted // steps, world_size),
        seed=0,
        start=0,
        stop=steps,
        rank=rank,
        world_size=world_size,
    )
    accumulator = ActiveDimensionAccumulator()
    was_training = model.training
    model.eval()
    encode: Any = model.encode
    loader = load_batches(
        SeededImages(dataset, seed=0, rank=rank), order, workers=workers, device=device
    )
    with torch.no_grad():
        for batch in loader:
            mean, log_variance = encode(batch.to(device))[:2]
            accumulator.update(mean, log_variance)
    model.train(was_training)
    if accumulator.sums is not None:
        accumulator.sums = total(accumulator.sums)
    return accumulator.compute()
