"""Checkpoint files: complete or absent, checked to the last bit, free of code."""

import errno
import hashlib
import io
import os
import pickle
import random
import resource
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.files import DamagedFileError
from captum_vae.training import load_vae
from captum_vae.training.checkpoint import (
    FORMAT,
    check_resumable,
    checkpoint_path,
    find_checkpoint,
    keep_model_alone,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    strays,
    write_checkpoint,
)
from captum_vae.training.load import describe_model, load_weights
from tests.training.small_run import small_model


def model_state(**options: Any) -> dict[str, Any]:
    model = small_model(**options)
    return {"model": {**describe_model(model), "weights": model.state_dict()}}


def save(folder: Path, step: int, **entries: Any) -> Path:
    """A checkpoint of a tiny model after so many steps."""
    linear = torch.nn.Linear(4, 4)
    torch.nn.init.constant_(linear.weight, step)
    model = {**describe_model(linear), "weights": linear.state_dict()}
    path = checkpoint_path(folder, step)
    write_checkpoint(path, {"step": step, "model": model, **entries})
    return path


def save_as_before(path: Path, state: dict[str, Any]) -> None:
    """A checkpoint as it was written before there were digests."""
    torch.save({"format": FORMAT, **state}, path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    state = read_checkpoint(save(tmp_path, 7, settings={"seed": 3}))
    assert state["step"] == 7 and state["settings"] == {"seed": 3}
    assert state["model"]["weights"]["weight"].tolist() == [[7.0] * 4] * 4


def test_a_checkpoint_is_still_a_file_of_torch(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    assert torch.load(path, weights_only=True)["step"] == 7
    with zipfile.ZipFile(path) as archive:
        digest = archive.comment.removeprefix(b"captum_vae sha256 ").decode()
    assert digest == hashlib.sha256(path.read_bytes()[: -len(archive.comment)]).hexdigest()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(torch.equal(a, b)) if isinstance(a, torch.Tensor) else bool(a == b)


@pytest.mark.parametrize("digest", ["with a digest", "of before"])
def test_every_flipped_bit_is_detected_or_without_effect(tmp_path: Path, digest: str) -> None:
    state = {"step": 40, **model_state()}
    path = tmp_path / "step_00000040.pt"
    (write_checkpoint if digest == "with a digest" else save_as_before)(path, state)
    good = path.read_bytes()
    expected = read_checkpoint(path)
    draw = random.Random(0)
    detected = 0
    # Most of the file is weights; its last part says where they lie and how they are to be read.
    anywhere = draw.sample(range(8 * len(good)), 200)
    structure = draw.sample(range(8 * (len(good) - 1200), 8 * len(good)), 100)
    for place in anywhere + structure:
        damaged = bytearray(good)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            loaded = read_checkpoint(path)
        except DamagedFileError as error:
            detected += 1
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert same(loaded, expected), f"bit {place} changes what is loaded"
    assert detected > (290 if digest == "with a digest" else 150)


class Trap:
    def __reduce__(self) -> Any:
        return (os.system, ("touch executed",))


def zipped(**records: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


NO_CHECKPOINTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "text": (b"weights: 3\n", "no archive"),
    "random bytes": (random.Random(1).randbytes(5000), "no archive"),
    "zeros": (bytes(1000), "no archive"),
    "magic alone": (b"PK\x03\x04", "damaged or cut short"),
    "safetensors": (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "no archive"),
    "old torch.save": (saved({"a": 1}, _use_new_zipfile_serialization=False), "no archive"),
    "pickle": (pickle.dumps({"format": FORMAT}), "no archive"),
    "other zip": (zipped(notes=b"hello"), "cannot be read"),
    "empty zip": (zipped(), "no archive"),
    "foreign weights": (saved({"state_dict": {"w": torch.ones(3)}}), "of another program"),
    "foreign tensor": (saved(torch.ones(3)), "of another program"),
    "code": (saved({"format": FORMAT, "trap": Trap()}), "would execute code"),
    "whole module": (saved(torch.nn.Linear(1, 1)), "would execute code"),
    "other format": (saved({"format": "captum_vae checkpoint 9"}), "of another program"),
    "no parts": (saved({"format": FORMAT}), "it has no model"),
    "model is a number": (saved({"format": FORMAT, "model": 3}), "it has no model"),
    "no name": (saved({"format": FORMAT, "model": {"config": {}}}), "its model has no name"),
    "no weights": (
        saved({"format": FORMAT, "model": {"name": "ConvVAE", "config": {}}}),
        "its model has no weights",
    ),
    "weights of words": (
        saved({"format": FORMAT, "model": {"name": "A", "config": {}, "weights": {"w": "x"}}}),
        "weight w is no tensor",
    ),
    "cut in half": (saved({"format": FORMAT, **model_state()})[:2000], "damaged or cut short"),
    "cut by a byte": (saved({"format": FORMAT, **model_state()})[:-1], "damaged or cut short"),
}


@pytest.mark.parametrize("name", NO_CHECKPOINTS)
def test_what_is_no_checkpoint_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content, reason = NO_CHECKPOINTS[name]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        load_vae(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert "a checkpoint of captum-vae" in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_damage_names_the_good_checkpoint_beside_it(tmp_path: Path) -> None:
    first, second, third = (save(tmp_path, step) for step in (10, 20, 30))
    for damaged in (third, second):
        damaged.write_bytes(damaged.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"{first} beside it is good.*or delete {third.name}"):
        load_vae(tmp_path, torch.nn.Linear(4, 4))
    first.unlink()
    with pytest.raises(ValueError, match="no good checkpoint beside it: restore it"):
        load_vae(tmp_path, torch.nn.Linear(4, 4))


def test_a_checkpoint_without_what_a_run_needs_is_not_resumed_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it has no objective to resume from"):
        check_resumable(read_checkpoint(save(tmp_path, 3)))


def test_of_a_finished_run_the_model_alone_can_be_kept(run: Path) -> None:
    before, size = load_vae(run), find_checkpoint(run).stat().st_size
    keep_model_alone(find_checkpoint(run))
    assert find_checkpoint(run).stat().st_size < size / 2
    for one, other in zip(load_vae(run).parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other)
    assert read_checkpoint(run)["step"] == 14
    with pytest.raises(ValueError, match="it has no objective to resume from"):
        check_resumable(read_checkpoint(run))


STRAYS: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "no number": ("step_foo.pt", lambda path: path.write_bytes(b"x"), "its name says no step"),
    "signed": ("step_-0000009.pt", lambda path: path.write_bytes(b"x"), "its name says no step"),
    "a copy": ("step_00000099 copy.pt", lambda path: path.write_bytes(b"x"), "says no step"),
    "junk": ("step_99999999.pt", lambda path: path.write_bytes(b"junk"), "no archive"),
    "empty": ("step_99999999.pt", lambda path: path.touch(), "it is empty"),
    "folder": ("step_99999999.pt", lambda path: path.mkdir(), "it is no file"),
    "gone link": ("step_99999999.pt", lambda path: path.symlink_to("gone"), "it is no file"),
    "foreign": (
        "step_99999999.pt",
        lambda path: torch.save({"weights": torch.ones(2)}, path),
        "another program",
    ),
    "renamed": (
        "step_99999999.pt",
        lambda path: save(path.parent / "other", 5).rename(path),
        "it holds step 5",
    ),
    "no step": (
        "step_99999999.pt",
        lambda path: save_as_before(path, model_state()),
        "it holds step None",
    ),
}


@pytest.mark.parametrize("name", STRAYS)
def test_a_stray_file_is_told_by_its_content_and_said(tmp_path: Path, name: str) -> None:
    file, make, reason = STRAYS[name]
    mine = save(tmp_path, 20)
    make(tmp_path / file)
    assert list_checkpoints(tmp_path) == [mine]
    assert reason in strays(tmp_path)[tmp_path / file]
    with pytest.warns(UserWarning, match=f"{file} is passed over"):
        assert find_checkpoint(tmp_path) == mine
    prune_checkpoints(tmp_path, 1, last=20)
    assert mine.exists() and os.path.lexists(tmp_path / file)


def test_full_disk_leaves_the_old_checkpoint_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = save(tmp_path, 1)
    before = old.read_bytes()

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left.*last good one is step_00000001.pt"):
        save(tmp_path, 2)
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
    for step in (5, 10, 100, 200):
        save(tmp_path, step)
    prune_checkpoints(tmp_path, 2, last=100)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step_00000010.pt",
        "step_00000100.pt",
        "step_00000200.pt",
    ]


def test_a_damaged_older_checkpoint_is_left_for_its_owner(tmp_path: Path) -> None:
    first, _ = save(tmp_path, 1), save(tmp_path, 2)
    content = first.read_bytes()[:-9]
    first.write_bytes(content)
    prune_checkpoints(tmp_path, 2, last=2)
    assert first.read_bytes() == content


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        read_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint or run folder at .*nowhere"):
        read_checkpoint(tmp_path / "nowhere")
    (tmp_path / "step_00000001.pt").touch()
    with pytest.raises(FileNotFoundError, match="step_00000001.pt is passed over: it is empty"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("path", [None, 3, ["a"], b"run", True, 1.5])
def test_a_path_of_another_type_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match="path=.* must be the path of a checkpoint"):
        load_vae(path)


@pytest.mark.parametrize("device", ["gpu", 1.5, "cuda:x", None, "cpu:-3"])
def test_a_device_that_is_none_is_refused(tmp_path: Path, device: Any) -> None:
    with pytest.raises(ValueError, match="device=.* is no device; wanted cpu"):
        load_vae(save(tmp_path, 1), torch.nn.Linear(4, 4), device=device)


@pytest.mark.parametrize("model", ["conv", 3, torch.nn.Linear])
def test_a_model_that_is_no_module_is_refused(tmp_path: Path, model: Any) -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module or None"):
        load_vae(save(tmp_path, 1), model)


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
    path = save(tmp_path, 1)
    with pytest.raises(ValueError, match=r"load_vae\(path, model\)"):
        load_vae(path)
    assert load_vae(path, torch.nn.Linear(4, 4)).weight.mean().item() == 1
