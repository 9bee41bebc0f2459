"""What a run tells while it goes: a JSONL file, TensorBoard on request, a progress bar."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from captum_vae.files import write_text
from captum_vae.progress import Pace, Progress, hides_bar, stage
from captum_vae.training.configuration import Logger

if TYPE_CHECKING:
    from torch import Tensor


class RunLog:
    """Averages each loss since the last line and writes the line; silent unless ``active``."""

    def __init__(
        self,
        folder: Path,
        *,
        start: int,
        stop: int,
        logger: Logger = "jsonl",
        progress: Progress = "auto",
        active: bool = True,
    ) -> None:
        """Open the files.

        Args:
            folder: Where ``log.jsonl`` and ``tensorboard/`` go.
            start: The step the run starts at; later lines, of a run killed after its last
                checkpoint, are dropped so that every step appears once.
            stop: The step the run ends at.
            logger: ``"jsonl"``, or ``"tensorboard"`` for both.
            progress: ``"auto"`` shows the bar on a terminal only.
            active: False on all processes but the first.
        """
        self.active = active
        self.last: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._images = 0
        self._since = time.perf_counter()
        self._writer: Any = None
        self._lines: _Lines | None = None
        self._stop = stop
        self._done = start
        self._pace = Pace()
        hidden = hides_bar(progress)
        self._bar = tqdm(initial=start, total=stop, unit="step", disable=hidden if active else True)
        if active:
            path = folder / "log.jsonl"
            self.last = _truncate_log(path, start)
            self._lines = _Lines(path)
            if logger == "tensorboard":
                self._writer = _tensorboard_writer(folder / "tensorboard", start)

    def __enter__(self) -> RunLog:
        """The log itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the files and the bar."""
        self._bar.close()
        if self._lines is not None:
            self._lines.close()
        if self._writer is not None:
            self._writer.close()

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        """Count a step of ``images`` images in."""
        for name, value in losses.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._images += images
        self._done += 1
        self._bar.update()
        seconds = self._pace.due() if self.active else None
        if seconds is not None:
            losses_so_far = ", ".join(f"{name} {value:.4g}" for name, value in self.last.items())
            stage(
                f"training: {self._done} of {self._stop} steps after {seconds:.0f} s"
                + (f" ({losses_so_far})" if losses_so_far else "")
            )

    def write(self, step: int) -> None:
        """Write the means since the last line, after ``step`` steps."""
        if not self._steps:
            return
        means = {name: float(value) / self._steps for name, value in self._sums.items()}
        speed = self._images / (time.perf_counter() - self._since)
        self._sums, self._steps, self._images = {}, 0, 0
        self._since = time.perf_counter()
        self.last = means
        if self._lines is None:
            return
        line = {"step": step, **means, "images_per_second": round(speed, 1)}
        self._lines.append(json.dumps(line) + "\n")
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()})
        if self._writer is not None:
            for name, value in means.items():
                self._writer.add_scalar(name, value, step)


class _Lines:
    """A file that grows by whole lines, also on a disk that is full for a while."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting = b""
        self._warned = False
        self._file = open(path, "ab", buffering=0)

    def append(self, line: str) -> None:
        """Add a line; one that the disk refuses waits for the next, and training goes on."""
        self._waiting += line.encode()
        size = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(self._waiting)
            if written != len(self._waiting):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._waiting = b""
        except OSError as error:
            os.ftruncate(self._file.fileno(), size)
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"could not write {self.path} ({error.strerror}); its lines so far are whole, "
                    "and the new ones follow when there is space",
                    stacklevel=4,
                )

    def close(self) -> None:
        """Try the lines that still wait once more, and close the file."""
        if self._waiting:
            self.append("")
        self._file.close()


def say(message: str, *, active: bool = True) -> None:
    """Print a message for the person at the terminal, clear of the progress bar."""
    if active:
        tqdm.write(message, file=sys.stdout)
        sys.stdout.flush()


def _truncate_log(path: Path, step: int) -> dict[str, float]:
    """Keep whole lines up to ``step``; return the losses of the last one."""
    if not path.exists():
        return {}
    kept: list[str] = []
    last: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line cut short when the run was killed
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            continue
        if entry["step"] <= step:
            kept.append(line + "\n")
            last = entry
    write_text(path, "".join(kept))
    return {name: value for name, value in last.items() if name not in _NOT_LOSSES}


_NOT_LOSSES = ("step", "images_per_second")


def _tensorboard_writer(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("logger='tensorboard' needs: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=start)
