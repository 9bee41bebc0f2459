"""Runs that are killed, interrupted or spread over processes end where an undisturbed one does."""

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.training.checkpoint import list_checkpoints, read_checkpoint

Start = Callable[..., "subprocess.Popen[str]"]

PAUSE = 0.004
"""Seconds per image: a step of 8 takes at least 32 ms, so signals land between steps 1 and 40."""


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def wait_for_checkpoint(out: Path, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not list_checkpoints(out / "checkpoints"):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_same_end(left: Path, right: Path) -> None:
    """Bit-identical weights, optimizer states, generators and logged losses."""
    a, b = read_checkpoint(left), read_checkpoint(right)
    assert a["step"] == b["step"] == 40
    for part in ("model", "objective", "optimizers", "random"):
        assert_equal(a[part], b[part], part)
    assert losses(left) == losses(right)


def assert_equal(a: Any, b: Any, where: str) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    else:
        assert a == b, where


def losses(out: Path) -> list[str]:
    lines = (out / "log.jsonl").read_text().splitlines()
    return [line.partition(', "images_per_second"')[0] for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, start: Start) -> Path:
    """The run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole")
    finish(start(out))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_run_killed_at_random_steps_ends_bit_identical(
    tmp_path: Path, start: Start, whole: Path, workers: int
) -> None:
    for attempt in range(3):
        out = tmp_path / f"killed_{attempt}"
        process = start(out, workers=workers, pause=PAUSE)
        wait_for_checkpoint(out, process)
        time.sleep(random.Random(f"{attempt} {workers}").uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        killed_after = read_checkpoint(out)["step"]
        assert killed_after < 40, "the run was over before it was killed"
        assert f"resuming after step {killed_after}" in finish(start(out, workers=workers))
        assert_same_end(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_run_saves_dies_of_the_signal_and_resumes_bit_identical(
    tmp_path: Path, start: Start, whole: Path, number: signal.Signals
) -> None:
    out = tmp_path / "interrupted"
    process = start(out, pause=PAUSE, save_every=1000)
    while not (out / "log.jsonl").exists() or not (out / "log.jsonl").read_text():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    if number == signal.SIGINT:
        # Python dies of SIGINT after this error, unless something evaluates a string while it
        # exits, as torch does where tabulate is installed: then it ends with 1.
        assert process.returncode in (-number, 1)
        assert output.endswith("KeyboardInterrupt\n")
    else:
        assert process.returncode == -number
    stopped = read_checkpoint(out)["step"]
    assert 7 <= stopped < 40
    assert f"stopped by {number.name} after step {stopped}, saved" in output
    finish(start(out, save_every=1000))
    a, b = read_checkpoint(out), read_checkpoint(whole)
    assert_equal(a["model"], b["model"], "model")


@pytest.mark.slow
def test_two_processes_train_checkpoint_and_resume(tmp_path: Path, start: Start) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    finish(start(undisturbed, processes=2))
    assert len(read_checkpoint(undisturbed)["random"]) == 2
    process = start(killed, processes=2, pause=PAUSE)
    wait_for_checkpoint(killed, process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    stopped = read_checkpoint(killed)["step"]
    assert stopped < 40
    assert finish(start(killed, processes=2)).count(f"resuming after step {stopped}") == 1
    a, b = read_checkpoint(killed), read_checkpoint(undisturbed)
    assert_equal(a["model"], b["model"], "model")
    assert_equal(a["random"], b["random"], "random")


@pytest.mark.slow
def test_two_processes_take_the_gradient_of_the_whole_batch(tmp_path: Path, start: Start) -> None:
    """One step with a loss that is a plain mean over images: the weights agree with one process."""
    options = {"steps": 1, "plain": True}
    finish(start(tmp_path / "one", **options))
    finish(start(tmp_path / "two", processes=2, **options))
    one, two = (read_checkpoint(tmp_path / n)["optimizers"]["loss"] for n in ("one", "two"))
    for index, state in one["state"].items():
        torch.testing.assert_close(state["exp_avg"], two["state"][index]["exp_avg"])


@pytest.mark.slow
def test_two_processes_that_cannot_share_a_batch_say_so(tmp_path: Path, start: Start) -> None:
    process = start(tmp_path, processes=2, batch_size=7)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "batch_size 7 must be a multiple of the 2 processes" in output
