"""A run that many tests look at, and tests/training/small_run.py as a process of its own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.small_run import train

SCRIPT = Path(__file__).with_name("small_run.py")
REPOSITORY = SCRIPT.parents[2]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 14 steps with checkpoints after 7 and 14; only to be read."""
    out = tmp_path_factory.mktemp("finished")
    train(str(out), {"steps": 14})
    return out


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def start() -> Callable[..., "subprocess.Popen[str]"]:
    """``start(out, processes=1, **options)``: the process, stdout and stderr in one pipe."""

    def start(out: Path, *, processes: int = 1, **options: Any) -> "subprocess.Popen[str]":
        launcher = [sys.executable]
        if processes > 1:
            torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            launcher += [*torchrun, str(processes)]
        arguments = [f"{name}={value}" for name, value in options.items()]
        path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(
            [*launcher, str(SCRIPT), str(out), *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start
