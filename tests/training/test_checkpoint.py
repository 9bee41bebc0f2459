"""Checkpoint files: complete or absent, free of code, of one architecture."""

import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.training.checkpoint import (
    checkpoint_path,
    describe_model,
    find_checkpoint,
    list_checkpoints,
    load_weights,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from captum_vae.training.load import load_vae
from tests.training.small_run import small_model


def model_state(**options: Any) -> dict[str, Any]:
    model = small_model(**options)
    return {"model": {**describe_model(model), "weights": model.state_dict()}}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 7)
    write_checkpoint(path, {"step": 7, "weights": torch.arange(3.0)})
    state = read_checkpoint(path)
    assert state["step"] == 7
    assert state["weights"].tolist() == [0.0, 1.0, 2.0]


def test_full_disk_leaves_the_old_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = checkpoint_path(tmp_path, 1)
    write_checkpoint(old, {"step": 1})
    before = old.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left.*last good one is step_00000001.pt"):
        write_checkpoint(checkpoint_path(tmp_path, 2), {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="limits of the operating system")
def test_write_that_the_system_cuts_short_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="could not save the checkpoint .* there is none"):
            write_checkpoint(checkpoint_path(tmp_path, 1), {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        write_checkpoint(checkpoint_path(tmp_path, step), {"step": step})
    prune_checkpoints(tmp_path, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step_00000010.pt",
        "step_00000100.pt",
    ]


def test_half_written_temporary_file_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(checkpoint_path(tmp_path, 1), {"step": 1})
    (tmp_path / ".checkpoint.tmp").write_bytes(b"half")
    assert find_checkpoint(tmp_path).name == "step_00000001.pt"


class Trap:
    def __reduce__(self) -> Any:
        return (os.system, ("touch executed",))


def test_pickled_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "step_00000001.pt"
    torch.save({"format": "captum_vae checkpoint 1", "trap": Trap()}, path)
    with pytest.raises(ValueError, match="damaged or would execute code"):
        read_checkpoint(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = checkpoint_path(tmp_path, 1)
    write_checkpoint(path, {"weights": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="step_00000001.pt cannot be read"):
        read_checkpoint(path)


def test_file_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a checkpoint of captum-vae"):
        read_checkpoint(tmp_path / "other.pt")


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        read_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint or run folder at .*nowhere"):
        read_checkpoint(tmp_path / "nowhere")


def test_loading_into_another_configuration_names_the_difference() -> None:
    with pytest.raises(ValueError, match="latent_dims: 4 in the checkpoint, 6 in the model"):
        load_weights(model_state(), small_model(latent_dims=6))


def test_loading_into_another_class_names_both() -> None:
    with pytest.raises(ValueError, match="holds a ConvVAE, the model is a Linear"):
        load_weights(model_state(), torch.nn.Linear(1, 1))


def test_loading_weights_of_another_shape_names_the_weight() -> None:
    state = {
        "model": {"name": "Linear", "config": {}, "weights": torch.nn.Linear(2, 1).state_dict()}
    }
    with pytest.raises(ValueError, match="do not fit this Linear: size mismatch for weight"):
        load_weights(state, torch.nn.Linear(3, 1))


def test_vae_is_rebuilt_from_its_checkpoint_alone(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 1)
    write_checkpoint(path, model_state())
    vae, images = load_vae(path), torch.rand(2, 1, 16, 16)
    assert not vae.training
    torch.testing.assert_close(vae(images), small_model().eval()(images))


def test_vae_of_the_users_own_class_is_loaded_into_it(tmp_path: Path) -> None:
    path = checkpoint_path(tmp_path, 1)
    own = torch.nn.Linear(2, 2)
    write_checkpoint(path, {"model": {**describe_model(own), "weights": own.state_dict()}})
    with pytest.raises(ValueError, match=r"load_vae\(path, model\)"):
        load_vae(path)
    loaded = load_vae(path, torch.nn.Linear(2, 2))
    torch.testing.assert_close(loaded.weight, own.weight)
