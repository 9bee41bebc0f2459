"""Running a user's model to look at its output, leaving no trace in the model or the RNGs."""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

OTHER_SEED = 20_200_101

_process_state = threading.RLock()
"""Random states, warning filters and buffers belong to the process: one thread at a time."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """The same random numbers at every call; afterwards the random states are as they were."""
    with _process_state, torch.random.fork_rng(devices=_cuda_devices()):
        torch.manual_seed(seed)
        yield


@contextmanager
def undisturbed(owner: nn.Module | None) -> Iterator[None]:
    """No gradients; afterwards the random states and all module buffers are as they were.

    Buffers matter in train mode, where BatchNorm and its like write them. The modules of a plain
    callable are unknown, so every module that runs inside is remembered as it starts. Warnings are
    held back: a call tried in vain should not be heard, and the call chosen will warn again.
    """
    before: dict[nn.Module, dict[str, tuple[Tensor, Tensor]]] = {}

    def remember(module: nn.Module, _inputs: Any = None) -> None:
        if module not in before:
            before[module] = {
                name: (buffer, buffer.detach().clone())
                for name, buffer in module._buffers.items()
                if buffer is not None and not is_lazy(buffer)
            }

    with ExitStack() as stack:
        stack.enter_context(_process_state)
        stack.enter_context(torch.no_grad())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices()))
        for module in owner.modules() if owner is not None else ():
            remember(module)
        # A global hook only where it is needed: torch.compile would trace into it.
        handle = register_module_forward_pre_hook(remember) if owner is None else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()
            # Weights that autocast cast here, without gradients, must not serve the user's pass.
            torch.clear_autocast_cache()
            for module, buffers in before.items():
                for name, (buffer, value) in buffers.items():
                    if getattr(module, name, None) is not buffer:
                        module._buffers[name] = buffer
                    # Written only when changed: a write would invalidate graphs that saved it.
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)


def _cuda_devices() -> range:
    """Every GPU, but none before CUDA is in use: starting it here would be a trace too."""
    return range(torch.cuda.device_count() if _cuda_in_use() else 0)


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


class Probe:
    """Outputs of a model's calls on the user's inputs, each run at most once per seed."""

    def __init__(
        self, calls: dict[str, Callable[..., Any]], owner: nn.Module | None, inputs: Sequence[Any]
    ) -> None:
        """Runs nothing yet; `calls` are the calls by name, `owner` the module behind them."""
        self.calls = calls
        self.owner = owner
        self.inputs = inputs
        self._outputs: dict[tuple[str, bool], Any] = {}

    def has_run(self, call: str) -> bool:
        """Whether the named call was run and returned."""
        return (call, False) in self._outputs

    def output(self, call: str, *, reseeded: bool = False) -> Any:
        """The output of the named call: from the current random state, or from another seed."""
        key = (call, reseeded)
        if key not in self._outputs:
            with undisturbed(self.owner):
                if reseeded:
                    torch.default_generator.manual_seed(OTHER_SEED)
                    if _cuda_in_use():
                        torch.cuda.manual_seed_all(OTHER_SEED)
                self._outputs[key] = self.calls[call](*self.inputs)
        return self._outputs[key]
