"""What the ``Metric`` classes share: lists of integers as states, and undefined values."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from captum_vae.metrics.localization.curves import LocalizationScore
from captum_vae.metrics.localization.states import States


class ListStatesMetric(Metric, States):
    """A ``Metric`` whose lists of tensors are concatenated over processes.

    Its states are exact: they keep their types whatever the metric is cast to. What a wrapper such
    as ``Running`` or ``merge_state`` hands in is copied, because counting changes states in place.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        """Start without states; ``kwargs`` are options of ``torchmetrics.Metric``."""
        super().__init__(**kwargs)
        self._empty = {}

    def add_kind(self, kind: int) -> None:
        """Add a number that tells apart metrics which count differently, as their first state.

        A ``MetricCollection`` lets metrics share one state whose states agree after the first
        batch, as all do that saw no anomalous pixel in it; old versions look at one state only.
        """
        self.add_state("kind", default=torch.tensor(kind), dist_reduce_fx="max")

    def add_list_state(self, name: str, dtype: torch.dtype, *shape: int) -> None:
        """Add a list of (n, *shape) tensors of a type.

        A process that saw nothing contributes empty tensors of that type; torchmetrics would let
        it contribute float32, which the others cannot receive.
        """
        self.add_state(name, default=[], dist_reduce_fx="cat")
        self._empty[name] = (dtype, (0, *shape))

    @property
    def kept_on(self) -> torch.device:
        """The device on which the states are kept."""
        return torch.device("cpu") if self.compute_on_cpu else self.device

    def gathered(self) -> AbstractContextManager[Any]:
        """Within the block the states are those of all processes."""
        context: AbstractContextManager[Any] = self.sync_context()
        return context

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes, see ``torchmetrics.Metric.sync``."""
        for name in self._empty:
            parts = self.parts(name)
            if not parts:
                parts.append(self._nothing(name))
        super().sync(*args, **kwargs)

    def reset(self) -> None:
        """Forget everything; see ``torchmetrics.Metric.reset``.

        The lists are replaced, not emptied: the wrapper ``Running`` keeps those of earlier updates.
        """
        with torch.inference_mode(False):
            for name in self._empty:
                setattr(self, name, [])
            super().reset()

    def tensor_of(self, score: LocalizationScore) -> Tensor:
        """The value as a float64 scalar, with a warning when it is undefined."""
        if score.reason:
            warnings.warn(f"{score.name} is undefined: {score.reason}", stacklevel=2)
        return torch.tensor(score.value, dtype=torch.float64, device=self.device)

    def _reduce_states(self, incoming_state: Mapping[str, Any]) -> None:
        for name, (dtype, _) in self._empty.items():
            state = incoming_state.get(name, [])
            for part in state if isinstance(state, list) else [state]:
                if part.dtype != dtype:
                    raise TypeError(
                        f"the state {name} of {type(self).__name__} came as {part.dtype}; wanted "
                        f"{dtype}: counts are integers, so leave out set_dtype on its wrapper"
                    )
        with torch.inference_mode(False), torch.no_grad():
            super()._reduce_states(
                {
                    name: [part.clone() for part in state] if isinstance(state, list) else state
                    for name, state in incoming_state.items()
                }
            )

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        """Move the states; what would round counts to another type leaves the type as it is."""

        def keeping_type(state: Tensor) -> Tensor:
            return state.to(fn(state[:0] if state.dim() else state).device)

        return super()._apply(keeping_type, exclude_state)
