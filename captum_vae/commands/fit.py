"""``captum-vae fit``: a run described by names and options, trained and summed up."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from captum_vae.training.configuration import (
    DataConfig,
    ModelConfig,
    ObjectiveConfig,
    Resume,
    TrainerConfig,
)


def fit(
    model: ModelConfig,
    data: DataConfig,
    objective: ObjectiveConfig,
    trainer: TrainerConfig,
    *,
    out: str,
    resume: Resume = "auto",
    report_json: str | None = None,
) -> None:
    """Train a VAE and report which latent dimensions it uses.

    Run the same command again to continue a run that was stopped or killed. Under torchrun it
    trains on every process.

    Args:
        model: Which VAE to train.
        data: What to train on.
        objective: What to minimise.
        trainer: Steps, batches, devices, checkpoints and logs.
        out: Folder of the run: checkpoints, log.jsonl and report.json, and held_out.txt with the
            images that data.held_out left out.
        resume: With auto, the run that out holds is continued; with never, it is refused; with
            weights, it is continued also where the last checkpoint is damaged, from the one before,
            which holds weights alone, so that the optimizers begin anew.
        report_json: A second file for the report.

    Raises:
        ValueError: A name is unknown, an option is out of range, or ``out`` holds another run.
        TypeError: The data set yields something else than images.
        FileNotFoundError: The data are not there.
    """
    from captum_vae.data.held_out import held_out_list
    from captum_vae.files import check_writable, write_json
    from captum_vae.training.batches import image_of
    from captum_vae.training.building import train
    from captum_vae.training.logs import say

    started = time.perf_counter()
    if report_json is not None:
        check_writable(report_json, "report_json")
    _, dataset, result = train(model, data, objective, trainer, out=out, resume=resume)
    if not result.is_first_process:
        return
    settings = {
        "model": asdict(model),
        "data": {
            **asdict(data),
            "images": len(dataset),  # type: ignore[arg-type]
            "shape": list(image_of(dataset[0]).shape),
        },
        "objective": asdict(objective),
        "trainer": asdict(trainer),
    }
    report = result.report(settings, seconds=time.perf_counter() - started)
    paths = [Path(out) / "report.json", *([Path(report_json)] if report_json else [])]
    for path in paths:
        write_json(path, report)
    say(result.active.table())
    # A model in closed form has had no step, and learned all the same.
    result.active.warn_if_collapsed(result.step or None)
    weights = (
        f"weights in {result.checkpoint} (load them with captum_vae.training.load_vae({out!r})), "
        f"report in {paths[0]}"
    )
    if kept := held_out_list(out):
        say(f"held out for calibration: {kept}")
    if result.step:
        losses = Path(out) / "log.jsonl"
        say(f"done after {result.step} steps: {weights}, losses in {losses}")
    else:
        say(f"fitted in closed form, without a step: {weights}")
