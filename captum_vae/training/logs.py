"""What a run tells while it goes: a JSONL file, TensorBoard on request, a progress bar."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from captum_vae.training.configuration import Logger, Progress

if TYPE_CHECKING:
    from torch import Tensor


class RunLog:
    """Averages each loss since the last line and writes the line; silent unless ``active``.

    Args:
        folder: where ``log.jsonl`` and ``tensorboard/`` go.
        start: the step the run starts at; later lines, of a run killed after its last
            checkpoint, are dropped so that every step appears once.
        stop: the step the run ends at.
        logger: ``"jsonl"``, or ``"tensorboard"`` for both.
        progress: ``"auto"`` shows the bar on a terminal only.
        active: False on all processes but the first.
    """

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
        """Open the files."""
        self.active = active
        self.last: dict[str, float] = {}
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._images = 0
        self._since = time.perf_counter()
        self._writer: Any = None
        hidden: bool | None = None if progress == "auto" else progress == "off"
        self._bar = tqdm(initial=start, total=stop, unit="step", disable=hidden if active else True)
        if active:
            path = folder / "log.jsonl"
            self.last = _truncate_log(path, start)
            self._file = open(path, "a", encoding="utf-8")
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
        if self.active:
            self._file.close()
        if self._writer is not None:
            self._writer.close()

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        """Count a step of ``images`` images in."""
        for name, value in losses.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._images += images
        self._bar.update()

    def write(self, step: int) -> None:
        """Write the means since the last line, after ``step`` steps."""
        if not self._steps:
            return
        means = {name: float(value) / self._steps for name, value in self._sums.items()}
        speed = self._images / (time.perf_counter() - self._since)
        self._sums, self._steps, self._images = {}, 0, 0
        self._since = time.perf_counter()
        self.last = means
        if not self.active:
            return
        line = {"step": step, **means, "images_per_second": round(speed, 1)}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._bar.set_postfix({name: f"{value:.4g}" for name, value in means.items()})
        if self._writer is not None:
            for name, value in means.items():
                self._writer.add_scalar(name, value, step)


def say(message: str, *, active: bool = True) -> None:
    """Print a message for the person at the terminal, clear of the progress bar."""
    if active:
        tqdm.write(message, file=sys.stdout)
        sys.stdout.flush()


def _truncate_log(path: Path, step: int) -> dict[str, float]:
    """Keep whole lines up to ``step``; return the losses of the last one."""
    if not path.exists():
        return {}
    kept, last = [], {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # a line cut short when the run was killed
        if entry["step"] <= step:
            kept.append(line + "\n")
            last = entry
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)
    return {name: value for name, value in last.items() if name not in _NOT_LOSSES}


_NOT_LOSSES = ("step", "images_per_second")


def _tensorboard_writer(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError("logger='tensorboard' needs: pip install tensorboard") from error
    return SummaryWriter(str(folder), purge_step=start)
