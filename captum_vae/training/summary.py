"""The report of a run: what was run, on what, and what came out."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import captum_vae
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
        "command": shlex.join([_program(), *sys.argv[1:]]),
        "version": __version__,
        "commit": commit(),
        "seed": protocol["trainer"]["seed"],
        "machine": machine(result.device),
        "processes": result.processes,
        "protocol": protocol,
        "steps": result.step,
        "seconds": round(seconds, 1),
        "final_losses": {name: round(value, 4) for name, value in result.losses.items()},
        "active_dimensions": result.active.to_dict(),
    }


def _program() -> str:
    name = Path(sys.argv[0]).name
    return "captum-vae" if name == "__main__.py" else name


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
