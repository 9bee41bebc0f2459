"""The report of a training run: what was run, on what, and what came out."""

from __future__ import annotations

from typing import Any

from captum_vae.provenance import run_record
from captum_vae.training.trainer import TrainingResult


def summarize(
    result: TrainingResult, settings: dict[str, Any], *, seconds: float
) -> dict[str, Any]:
    """Everything needed to repeat a run and compare its outcome, ready for JSON.

    Args:
        result: What the trainer returned.
        settings: Options of the model, the data, the objective and the trainer; the trainer's hold
            the seed.
        seconds: Wall time of this part of the run.
    """
    return {
        **run_record(result.device, seed=settings["trainer"]["seed"]),
        "processes": result.processes,
        "protocol": settings,
        "steps": result.step,
        "seconds": round(seconds, 1),
        "final_losses": {name: round(value, 4) for name, value in result.losses.items()},
        "active_dimensions": result.active.to_dict(),
    }
