"""The processes that work together: which one this is, how many there are, what each one has."""

from typing import Any

import torch.distributed as dist


def rank() -> int:
    """The number of this process; 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def process_count() -> int:
    """How many processes there are; 1 where this one is alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(value: Any) -> list[Any]:
    """One ``value`` per process, by rank, on every process."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
