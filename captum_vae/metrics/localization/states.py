"""What counting keeps: lists of tensors to be concatenated, and sums, on one device.

The counting itself does not ask who holds the states. A ``Metric`` of torchmetrics does where users
take one and where processes are to be gathered, see
:mod:`captum_vae.metrics.localization.metric_states`. :class:`PlainStates` does within one process:
it needs no torchmetrics, whose import takes seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

DTypeAndShape = tuple[torch.dtype, tuple[int, ...]]


class States:
    """States by name, as attributes.

    Its states are exact: counting in a block of :meth:`counting` works under
    ``torch.inference_mode`` and leaves tensors that a later one may change.
    """

    _empty: dict[str, DTypeAndShape]

    def add_list_state(self, name: str, dtype: torch.dtype, *shape: int) -> None:
        """Add a list of (n, *shape) tensors of a type."""
        raise NotImplementedError

    def add_state(self, name: str, default: Any, dist_reduce_fx: Any = None) -> None:
        """Add a state that begins as ``default``."""
        raise NotImplementedError

    def add_kind(self, kind: int) -> None:
        """Add a number that tells apart states which count differently."""

    @property
    def kept_on(self) -> torch.device:
        """The device on which the states are kept."""
        raise NotImplementedError

    def parts(self, name: str) -> list[Tensor]:
        """The state's tensors; the list itself, where it is not reduced, may be changed."""
        state = getattr(self, name)
        return state if isinstance(state, list) else [state]

    def concatenated(self, name: str) -> Tensor:
        """The state as one (n, *shape) tensor."""
        parts = self.parts(name)
        return torch.cat(parts) if parts else self._nothing(name)

    @contextmanager
    def counting(self) -> Iterator[torch.device]:
        """Let the block change the states, under ``torch.inference_mode`` too.

        Yields:
            The device on which the states are kept.
        """
        with torch.inference_mode(False), torch.no_grad():
            for name in self._empty:
                parts = self.parts(name)
                parts[:] = [part.clone() if part.is_inference() else part for part in parts]
            yield self.kept_on

    def gathered(self) -> AbstractContextManager[Any]:
        """Within the block the states are those of all processes."""
        raise NotImplementedError

    def _nothing(self, name: str) -> Tensor:
        dtype, shape = self._empty[name]
        return torch.zeros(shape, dtype=dtype, device=self.kept_on)


class PlainStates(States):
    """States of one process, on the device that :meth:`to` names."""

    def __init__(self) -> None:
        """Start without states, on the CPU."""
        self._empty = {}
        self._first: dict[str, Tensor] = {}
        self._device = torch.device("cpu")

    def add_list_state(self, name: str, dtype: torch.dtype, *shape: int) -> None:
        """Add a list of (n, *shape) tensors of a type."""
        self._empty[name] = (dtype, (0, *shape))
        setattr(self, name, [])

    def add_state(self, name: str, default: Any, dist_reduce_fx: Any = None) -> None:
        """Add a tensor; it begins as ``default``, which counting replaces and never changes."""
        self._first[name] = default
        setattr(self, name, default)

    @property
    def kept_on(self) -> torch.device:
        """The device on which the states are kept."""
        return self._device

    def to(self, device: torch.device) -> None:
        """Keep on another device what will be counted.

        Raises:
            ValueError: Something was counted on this one already.
        """
        if device != self._device and any(self.parts(name) for name in self._empty):
            raise ValueError(f"counted on {self._device} already; wanted {device} from the start")
        self._device = device

    def gathered(self) -> AbstractContextManager[Any]:
        """Nothing happens: there is one process."""
        return nullcontext()

    def reset(self) -> None:
        """Forget everything."""
        for name in self._empty:
            setattr(self, name, [])
        for name, value in self._first.items():
            setattr(self, name, value)
