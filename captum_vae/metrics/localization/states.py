"""What the ``Metric`` classes share: list states of known type, and undefined values."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_vae.metrics.localization.curves import LocalizationScore


class ListStatesMetric(Metric):
    """A ``Metric`` whose lists of tensors are concatenated over processes.

    A process that saw nothing contributes empty tensors of the state's own type; torchmetrics
    would let it contribute float32, which the others cannot receive.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        """Start without states; ``kwargs`` are of ``torchmetrics.Metric``."""
        super().__init__(**kwargs)
        self._empty: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}

    def add_list_state(self, name: str, dtype: torch.dtype, *shape: int) -> None:
        """Add a list of (n, *shape) tensors."""
        self.add_state(name, default=[], dist_reduce_fx="cat")
        self._empty[name] = (dtype, (0, *shape))

    def parts(self, name: str) -> list[Tensor]:
        """The state's tensors; the list itself, where it is not reduced, may be changed."""
        state = getattr(self, name)
        return state if isinstance(state, list) else [state]

    def concatenated(self, name: str) -> Tensor:
        """The state as one (n, *shape) tensor."""
        parts = self.parts(name)
        return torch.cat(parts) if parts else self._nothing(name)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes, see ``torchmetrics.Metric.sync``."""
        for name in self._empty:
            parts = self.parts(name)
            if not parts:
                parts.append(self._nothing(name))
        super().sync(*args, **kwargs)

    def tensor_of(self, score: LocalizationScore) -> Tensor:
        """The value as a float64 scalar, with a warning when it is undefined."""
        if score.reason:
            warnings.warn(f"{score.name} is undefined: {score.reason}", stacklevel=2)
        return torch.tensor(score.value, dtype=torch.float64, device=self.device)

    def _nothing(self, name: str) -> Tensor:
        dtype, shape = self._empty[name]
        return torch.zeros(shape, dtype=dtype, device=self.device)
