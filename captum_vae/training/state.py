"""What a training run is made of at a step, as plain data and back."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from captum_vae.training.load import check_architecture, describe_model, load_weights
from captum_vae.training.objectives import VAEObjective
from captum_vae.training.random_state import random_state, set_random_state
from captum_vae.version import __version__


@dataclass
class TrainingState:
    """The parts of a run that change with every step, and the settings that must not.

    Attributes:
        model: The VAE.
        objective: The loss, which may own parameters, such as a discriminator's.
        optimizers: Optimizers by the name of the loss that they minimise.
        settings: What a resumed run must share: seed, batch size, precision, number and digest of
            the images, objective.
        device: The device whose generator is part of the state.
    """

    model: nn.Module
    objective: VAEObjective
    optimizers: dict[str, Optimizer]
    settings: dict[str, Any]
    device: torch.device

    def random_state(self) -> dict[str, Any]:
        """The states of this process's generators."""
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

    def check_same_run(self, state: Mapping[str, Any]) -> None:
        """Refuse a captured state of another run than this one.

        Raises:
            ValueError: Architecture, settings or images differ; the message says in what.
        """
        check_architecture(state, self.model)
        stored = state["settings"]
        changed = [
            f"{name} was {stored.get(name)!r}, now {value!r}"
            for name, value in self.settings.items()
            if name != "data" and stored.get(name) != value
        ]
        # Checkpoints written before images were compared hold no digest of them.
        if not changed and stored.get("data", self.settings["data"]) != self.settings["data"]:
            changed = [
                f"data: the {self.settings['images']} images are not those that it was trained "
                "on (their names or contents differ)"
            ]
        if changed:
            raise ValueError(
                "the run to resume was started with other settings: " + "; ".join(changed) + ". "
                "Set them back, or choose another output folder"
            )

    def restore(self, state: Mapping[str, Any], *, rank: int, world_size: int) -> int:
        """Take over a captured state of the same run and return its step.

        Optimizers whose state the checkpoint gave up begin anew.

        Raises:
            ValueError: Its weights do not fit.
        """
        load_weights(state, self.model)
        try:
            self.objective.load_state_dict(state["objective"])
            for name, optimizer in self.optimizers.items() if "optimizers" in state else ():
                optimizer.load_state_dict(state["optimizers"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"its objective or optimizers do not fit: {reason}") from error
        if len(state["random"]) == world_size:
            set_random_state(state["random"][rank], self.device)
        else:
            warnings.warn(
                f"the checkpoint was written by {len(state['random'])} processes and is resumed "
                f"by {world_size}: sampling noise will differ from an uninterrupted run",
                stacklevel=2,
            )
        return int(state["step"])

    def is_finite(self) -> bool:
        """Whether no weight of model and objective is NaN or infinite."""
        parameters = [*self.model.parameters(), *self.objective.parameters()]
        return all(bool(parameter.isfinite().all()) for parameter in parameters)
