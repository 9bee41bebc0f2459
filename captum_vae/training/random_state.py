"""Every random generator a training step may draw from: saved, restored, and fenced in."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's global generator, and PyTorch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - users' augmentations draw from the global one
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """States of Python's, NumPy's, PyTorch's CPU and ``device``'s generators.

    Plain numbers and tensors only, so that a checkpoint loads without executing pickled code.
    """
    numpy_state: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    state = {
        "python": random.getstate(),
        "numpy_key": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "numpy": [
            int(numpy_state["state"]["pos"]),
            int(numpy_state["has_gauss"]),
            float(numpy_state["gauss"]),
        ],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what :func:`random_state` returned; ``device`` may lack a state of its own."""
    version, key, gauss = state["python"]
    random.setstate((version, tuple(key), gauss))
    position, has_gauss, cached_gaussian = state["numpy"]
    numpy_key = state["numpy_key"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        ("MT19937", numpy_key, position, has_gauss, cached_gaussian)
    )
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def isolated_randomness(*entropy: int) -> Iterator[None]:
    """Seed the CPU generators from ``entropy`` inside the block and put them back after it."""
    before = random_state(torch.device("cpu"))
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    # Not torch.manual_seed: it would seed the accelerators too, whose state is not put back.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before, torch.device("cpu"))
