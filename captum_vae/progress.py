"""Progress bars of passes over data: the option that users give, and what wraps the batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

Progress = Literal["auto", "on", "off"] | bool
"""Whether a bar is shown; "auto" shows it on a terminal only. YAML reads on and off as a bool."""

ProgressBar = Callable[[Iterable[Any], str], Iterable[Any]]
"""Wraps batches under a title; going through the result moves the bar."""


def progress_bar(progress: Progress) -> ProgressBar:
    """The bar that the option asks for.

    Args:
        progress: "auto", "on" or "off", or whether it is on.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(progress, bool) and progress not in ("auto", "on", "off"):
        raise ValueError(f"progress={progress!r} is not known; choose one of auto, on, off")
    hidden = None if progress == "auto" else progress in ("off", False)

    def wrap(batches: Iterable[Any], title: str) -> Iterable[Any]:
        from tqdm import tqdm

        return tqdm(batches, desc=title, unit="batch", disable=hidden, leave=False)

    return wrap
