"""What goes wrong in the processes that load images for a DataLoader, said in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def is_of_a_dead_loader(error: Exception) -> bool:
    """Whether PyTorch raised ``error`` because a process that loads batches died.

    It raises in whatever the main thread does when the signal of the death arrives.
    """
    return isinstance(error, RuntimeError) and "DataLoader worker (pid" in str(error)


@contextmanager
def naming_dead_loaders() -> Iterator[None]:
    """Say in one line that a process that loads images died inside the block.

    Raises:
        ChildProcessError: One did.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_of_a_dead_loader(error):
            raise
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise ChildProcessError(
            f"a process that loads images died ({reason}), often for want of memory: free some, "
            "or use fewer workers (workers=0 starts none), and run again"
        ) from error


def loaded(batches: Iterable[Any]) -> Iterator[Any]:
    """Go through batches; what their loader's processes raise comes without a traceback.

    PyTorch puts the other process's traceback into the message, and makes a RuntimeError of an
    error whose constructor wants more than a message.

    Args:
        batches: A DataLoader, or any other batches.

    Raises:
        Exception: What was raised there, of its own kind where that can be, else a ValueError.
    """
    try:
        yield from batches
    except Exception as error:
        text = str(error)
        caught = re.match(r"Caught (\w+) in DataLoader worker process", text)
        if caught is None:
            raise
        words = re.split(rf"\n(?:[\w.]+\.)?{caught[1]}(?:: |$)", text)[-1].strip() or caught[1]
        kind = type(error) if type(error).__name__ == caught[1] else ValueError
        raise kind(words) from error
