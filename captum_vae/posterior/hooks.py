"""A forward hook that lives for one block and acts for one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.jit import ScriptModule
from torch.nn import Module
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils.hooks import RemovableHandle

_registering = threading.Lock()
"""PyTorch numbers hooks by a counter that two threads could read at once."""


def _on_a_script_module(
    module: ScriptModule, after: Callable[..., Any], before: Callable[..., Any], on: str
) -> RemovableHandle:
    """A hook on a module that refuses its own, which runs where Python calls the module."""

    def if_it_is(hook: Callable[..., Any]) -> Callable[..., Any]:
        return lambda called, *values: hook(called, *values) if called is module else None

    if on == "output":
        return register_module_forward_hook(if_it_is(after))
    return register_module_forward_pre_hook(if_it_is(before))


@contextmanager
def hooked(
    module: Module, hook: Callable[[Module, Any], Any], *, on: str = "output"
) -> Iterator[None]:
    """See, and perhaps replace, what a module puts out or takes in, while the block lasts.

    Other threads may run the same module meanwhile: for them nothing changes.

    Args:
        module: The module, whose hooks are as they were afterwards, also when the block raises.
        hook: Called with the module and its output, or the tuple of its positional inputs. What it
            returns takes their place; None leaves them.
        on: ``output`` or ``input``.
    """
    caller = threading.get_ident()

    def after(module: Module, _inputs: Any, output: Any) -> Any:
        return hook(module, output) if threading.get_ident() == caller else None

    def before(module: Module, inputs: Any) -> Any:
        return hook(module, inputs) if threading.get_ident() == caller else None

    with _registering:
        if isinstance(module, ScriptModule):
            handle = _on_a_script_module(module, after, before, on)
        elif on == "output":
            handle = module.register_forward_hook(after)
        else:
            handle = module.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
