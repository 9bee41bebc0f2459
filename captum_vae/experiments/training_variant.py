"""How the anomaly experiments train a VAE: as published, or as this package does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from captum_vae.losses.options import Likelihood
from captum_vae.training.configuration import Initialization, ObjectiveConfig

TrainingVariant = Literal["published", "ours"]
"""The loss and the initialisation of a VAE."""


@dataclass(frozen=True)
class TrainingKind:
    """A loss with an initialisation.

    Attributes:
        likelihood: What the decoder's output means.
        warmup: Whether the KL's weight climbs from 0 over the first steps.
        initialization: How weights start.
        words: The same in words, a template that may hold the settings ``s``.
    """

    likelihood: Likelihood
    warmup: bool
    initialization: Initialization
    words: str

    def objective(self, learning_rate: float, warmup_steps: int) -> ObjectiveConfig:
        """What is minimised, where the settings ask for so many steps of warm-up."""
        return ObjectiveConfig(
            likelihood=self.likelihood,
            warmup_steps=warmup_steps if self.warmup else 0,
            learning_rate=learning_rate,
        )


OBJECTIVES: dict[TrainingVariant, TrainingKind] = {
    "published": TrainingKind(
        "bernoulli",
        False,
        "pytorch",
        "as published, with binary cross-entropy summed over pixels plus the KL at full weight "
        "from the first step, and PyTorch's default initialisation",
    ),
    "ours": TrainingKind(
        "optimal_gaussian",
        True,
        "data",
        "not as published but in this package's way, with the variance of the Gaussian learned in "
        "closed form (sigma-VAE), the KL's weight climbing over {s.warmup_steps} steps, and "
        "encoder layers scaled on data before training",
    ),
}
"""``published`` is the loss of the authors' code (for MNIST) and of both replications; ``ours``
keeps dimensions active on grey photographs, where the published loss collapses the posterior."""
