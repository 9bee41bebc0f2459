"""Checkpoint files: written whole, checked to the last bit, read without executing pickled code.

A checkpoint is the zip archive that ``torch.save`` writes, so that ``torch.load`` reads it too. The
archive keeps a CRC-32 of every record, which ``torch.load`` does not compare; its comment, which
zip readers pass over, holds the SHA-256 digest of all bytes before it, structure included.
"""

import hashlib
import os
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from captum_vae.files import DamagedFileError, reading, replacing

FORMAT = "captum_vae checkpoint 1"

_WANTED = "a checkpoint of captum-vae"
_DIGEST = b"captum_vae sha256 "
_OF_A_RUN = {
    "step": int,
    "objective": dict,
    "optimizers": dict,
    "random": list,
    "settings": dict,
}


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint written after ``step`` steps lies."""
    return folder / f"step_{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, oldest first, damaged ones included; see :func:`strays`."""
    return [path for path in _named_alike(folder) if not _why_stray(path)]


def strays(folder: Path) -> dict[Path, str]:
    """What is named like a checkpoint in ``folder`` and is none, and why."""
    return {path: why for path in _named_alike(folder) if (why := _why_stray(path))}


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` so that ``path`` is afterwards either complete or as it was.

    Args:
        path: File to write.
        state: Tensors and plain data by name, with the entries that :func:`read_checkpoint` wants.

    Raises:
        OSError: The disk is full or refuses; checkpoints already there are untouched.
    """
    buffer = BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    size = buffer.tell()
    # The archive ends in the length of its comment, which torch.save leaves empty.
    buffer.seek(-2, os.SEEK_END)
    buffer.write((len(_DIGEST) + 64).to_bytes(2, "little"))
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    try:
        with replacing(path) as file:
            file.write(buffer.getbuffer())
            file.write(_DIGEST + digest.encode())
    except OSError as error:
        kept = list_checkpoints(path.parent)
        raise OSError(
            error.errno,
            f"could not save the checkpoint ({os.strerror(error.errno or 0)}; it needs "
            f"{size / 1e6:.1f} MB); "
            + (f"the last good one is {kept[-1].name}" if kept else "there is none before it")
            + "; free some space and run the same command again",
            str(path),
        ) from error


def prune_checkpoints(folder: Path, keep: int, *, last: int, spare: Collection[Path] = ()) -> None:
    """Delete all but the newest ``keep`` checkpoints of a run; the last alone keeps optimizers.

    An older checkpoint is a model to load, not a place to resume from, and without the optimizers'
    state it takes a third of the space.

    Args:
        folder: Where the checkpoints lie.
        keep: How many to keep.
        last: The run's last step; checkpoints of later steps are another run's and stay.
        spare: Checkpoints of other runs, which stay too.
    """
    of_run = [
        path for path in list_checkpoints(folder) if _step(path) <= last and path not in spare
    ]
    for path in of_run[:-keep]:
        path.unlink()
    for path in of_run[-keep:-1]:
        _drop_optimizers(path)


def keep_model_alone(path: Path) -> None:
    """Write a checkpoint again with the model and what it was trained on, for good.

    What a run needs to go on (the optimizers' moments, an objective's own network, the generators)
    is dropped: of a FactorVAE with its discriminator 2 of 67 MB stay. Where that fails, for want of
    room on the disk, the checkpoint stays as it was.
    """
    with suppress(DamagedFileError, OSError):
        state = read_checkpoint(path)
        kept = {name: state[name] for name in ("version", "step", "model", "settings")}
        write_checkpoint(path, kept)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, after comparing its digest and checksums.

    Args:
        path: A checkpoint, or the folder of a run, whose newest checkpoint is taken.

    Returns:
        The checkpoint's entries by name; ``model`` holds ``name``, ``config`` and ``weights``.

    Raises:
        FileNotFoundError: There is no such file, or the folder holds no checkpoint.
        DamagedFileError: The file is damaged, would execute code, is of another program, or holds
            no model; the message names a good checkpoint beside it, if there is one.
    """
    path = find_checkpoint(path)
    try:
        with reading(path, _WANTED):
            state = _decoded(path)
            _check_model(state)
    except DamagedFileError as error:
        raise DamagedFileError(path, error.reason, _WANTED, _remedy(path)) from error
    return state


def check_resumable(state: Mapping[str, Any], *, optimizers: bool = True) -> None:
    """Refuse a checkpoint that holds a model alone, without the rest of its run.

    Args:
        state: The checkpoint's entries.
        optimizers: Whether the optimizers' state is needed, which the last one alone holds.

    Raises:
        ValueError: Something is missing; the message says what.
    """
    if _is_thinned(state):
        if not optimizers:
            return
        raise ValueError(
            "only the last checkpoint of a run can be resumed from, and this is an older one, "
            "whose weights load_vae reads; resume='weights' goes on from them"
        )
    for part, kind in _OF_A_RUN.items():
        if not isinstance(state.get(part), kind):
            raise ValueError(f"it has no {part} to resume from")


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that ``path`` means: itself, or the newest one of a run's folder.

    Files that are named like a checkpoint and are none are passed over with a warning.

    Raises:
        FileNotFoundError: There is none.
        TypeError: ``path`` is no path.
    """
    if not isinstance(path, (str, Path)):
        raise TypeError(f"path={path!r} must be the path of a checkpoint or of a run's folder")
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint or run folder at {path}")
    folders = [folder for folder in (path / "checkpoints", path) if _named_alike(folder)]
    passed_over = {stray: why for folder in folders[:1] for stray, why in strays(folder).items()}
    found = [checkpoint for folder in folders[:1] for checkpoint in list_checkpoints(folder)]
    words = "; ".join(f"{stray.name} is passed over: {why}" for stray, why in passed_over.items())
    if not found:
        ending = f"; {words}" if words else ""
        raise FileNotFoundError(f"{path} holds no checkpoint (checkpoints/step_*.pt){ending}")
    if words:
        warnings.warn(f"{found[-1]} is taken; {words}", stacklevel=3)
    return found[-1]


def _decoded(path: Path) -> dict[str, Any]:
    """The entries of a checkpoint whose every bit is as it was written."""
    # From the open file, not from its bytes: beside them the tensors would take as much again.
    with path.open("rb") as file:
        _check_digest(file)
        file.seek(0)
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError("it would execute code, which a checkpoint never needs") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError("it is a file of another program")
    return state


def _is_thinned(state: Mapping[str, Any]) -> bool:
    """Whether a checkpoint of a run gave up its optimizers' state when a later one was written."""
    return _OF_A_RUN.keys() - state.keys() == {"optimizers"}


def _drop_optimizers(path: Path) -> None:
    """Write a checkpoint again without its optimizers' state; leave it where that fails."""
    # A damaged file, or a disk without room for the smaller one, costs no more than space.
    with suppress(DamagedFileError, OSError):
        # Most checkpoints have been thinned before.
        with reading(path, _WANTED):
            thinned = "optimizers" not in _described(path)
        if not thinned:
            state = read_checkpoint(path)
            del state["optimizers"]
            write_checkpoint(path, state)


def _described(path: Path) -> Any:
    """What ``torch.save`` wrote: mapped, so that the tensors are described and not read."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _check_digest(file: BinaryIO) -> None:
    start = file.read(4)
    if start != b"PK\x03\x04":
        raise ValueError(_no_archive(start))
    try:
        with zipfile.ZipFile(file) as archive:
            comment = archive.comment
            if not comment.startswith(_DIGEST):
                _check_records(archive)
    # A damaged structure ends in any of zipfile's, zlib's and struct's errors.
    except Exception as error:
        raise ValueError(f"it is damaged or cut short ({error})") from error
    if comment.startswith(_DIGEST):
        if comment != _DIGEST + _digest_before(file, len(comment)).encode():
            raise ValueError("it is damaged: its content does not fit its digest")


def _digest_before(file: BinaryIO, ending: int) -> str:
    """SHA-256 of a file but for its last bytes, read a megabyte at a time."""
    left = file.seek(0, os.SEEK_END) - ending
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (part := file.read(min(left, 2**20))):
        digest.update(part)
        left -= len(part)
    return digest.hexdigest()


def _check_records(archive: zipfile.ZipFile) -> None:
    """Compare the checksums of a file written before there was a digest, or by torch alone."""
    names = archive.namelist()
    if len(set(names)) < len(names):
        raise ValueError("two of its records have one name")
    # Not testzip(), which opens records by name and so misses one whose name is damaged.
    for record in archive.infolist():
        # The flag of a folder: PyTorch's reader would take the record for one and read nothing.
        if record.external_attr & 0x10:
            raise ValueError(f"{record.filename} is marked as a folder")
        checksum = size = 0
        with archive.open(record) as content:
            while part := content.read(2**20):
                checksum, size = zlib.crc32(part, checksum), size + len(part)
        # zipfile compares the checksum too, but not of a record whose damaged size ends it early.
        if size != record.file_size or checksum != record.CRC:
            raise ValueError(f"{record.filename} does not fit its checksum")


def _check_model(state: Mapping[str, Any]) -> None:
    model = state.get("model")
    if not isinstance(model, dict):
        raise ValueError("it has no model")
    for name, kind in (("name", str), ("config", dict), ("weights", dict)):
        if not isinstance(model.get(name), kind):
            raise ValueError(f"its model has no {name}")
    # A module's extra state travels among its weights.
    broken = [
        name
        for name, weight in model["weights"].items()
        if not isinstance(weight, Tensor) and not str(name).endswith("_extra_state")
    ]
    if broken:
        raise ValueError(f"its model's weight {broken[0]} is no tensor")


def _remedy(path: Path) -> str:
    """What to do about a checkpoint that cannot be read."""
    others = [other for other in list_checkpoints(path.parent) if other != path]
    # The newest of those before it is what a run would go on from.
    for other in sorted(others, key=lambda other: (_step(other) > _step(path), -_step(other))):
        try:
            state = _decoded(other)
        except Exception:
            continue
        if _is_thinned(state):
            return (
                f"{other} beside it is good: use its weights; to go on with the run, restore "
                f"{path.name} from a copy, or train on from these weights, with fresh optimizers, "
                "by resume=weights"
            )
        return f"{other} beside it is good: use that one, or delete {path.name} to go on from it"
    return (
        "there is no good checkpoint beside it: restore it from a copy, or train again; for a "
        "model of your own, name a function that builds it and loads its weights"
    )


def _named_alike(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*.pt"), key=lambda path: (_step(path), path.name))


def _step(path: Path) -> int:
    """The step that a checkpoint's name says, -1 if none."""
    named = re.fullmatch(r"step_(\d+)\.pt", path.name, re.ASCII)
    return int(named[1]) if named else -1


def _why_stray(path: Path) -> str:
    """Why a file named like a checkpoint is none; empty where it is one, also a damaged one."""
    if not path.is_file():
        return "it is no file"
    if _step(path) < 0:
        return "its name says no step"
    try:
        with open(path, "rb") as file:
            start = file.read(4)
    except OSError:
        return ""
    if start != b"PK\x03\x04":
        return _no_archive(start)
    try:
        state = _described(path)
    except Exception:
        return ""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return "it is a file of another program"
    if state.get("step") != _step(path):
        return f"it holds step {state.get('step')}"
    return ""


def _no_archive(start: bytes) -> str:
    return "it is no archive as torch.save writes it" if start else "it is empty"
