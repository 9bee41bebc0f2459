"""A process killed among two under torchrun: a clear end, and the same result when run again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.commands.main import main
from captum_vae.data.digits import OneClassDigits
from captum_vae.lost_processes import LostProcessError, telling_lost_processes
from captum_vae.models import ConvVAE
from captum_vae.training.checkpoint import list_checkpoints, read_checkpoint
from tests.commands.test_evaluate import configuration, write_images
from tests.training.test_killed_runs import assert_equal

REPOSITORY = Path(__file__).parents[1]
PAUSE = "CAPTUM_VAE_TEST_PAUSE"
"""Seconds that the models and data sets below sleep at each call, so that there is time to kill."""

TWO_PROCESSES = {"RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "2"}


def pause() -> None:
    time.sleep(float(os.environ.get(PAUSE, "0")))


class SlowDigits(Dataset[Tensor]):
    """Digits that take their time."""

    def __init__(self) -> None:
        self.digits = OneClassDigits(digits=[1], image_size=16)

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Tensor:
        pause()
        return self.digits[index].image


class SlowVAE(ConvVAE):
    """A VAE that takes its time."""

    def forward(self, x: Tensor) -> Any:
        pause()
        return super().forward(x)

    def encode(self, x: Tensor) -> Any:
        pause()
        return super().encode(x)


def slow_model() -> SlowVAE:
    torch.manual_seed(7)
    return SlowVAE(4, image_size=24, channels=(4, 6), hidden=8)


def start(*arguments: str, paused: float = 0.0) -> "subprocess.Popen[str]":
    """``captum-vae ARGUMENTS`` in two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    return subprocess.Popen(
        [*torchrun, "2", "-m", "captum_vae", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", PAUSE: str(paused)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def ranks(launcher: int) -> dict[str, int]:
    """The processes that torchrun started and that listen to SIGTERM, by rank."""
    found = {}
    for task in Path(f"/proc/{launcher}/task").iterdir():
        for process in (task / "children").read_text().split():
            try:
                environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                status = Path(f"/proc/{process}/status").read_text()
            except OSError:
                continue
            caught = int(status.partition("SigCgt:")[2].split()[0], 16)
            if caught >> (signal.SIGTERM - 1) & 1:
                found |= {e[5:].decode(): int(process) for e in environment if e[:5] == b"RANK="}
    return found


def kill(process: "subprocess.Popen[str]", rank: str, when: Callable[[], bool]) -> str:
    """Kill a rank as soon as both listen and ``when`` is true; what standard error then holds."""
    deadline = time.monotonic() + 200
    while not (len(found := ranks(process.pid)) == 2 and when()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(found[rank], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    return errors


def assert_told(errors: str, rank: str) -> None:
    lines = [line for line in errors.splitlines() if "captum-vae: error" in line]
    assert len(lines) == 1, errors
    other = 1 - int(rank)
    assert f"captum-vae: error: rank {rank} of 2 is gone: it was killed" in lines[0]
    assert f"Rank {other} cannot go on without it; " in lines[0]
    assert "start the same command again" in lines[0]


def has_text(path: Path) -> Callable[[], bool]:
    return lambda: path.is_file() and path.stat().st_size > 0


@pytest.fixture(scope="module")
def fit_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {"channels": [4, 8], "hidden": 16, "latent_dims": 4, "image_size": 16}
    path = tmp_path_factory.mktemp("config") / "fit.yaml"
    content = {
        "model": {"name": "conv", "options": options},
        "data": {"name": "tests.test_lost_processes:SlowDigits"},
        "objective": {"likelihood": "bernoulli"},
        "trainer": {"steps": 40, "batch_size": 8, "save_every": 7, "log_every": 7},
    }
    content["trainer"] |= {"accelerator": "cpu", "progress": "off"}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def fitted(fit_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed."""
    out = tmp_path_factory.mktemp("fitted")
    finish(start("fit", "--config", str(fit_config), "--out", str(out)))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("moment", ["while it starts", "while it trains"])
def test_fit_says_which_process_was_killed_and_resumes_to_the_same_end(
    fit_config: Path, fitted: Path, tmp_path: Path, rank: str, moment: str
) -> None:
    fit = ["fit", "--config", str(fit_config), "--out", str(tmp_path)]
    starts = moment == "while it starts"

    def when() -> bool:
        return starts or bool(list_checkpoints(tmp_path / "checkpoints"))

    assert_told(kill(start(*fit, paused=0.01), rank, when), rank)
    if not starts:
        stopped = read_checkpoint(tmp_path)["step"]
        assert 7 <= stopped < 40
        assert f"resuming after step {stopped}" in finish(start(*fit))
        a, b = read_checkpoint(tmp_path), read_checkpoint(fitted)
        for part in ("step", "model", "objective", "optimizers", "random"):
            assert_equal(a[part], b[part], part)


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, the configuration of an evaluation, and what it finds undisturbed."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_images(folder)
    config = configuration(folder)
    del config["choose_among"]
    config |= {"batch_size": 1, "report": "none"}
    config["model"] = {"factory": "tests.test_lost_processes:slow_model"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    evaluate = ["evaluate", "--config", str(folder / "config.yaml")]
    finish(start(*evaluate, "--out", str(folder / "undisturbed")))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_evaluate_says_which_process_was_killed_and_finds_the_same_when_run_again(
    evaluation: Path, tmp_path: Path, rank: str
) -> None:
    arguments = ["--config", str(evaluation / "config.yaml"), "--out", str(tmp_path)]
    process = start("evaluate", *arguments, paused=0.3)
    assert_told(kill(process, rank, has_text(tmp_path / ".holder.json")), rank)
    assert not (tmp_path / "results.json").exists()
    finish(start("evaluate", *arguments))
    found, undisturbed = (
        json.loads((folder / "results.json").read_text())
        for folder in (tmp_path, evaluation / "undisturbed")
    )
    for one, other in zip(found["rows"], undisturbed["rows"], strict=True):
        for name in ("anomalous_pixels", "normal_pixels", "scores", "intervals"):
            assert one[name] == other[name]


@pytest.fixture(scope="module")
def prediction(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector, new images, and what is predicted of them undisturbed."""
    folder = tmp_path_factory.mktemp("prediction")
    write_images(folder)
    images = [str(folder / "normal"), "--out", str(folder / "detector"), "--report", "none"]
    detector = ["--model", "tests.test_lost_processes:slow_model", "--device", "cpu"]
    detector += ["--scorer", "reconstruction_error"]
    assert main(["detect", *detector, "--images", *images]) == 0
    finish(start(*predict(folder, folder / "undisturbed")))
    return folder


def predict(folder: Path, out: Path) -> list[str]:
    found = [str(folder / "detector"), str(folder / "normal"), "--out", str(out)]
    model = ["--model", "tests.test_lost_processes:slow_model"]
    return ["predict", *found, *model, "--batch_size", "1", "--device", "cpu", "--report", "none"]


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_predict_says_which_process_was_killed_and_goes_on_to_the_same_table(
    prediction: Path, tmp_path: Path, rank: str
) -> None:
    process = start(*predict(prediction, tmp_path), paused=0.2)

    def some() -> bool:
        return any(has_text(table)() for table in tmp_path.glob("predictions*.csv"))

    assert_told(kill(process, rank, some), rank)
    assert not (tmp_path / "predictions.json").exists()
    finish(start(*predict(prediction, tmp_path)))
    undisturbed = prediction / "undisturbed"
    table = (tmp_path / "predictions.csv").read_text()
    assert table == (undisturbed / "predictions.csv").read_text()
    masks = {path.name: path.read_bytes() for path in (undisturbed / "masks").rglob("*.png")}
    assert masks == {path.name: path.read_bytes() for path in (tmp_path / "masks").rglob("*.png")}


@pytest.mark.slow
def test_processes_that_torchrun_is_told_to_end_blame_nobody(
    evaluation: Path, tmp_path: Path
) -> None:
    arguments = ["--config", str(evaluation / "config.yaml"), "--out", str(tmp_path)]
    process = start("evaluate", *arguments, paused=0.3)
    while not (len(ranks(process.pid)) == 2 and has_text(tmp_path / ".holder.json")()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "is gone" not in errors


def test_without_torchrun_errors_and_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="closed") as raised, telling_lost_processes("advice"):
        assert signal.getsignal(signal.SIGTERM) is before
        raise RuntimeError("Connection closed by peer")
    assert not isinstance(raised.value, LostProcessError)


def test_other_errors_pass_and_the_signal_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TWO_PROCESSES.items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1)
    with pytest.raises(RuntimeError, match="of another kind"), telling_lost_processes("advice"):
        assert signal.getsignal(signal.SIGTERM) is not before[0]
        with telling_lost_processes("more advice"):
            raise RuntimeError("of another kind")
    assert signal.getsignal(signal.SIGTERM) is before[0]
    assert signal.set_wakeup_fd(-1) == before[1]


def test_a_closed_connection_is_told_once_with_the_innermost_advice(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a machine where nobody tells who is gone."""
    for name, value in TWO_PROCESSES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("captum_vae.lost_processes.time.sleep", lambda seconds: None)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            pytest.raises(LostProcessError, match="another process of this run is gone"),
            telling_lost_processes("outer"),
            telling_lost_processes("inner"),
        ):
            try:
                raise RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:4321")
            except RuntimeError as error:
                raise ValueError("the model fails") from error
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    told = capfd.readouterr().err
    assert told.count("captum-vae: error: another process of this run is gone") == 1
    assert told.endswith("Rank 0 cannot go on without it; inner\n")
