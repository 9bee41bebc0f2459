"""The report of a run: what was run, on what, and what came out."""

import os
import platform
import subprocess
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


def run_record(device: torch.device, *, seed: int | None = None) -> dict[str, Any]:
    """What every report begins with: command, version, commit, seed and machine.

    Args:
        device: that the numbers were computed on.
        seed: of the run; None where it has none, or several, and leaves it out.
    """
    return {
        "command": command(),
        "version": __version__,
        "commit": commit(),
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
    """The checked-out commit of this package, with ``+changes`` if files differ from it."""
    folder = Path(captum_vae.__file__).parent
    try:
        head = _git(folder, "rev-parse", "HEAD").stdout.strip()
        changed = _git(folder, "diff", "--quiet", "HEAD", "--", ".").returncode
    except OSError:
        return None
    return head + ("+changes" if changed else "") if head else None


def _git(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
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
