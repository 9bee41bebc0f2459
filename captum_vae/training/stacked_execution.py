"""A step of stacked runs carried out: operation by operation, or as a recorded CUDA graph."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from captum_vae.training.configuration import Precision
from captum_vae.training.stacked_step import Noise, StackedStep


class EagerStep:
    """A step, operation by operation.

    Args:
        step: The losses and gradients.
        precision: That of the forward pass.
        device: Where the stack lies.
    """

    def __init__(self, step: StackedStep, precision: Precision, device: torch.device) -> None:
        """Nothing is run yet."""
        self.step, self.precision, self.device = step, precision, device

    def __call__(self, images: Tensor, noise: Noise, beta: float) -> dict[str, Tensor]:
        """Make the step with a weight of the KL and return its losses, (K,) each."""
        with self._autocast():
            losses = self.step.gradients(images, noise, torch.tensor(beta, device=self.device))
        self.step.update()
        return losses

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


class GraphedStep(EagerStep):
    """A step recorded as a CUDA graph: inputs are copied into its own memory, then it is replayed.

    The steps that PyTorch asks for before a recording are real steps of the training.
    """

    WARM_UP = 3

    def __init__(self, step: StackedStep, precision: Precision, device: torch.device) -> None:
        """Nothing is recorded yet."""
        super().__init__(step, precision, device)
        self._graph: Any = None
        self._side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._eager_steps = 0
        self._losses: dict[str, Tensor] = {}

    def __call__(self, images: Tensor, noise: Noise, beta: float) -> dict[str, Tensor]:
        """Make the step with a weight of the KL and return its losses, (K,) each."""
        if self._eager_steps < self.WARM_UP:
            self._eager_steps += 1
            self._side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._side):
                losses = super().__call__(images, noise, beta)
            torch.cuda.current_stream().wait_stream(self._side)
            return losses
        if self._graph is None:
            self._record(images, noise)
        self._images.copy_(images)
        for kept, drawn in zip(self._noise, noise, strict=True):
            if kept is not None and drawn is not None:
                kept.copy_(drawn)
        self._beta.fill_(beta)
        self._graph.replay()
        return {name: value.clone() for name, value in self._losses.items()}

    def _record(self, images: Tensor, noise: Noise) -> None:
        self._images = images.clone()
        self._noise = Noise(*(None if n is None else n.clone() for n in noise))  # type: ignore[arg-type]
        self._beta = torch.zeros((), device=self.device)
        for optimizer in self.step.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            with self._autocast():
                self._losses = self.step.gradients(self._images, self._noise, self._beta)
            self.step.update()
