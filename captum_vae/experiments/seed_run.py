"""One FactorVAE of a comparison over paired seeds, described without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from captum_vae.attr.options import Rectifier
from captum_vae.checks import check_choice, checked_seed, real_number, whole_number
from captum_vae.losses.options import Aggregation, Gate
from captum_vae.training.configuration import (
    Accelerator,
    Precision,
    ScoreName,
    VoteProtocolName,
)

Variant = Literal["factorvae", "paper", "normalised", "replication"]

FactorInitialization = Literal["pytorch", "normal", "kaiming"]
"""How a FactorVAE's weights start: PyTorch's default (kaiming uniform), or one of the two of the
code that replication b adapted, normal of standard deviation 0.02 and kaiming normal, both with
biases at 0 and transposed convolutions as PyTorch leaves them."""

_CHOICES = {
    "variant": get_args(Variant),
    "aggregation": get_args(Aggregation),
    "gate": get_args(Gate),
    "protocol": get_args(VoteProtocolName),
    "precision": get_args(Precision),
    "device": get_args(Accelerator),
    "initialization": get_args(FactorInitialization),
    "rectifier": (None, *get_args(Rectifier)),
}
"""The words that options may be."""


@dataclass(frozen=True)
class SeedRun:
    """One FactorVAE, trained and scored.

    Attributes:
        variant: ``factorvae``, or the mode of the attention disentanglement added to it.
        seed: The seed of weights, batches and votes.
        steps: Optimizer steps.
        batch_size: Images per step, and as many again for the discriminator.
        gamma: The weight of the total correlation.
        weight: Lambda, the weight of the overlap.
        layer: The encoder layer of the maps.
        aggregation: How the overlap is aggregated over pairs of dimensions.
        gate: ``kl`` leaves collapsed dimensions out of the overlap.
        latent_dims: D, the number of latent dimensions.
        learning_rate: The learning rate of both optimizers.
        metrics: The metrics to score.
        protocol: The protocol of the votes.
        samples: Images encoded for the scores.
        precision: The precision of the training; scores are always float32.
        device: Where to run: auto, cpu or cuda.
        rectifier: The rectifier of the maps; None takes the one that the variant's mode is made
            for.
        initialization: How weights start: pytorch, normal or kaiming.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.
    """

    variant: Variant
    seed: int
    steps: int
    batch_size: int
    gamma: float
    weight: float = 1.0
    layer: str = "encoder.conv4"
    aggregation: Aggregation = "mean"
    gate: Gate = "none"
    latent_dims: int = 32
    learning_rate: float = 1e-4
    metrics: tuple[str, ...] = ("factor_vae", "mig")
    protocol: VoteProtocolName = "publish"
    samples: int = 50_000
    precision: Precision = "float32"
    device: Accelerator = "auto"
    rectifier: Rectifier | None = None
    initialization: FactorInitialization = "pytorch"

    def __post_init__(self) -> None:
        """Check what would otherwise fail after the training."""
        for option, choices in _CHOICES.items():
            check_choice(option, getattr(self, option), choices)
        for metric in self.metrics:
            check_choice("metrics", metric, get_args(ScoreName))
        for option in ("steps", "batch_size", "latent_dims", "samples"):
            whole_number(option, getattr(self, option), least=1)
        checked_seed(self.seed)
        for option in ("gamma", "weight"):
            real_number(option, getattr(self, option), least=0)
        real_number("learning_rate", self.learning_rate, above=0)

    @property
    def name(self) -> str:
        """The folder of the run."""
        return f"{self.variant}/seed_{self.seed}"
