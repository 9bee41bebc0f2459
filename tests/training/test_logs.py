"""The log of a run: whole lines, also when it is killed or the disk is full."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.training import logs
from captum_vae.training.logs import RunLog


def log(folder: Path, steps: range) -> RunLog:
    """A log to which each step was written, with the step as its loss."""
    run = RunLog(folder, start=steps.start, stop=steps.stop, progress="off")
    with run:
        for step in steps:
            run.add({"loss": torch.tensor(float(step + 1))}, images=1)
            run.write(step + 1)
    return run


def steps_of(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def test_lines_after_the_step_that_a_run_resumes_at_are_dropped(tmp_path: Path) -> None:
    log(tmp_path, range(5))
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('7\n{"step": "x"}\n{"other": 1}\n\udcff\n{"step": 6, "lo'.replace("\udcff", "?"))
    resumed = RunLog(tmp_path, start=3, stop=5, progress="off")
    resumed.__exit__(None, None, None)
    assert steps_of(tmp_path) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert resumed.last == {"loss": 3.0}


class FullFor:
    """A file on a disk that takes half a line of some writes."""

    def __init__(self, file: Any, refused: range) -> None:
        self.file, self.refused, self.calls = file, refused, -1

    def fileno(self) -> int:
        return int(self.file.fileno())

    def close(self) -> None:
        self.file.close()

    def write(self, content: bytes) -> int:
        self.calls += 1
        if self.calls not in self.refused:
            return int(self.file.write(content))
        self.file.write(content[: len(content) // 2])
        if self.calls % 2:
            return len(content) // 2
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_whole_lines_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open
    monkeypatch.setattr(
        logs,
        "open",
        lambda *arguments, **options: FullFor(opened(*arguments, **options), range(2, 9)),
        raising=False,
    )
    with pytest.warns(UserWarning, match=r"could not write .*log.jsonl \(No space left") as caught:
        log(tmp_path, range(4))
    assert len(caught) == 1
    assert steps_of(tmp_path) == [(1, 1.0), (2, 2.0)]


def test_lines_that_waited_are_written_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open
    monkeypatch.setattr(
        logs,
        "open",
        lambda *arguments, **options: FullFor(opened(*arguments, **options), range(1, 4)),
        raising=False,
    )
    with pytest.warns(UserWarning, match="its lines so far are whole"):
        log(tmp_path, range(6))
    assert [step for step, _ in steps_of(tmp_path)] == [1, 2, 3, 4, 5, 6]
