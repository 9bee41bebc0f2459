"""What a training run is made of at a step, as plain data and back."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from captum_vae.training.checkpoint import describe_model, load_weights
from captum_vae.training.objectives import VAEObjective
from captum_vae.training.random_state import random_state, set_random_state
from captum_vae.version import __version__


@dataclass
class TrainingState:
    """The parts of a run that change with every step, and the settings that must not.

    Attributes:
        model: the VAE.
        objective: the loss, which may own parameters (a discriminator).
        optimizers: by the name of the loss they minimise.
        settings: seed, batch size, number of images, objective: what a resumed run must share.
        device: whose generator is part of the state.
    """

    model: nn.Module
    objective: VAEObjective
    optimizers: dict[str, Optimizer]
    settings: dict[str, Any]
    device: torch.device

    def random_state(self) -> dict[str, Any]:
        """The generators of this process."""
        return random_state(self.device)

    def capture(self, step: int, random_states: list[dict[str, Any]]) -> dict[str, Any]:
        """Everything a checkpoint holds after ``step`` steps; one random state per process."""
        return {
            "version": __version__,
            "step": step,
            "model": {**describe_model(self.model), "weights": self.model.state_dict()},
            "objective": self.objective.state_dict(),
            "optimizers": {name: opt.state_dict() for name, opt in self.optimizers.items()},
            "random": random_states,
            "settings": self.settings,
        }

    def restore(self, state: dict[str, Any], *, rank: int, world_size: int) -> int:
        """Take over a captured state and return its step.

        Raises:
            ValueError: it is of another architecture or was trained under other settings.
        """
        load_weights(state, self.model)
        changed = [
            f"{name} was {state['settings'].get(name)!r}, now {value!r}"
            for name, value in self.settings.items()
            if state["settings"].get(name) != value
        ]
        if changed:
            raise ValueError(
                "the run to resume was started with other settings: " + "; ".join(changed) + ". "
                "Set them back, or choose another output folder"
            )
        self.objective.load_state_dict(state["objective"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        if len(state["random"]) == world_size:
            set_random_state(state["random"][rank], self.device)
        else:
            warnings.warn(
                f"the checkpoint was written by {len(state['random'])} processes and is resumed "
                f"by {world_size}: sampling noise will differ from an uninterrupted run",
                stacklevel=2,
            )
        return int(state["step"])

    def parameters(self) -> list[nn.Parameter]:
        """Parameters of the model and the objective."""
        return [*self.model.parameters(), *self.objective.parameters()]

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return all(bool(parameter.isfinite().all()) for parameter in self.parameters())
