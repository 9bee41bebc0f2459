"""Progress of passes over data: the option that users give, what wraps the batches, stage lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Progress = Literal["auto", "on", "off"] | bool
"""Whether a bar is shown; "auto" shows it on a terminal only. YAML reads on and off as a bool."""

ProgressBar = Callable[[Iterable[Any], str], Iterable[Any]]
"""Wraps batches under a title; going through the result moves the bar."""

_LOGGER = logging.getLogger("captum_vae")

_SECONDS_BETWEEN_LINES = 30.0


def progress_bar(progress: Progress) -> ProgressBar:
    """The bar that the option asks for.

    Every pass is also logged, by the logger ``captum_vae``: a line when it ends, and one every 30
    seconds until then.

    Args:
        progress: "auto", "on" or "off", or whether it is on.

    Raises:
        ValueError: It is something else.
    """
    check_progress(progress)
    hidden = None if progress == "auto" else progress in ("off", False)

    def wrap(batches: Iterable[Any], title: str) -> Iterable[Any]:
        from tqdm import tqdm

        bar = tqdm(batches, desc=title, unit="batch", disable=hidden, leave=False)
        return _logged(bar, title, _length(batches))

    return wrap


def check_progress(progress: object) -> None:
    """Refuse what is no :data:`Progress`.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(progress, bool) and progress not in ("auto", "on", "off"):
        raise ValueError(f"progress={progress!r} is not known; choose one of auto, on, off")


@contextmanager
def stage_lines(progress: Progress) -> Iterator[None]:
    """Print what is logged of each pass to standard error, with or without a terminal.

    Args:
        progress: With "off" or False, nothing is printed.
    """
    check_progress(progress)
    if progress in ("off", False):
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("captum-vae: %(message)s"))
    level = _LOGGER.level
    _LOGGER.addHandler(handler)
    _LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
        _LOGGER.setLevel(level)


def say(stage: str) -> None:
    """Log a line on a stage that is no pass over data."""
    _LOGGER.info(stage)


def _length(batches: Any) -> int | None:
    """How many batches there are; None where nobody knows before the end."""
    try:
        return len(batches)
    except TypeError:
        return None


def _logged(batches: Iterable[Any], title: str, total: int | None) -> Iterator[Any]:
    start = said = time.perf_counter()
    seen = 0
    for batch in batches:
        yield batch
        seen += 1
        now = time.perf_counter()
        if now - said > _SECONDS_BETWEEN_LINES:
            said = now
            of = "" if total is None else f" of {total}"
            _LOGGER.info("%s: %d%s batches after %.0f s", title, seen, of, now - start)
    _LOGGER.info("%s: %d batches in %.1f s", title, seen, time.perf_counter() - start)
