"""What a run tells while it goes: bars and lines on standard error, and how much of them.

Results go to standard output, progress to standard error. What is told is also logged by the
logger ``captum_vae``, for programs that listen to it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

Progress = Literal["auto", "on", "off"] | bool
"""Whether a bar is shown; "auto" shows it on a terminal only. YAML reads on and off as a bool."""

ProgressBar = Callable[[Iterable[Any], str], Iterable[Any]]
"""Wraps batches under a title; going through the result moves the bar."""

_LOGGER = logging.getLogger("captum_vae")

_automatic: Progress = "auto"
"""What "auto" means for the command that runs; see :func:`reporting`."""


def check_progress(progress: object) -> None:
    """Refuse what is no :data:`Progress`.

    Raises:
        ValueError: It is something else.
    """
    if not isinstance(progress, bool) and progress not in ("auto", "on", "off"):
        raise ValueError(f"progress={progress!r} is not known; choose one of auto, on, off")


def hides_bar(progress: Progress) -> bool | None:
    """Whether a bar is hidden, as tqdm's ``disable`` takes it: None hides it off a terminal."""
    chosen = _automatic if progress == "auto" else progress
    return None if chosen == "auto" else chosen in ("off", False)


def progress_bar(progress: Progress) -> ProgressBar:
    """The bar that the option asks for.

    Every pass is also logged: a line when it ends, and one now and then until it does.

    Args:
        progress: "auto", "on" or "off", or whether it is on.

    Raises:
        ValueError: It is something else.
    """
    check_progress(progress)

    def wrap(batches: Iterable[Any], title: str) -> Iterable[Any]:
        from tqdm import tqdm

        bar = tqdm(batches, desc=title, disable=hides_bar(progress), leave=False)
        return _logged(bar, title, _length(batches))

    return wrap


def stage(message: str) -> None:
    """Log a line on a stage that is no pass over data."""
    _LOGGER.info(message)


def detail(message: str) -> None:
    """Log a line that ``--verbose`` alone prints."""
    _LOGGER.debug(message)


class Pace:
    """When the next line on one long piece of work is due: soon at first, then rarely."""

    def __init__(self) -> None:
        """The work begins."""
        self.start = time.perf_counter()
        self._next = self.start + 5.0

    def due(self) -> float | None:
        """Seconds since the start where a line is due, which counts it as told; else None."""
        now = time.perf_counter()
        if now < self._next:
            return None
        seconds = now - self.start
        self._next = now + min(60.0, max(5.0, seconds / 2))
        return seconds


@contextmanager
def reporting(
    progress: Progress = "auto", *, quiet: bool = False, verbose: bool = False
) -> Iterator[None]:
    """Print progress on standard error while a command runs.

    Under torchrun the first process alone tells anything.

    Args:
        progress: What "auto" means to all passes: bars on a terminal only, always ("on"), or
            neither bars nor lines ("off").
        quiet: Whether nothing is printed.
        verbose: Whether details are printed too.

    Raises:
        ValueError: The progress is not known, or it is to be both quiet and verbose.
    """
    global _automatic
    check_progress(progress)
    if quiet and verbose:
        raise ValueError("quiet and verbose are both chosen; wanted one of them at most")
    silent = quiet or progress in ("off", False) or os.environ.get("RANK", "0") != "0"
    before, level = _automatic, _LOGGER.level
    _automatic = "off" if silent else progress
    handler = _StandardError()
    if not silent:
        _LOGGER.addHandler(handler)
        _LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        _automatic = before
        if not silent:
            _LOGGER.removeHandler(handler)
            _LOGGER.setLevel(level)


class _StandardError(logging.Handler):
    """Lines on standard error, clear of the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line above whatever bar there is."""
        from tqdm import tqdm

        tqdm.write(f"captum-vae: {record.getMessage()}", file=sys.stderr)


def _length(batches: Any) -> int | None:
    """How many batches there are; None where nobody knows before the end."""
    try:
        return len(batches)
    except TypeError:
        return None


def _logged(batches: Iterable[Any], title: str, total: int | None) -> Iterator[Any]:
    pace = Pace()
    seen = 0
    for batch in batches:
        yield batch
        seen += 1
        seconds = pace.due()
        if seconds is not None:
            of = "" if total is None else f" of {total}"
            _LOGGER.info("%s: %d%s after %.0f s", title, seen, of, seconds)
    _LOGGER.info("%s: all %d in %.1f s", title, seen, time.perf_counter() - pace.start)
