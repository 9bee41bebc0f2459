"""The report of a run: what was run, on what, and what came out."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import captum_vae
from captum_vae.command_line import command
from captum_vae.training.trainer import TrainingResult
from captum_vae.version import __version__


def summarize(
    result: TrainingResult, protocol: dict[str, Any], *, seconds: float
) -> dict[str, Any]:
    """Everything needed to repeat a run and compare its outcome, ready for JSON.

    Args:
        result: of the trainer.
        protocol: model, data, objective and trainer settings; holds the seed.
        seconds: wall time of this part of the run.
    """
    return {
        **run_record(result.device, seed=protocol["trainer"]["seed"]),
        "processes": result.processes,
        "protocol": protocol,
        "steps": result.step,
        "seconds": round(seconds, 1),
        "final_losses": {name: round(value, 4) for name, value in result.losses.items()},
        "active_dimensions": result.active.to_dict(),
    }


@dataclass(frozen=True)
class Code:
    """Which code makes the numbers.

    Attributes:
        version: of the package.
        commit: as of :func:`commit`.
        changes: digest of what has changed since; empty if nothing.
    """

    version: str
    commit: str | None
    changes: str

    @classmethod
    def now(cls) -> Code:
        """As it is."""
        found = commit()
        changes = ""
        if found and found.endswith("+changes"):
            difference = _git(_PACKAGE, "diff", "HEAD", "--", ".").stdout
            changes = hashlib.sha256(difference.encode()).hexdigest()[:12]
        return cls(__version__, found, changes)


def run_record(
    device: torch.device, *, seed: int | None = None, code: Code | None = None
) -> dict[str, Any]:
    """What every report begins with: command, version, commit, seed and machine.

    Args:
        device: that the numbers were computed on.
        seed: of the run; None where it has none, or several, and leaves it out.
        code: as it was when the run began; None takes it as it is.
    """
    code = code or Code.now()
    return {
        "command": command(),
        "version": code.version,
        "commit": code.commit,
        **({} if seed is None else {"seed": seed}),
        "machine": machine(device),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The hardware and the versions that a number depends on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def commit() -> str | None:
    """The checked-out commit of this package, with ``+changes`` if files differ from it.

    None where it is not checked out: an installed package may lie in somebody else's repository.
    """
    try:
        if _git(_PACKAGE, "ls-files", "--error-unmatch", "__init__.py").returncode:
            return None
        head = _git(_PACKAGE, "rev-parse", "HEAD").stdout.strip()
        changed = _git(_PACKAGE, "diff", "--quiet", "HEAD", "--", ".").returncode
    except OSError:
        return None
    return head + ("+changes" if changed else "") if head else None


_PACKAGE = Path(captum_vae.__file__).parent


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
