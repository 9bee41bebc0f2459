"""The report of a training run: what was run, on what, and what came out."""

from __future__ import annotations

from typing import Any

from captum_vae.provenance import run_record
from captum_vae.training.trainer import TrainingResult


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
