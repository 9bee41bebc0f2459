"""Hooks that a model puts on tensors in its forward, which change gradients unseen by the graph."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

HOOKED: WeakSet[Module] = WeakSet()
"""Layers behind which the model puts such hooks: only backward passes give what these make of it.

A closed form takes the derivatives of the operations themselves, and what ``Tensor.register_hook``
makes of a gradient, as to clip, scale or reverse it, is no operation.
"""
WHY_HOOKED = (
    "a hook that the model puts on a tensor (register_hook) may change gradients on the way, which "
    "only a backward pass sees"
)


class SeeingHooks(TorchFunctionMode):
    """Notices ``Tensor.register_hook`` in the block, of this thread.

    Attributes:
        seen: Whether there was any.
    """

    def __init__(self) -> None:
        """None was seen yet."""
        super().__init__()
        self.seen = False

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, whatever it is."""
        self.seen |= function is Tensor.register_hook
        return function(*args, **(kwargs or {}))
