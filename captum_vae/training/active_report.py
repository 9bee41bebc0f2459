"""The active dimensions of a model over a data set, on every process's share of it."""

from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from captum_vae.metrics.activity import ActiveDimensionAccumulator, ActiveDimensions
from captum_vae.processes import gather
from captum_vae.training.batches import SeededImages, load_batches


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
        model: A VAE whose ``encode(images)`` gives mean and log-variance; it is left in the mode
            it came in.
        dataset: A data set of images, see :func:`captum_vae.training.batches.image_of`.
        device: The device of the model.
        batch_size: Images per process and forward pass.
        images: How many images to take at most, evenly spaced over the data set.
        workers: Processes that load images.
        rank: Number of this process.
        world_size: Number of processes; the result is that of all their shares.

    Returns:
        The same statistics on every process.
    """
    length: int = len(dataset)  # type: ignore[arg-type]
    wanted = min(images, length)
    indices = [i * length // wanted for i in range(wanted)][rank::world_size]
    starts = range(0, len(indices), batch_size)
    batches = [
        [(start, index) for index in indices[start : start + batch_size]] for start in starts
    ]
    accumulator = ActiveDimensionAccumulator()
    was_training = model.training
    model.eval()
    encode: Any = model.encode
    loader = load_batches(
        SeededImages(dataset, seed=0, rank=rank), batches, workers=workers, device=device
    )
    with torch.no_grad():
        for batch in loader:
            mean, log_variance = encode(batch.to(device))[:2]
            accumulator.update(mean, log_variance)
    model.train(was_training)
    shares = [sums for sums in gather(accumulator.sums) if sums is not None]
    accumulator.sums = torch.stack([sums.to(device) for sums in shares]).sum(0)
    return accumulator.compute()
