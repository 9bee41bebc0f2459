"""A run of seconds, started as a script by the tests that kill it or start it under torchrun.

Usage: small_run.py OUT [NAME=VALUE ...] with names of Trainer's fields, plus ``pause`` (seconds per
image read, so that there is time for a signal), ``nan_at`` (step at which the loss becomes NaN) and
``plain`` (nothing random, and a loss that is a plain mean over images).
"""

import ast
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_vae.data.augment import Augmented
from captum_vae.data.digits import OneClassDigits
from captum_vae.losses import ELBO
from captum_vae.models import build_model
from captum_vae.training import Trainer, TrainingResult, VAEObjective
from captum_vae.training.configuration import Resume

SETTINGS = {
    "steps": 40,
    "batch_size": 8,
    "seed": 3,
    "save_every": 7,
    "keep": 2,
    "log_every": 7,
    "accelerator": "cpu",
}


class Noisy(Dataset[Tensor]):
    """Digits rotated at random, with noise from the global generator: every source of chance."""

    def __init__(self, pause: float = 0.0) -> None:
        self.digits = Augmented(OneClassDigits(digits=[1], image_size=16))
        self.pause = pause

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Tensor:
        if self.pause:
            time.sleep(self.pause)
        image = self.digits[index].image
        return (image + 0.1 * torch.rand_like(image)).clamp(0, 1)


class NaNAt(VAEObjective):
    """Its loss becomes NaN at a step."""

    nan_at = 0

    def forward(self, model: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        losses = super().forward(model, batch, step)
        return {**losses, "loss": losses["loss"] * float("nan")} if step == self.nan_at else losses


class Plain(VAEObjective):
    """Squared error of the reconstruction from the mean, over images without noise."""

    def forward(self, model: nn.Module, batch: Tensor, step: int) -> dict[str, Tensor]:
        return {"loss": (model.reconstruct(batch) - batch).square().flatten(1).sum(1).mean()}


def small_model(**options: Any) -> nn.Module:
    """A VAE with batch normalisation, so that its buffers must be saved too."""
    torch.manual_seed(0)
    settings = {"image_size": 16, "channels": [4, 8], "hidden": 16, "latent_dims": 4}
    return build_model("conv", **{**settings, "norm": "batch", **options})


def train(out: str, options: Mapping[str, Any], *, resume: Resume = "auto") -> TrainingResult:
    """Train the small model into ``out``."""
    settings = {**SETTINGS, **options}
    pause, nan_at = settings.pop("pause", 0.0), settings.pop("nan_at", None)
    elbo = ELBO("optimal_gaussian", warmup_steps=10)
    if settings.pop("plain", False):
        digits = OneClassDigits(digits=[1], image_size=16)
        return Trainer(**settings).fit(small_model(norm="none"), digits, Plain(elbo), out=out)
    objective = VAEObjective(elbo)
    if nan_at is not None:
        objective = NaNAt(elbo)
        objective.nan_at = nan_at
    trainer = Trainer(**settings)
    return trainer.fit(small_model(), Noisy(pause), objective, out=out, resume=resume)


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


if __name__ == "__main__":
    # A shell that starts the tests in the background has them, and so this, ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    pairs = (argument.partition("=") for argument in sys.argv[2:])
    train(sys.argv[1], {name: _value(value) for name, _, value in pairs})
