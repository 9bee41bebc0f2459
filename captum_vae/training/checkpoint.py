"""Checkpoint files: written all or nothing, read without executing pickled code."""

import os
import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import nn

FORMAT = "captum_vae checkpoint 1"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint written after ``step`` steps lies."""
    return folder / f"step_{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in ``folder``, oldest first; empty when there are none or no folder."""
    return sorted(folder.glob("step_*.pt"))


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` so that ``path`` is afterwards either complete or as it was.

    Raises:
        OSError: the disk is full or refuses; checkpoints already there are untouched.
    """
    buffer = BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    # One name for all: what a killed save left behind is overwritten by the next.
    temporary = path.with_name(".checkpoint.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = list_checkpoints(path.parent)
        raise OSError(
            error.errno,
            f"could not save the checkpoint ({os.strerror(error.errno or 0)}; it needs "
            f"{buffer.tell() / 1e6:.1f} MB); "
            + (f"the last good one is {kept[-1].name}" if kept else "there is none before it")
            + "; free some space and run the same command again",
            str(path),
        ) from error


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints."""
    for path in list_checkpoints(folder)[:-keep]:
        path.unlink()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU.

    Args:
        path: a checkpoint, or the folder of a run, whose newest checkpoint is taken.

    Raises:
        FileNotFoundError: no such file, or a folder without checkpoints.
        ValueError: the file is damaged, holds code, or is not a checkpoint of this package.
    """
    path = find_checkpoint(path)
    try:
        state = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    # torch reports damage as any of these, depending on where it lies.
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is damaged or would execute code "
            f"({str(error).partition(chr(10))[0] or 'it ends too early'})"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a checkpoint of captum-vae ({FORMAT!r} expected); of a model of your "
            "own, give a function that builds it and loads its weights"
        )
    return state


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that ``path`` means: itself, or the newest one of a run's folder.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint or run folder at {path}")
    found = list_checkpoints(path / "checkpoints") or list_checkpoints(path)
    if not found:
        raise FileNotFoundError(f"{path} holds no checkpoint (checkpoints/step_*.pt)")
    return found[-1]


def describe_model(model: nn.Module) -> dict[str, Any]:
    """The name and configuration by which a checkpoint knows a model's architecture."""
    return {"name": type(model).__name__, "config": dict(getattr(model, "config", {}))}


def load_weights(state: dict[str, Any], model: nn.Module) -> None:
    """Put a checkpoint's weights into ``model``.

    Raises:
        ValueError: the checkpoint is of another architecture; the message says what differs.
    """
    stored, wanted = state["model"], describe_model(model)
    if stored["name"] != wanted["name"]:
        raise ValueError(
            f"the checkpoint holds a {stored['name']}, the model is a {wanted['name']}"
        )
    differences = [
        f"{key}: {stored['config'].get(key)!r} in the checkpoint, {wanted['config'].get(key)!r} "
        "in the model"
        for key in sorted(stored["config"].keys() | wanted["config"].keys())
        if stored["config"].get(key) != wanted["config"].get(key)
    ]
    if differences:
        raise ValueError(
            f"the checkpoint holds a {stored['name']} of another configuration: "
            + "; ".join(differences)
        )
    try:
        model.load_state_dict(stored["weights"])
    except RuntimeError as error:
        reasons = [line.strip() for line in str(error).splitlines()[1:]]
        raise ValueError(
            f"the checkpoint's weights do not fit this {wanted['name']}: " + " ".join(reasons[:3])
        ) from error


def _sync_folder(folder: Path) -> None:
    # The new name must survive a power cut too; Windows cannot open folders and need not.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
