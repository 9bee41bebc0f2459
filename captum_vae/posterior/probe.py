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

from captum_vae.posterior.calling import all_modules, modules_behind
from captum_vae.posterior.trace import Graph, Node, Recorder

PROBING = threading.RLock()
"""Held while a model is looked at: random states, warning filters and buffers belong to the
process, so one thread at a time exchanges them."""

FILTERS = threading.RLock()
"""Held while warning filters are exchanged, or one is put in or taken out."""


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """The same random numbers at every call; afterwards the random states are as they were."""
    with PROBING, torch.random.fork_rng(devices=_cuda_devices()):
        torch.manual_seed(seed)
        yield


@contextmanager
def undisturbed(owner: nn.Module | None) -> Iterator[None]:
    """No gradients; afterwards the random states and all module buffers are as they were.

    Buffers matter in train mode, where BatchNorm and its like write them: for the block, every
    module has copies of its buffers in their place. The buffers themselves are never written, so a
    graph that saved them stays good for its backward. The modules of a plain callable are unknown:
    each gets its copies as it starts to run. Warnings are held back: a call tried in vain should
    not be heard, and the call chosen will warn again.
    """
    with PROBING, ExitStack() as stack:
        exchange = stack.enter_context(_copied_buffers())
        stack.enter_context(torch.no_grad())
        stack.enter_context(FILTERS)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.random.fork_rng(devices=_cuda_devices()))
        for module in owner.modules() if owner is not None else ():
            exchange(module)
        # A global hook only where it is needed: torch.compile would trace into it.
        handle = register_module_forward_pre_hook(exchange) if owner is None else None
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()
            # Weights that autocast cast here, without gradients, must not serve the user's pass.
            torch.clear_autocast_cache()


@contextmanager
def without_updates(model: Any) -> Iterator[None]:
    """Leave the buffers of a model in train mode as they are, whatever runs in the block.

    A batch norm in train mode writes its running statistics, which a graph in progress may have
    saved for its backward; for the block it writes copies. A model in eval mode costs nothing.

    Args:
        model: A module, or a callable whose closure holds modules.
    """
    writing = [
        module
        for behind in modules_behind(model)
        for module in all_modules(behind)
        if module.training and module._buffers
    ]
    if not writing:
        yield
        return
    with PROBING, _copied_buffers() as exchange:
        for module in writing:
            exchange(module)
        yield


@contextmanager
def _copied_buffers() -> Iterator[Callable[..., None]]:
    """A function that puts copies in place of a module's buffers until the block ends."""
    kept: dict[nn.Module, dict[str, Tensor]] = {}
    thread = threading.get_ident()

    def exchange(module: nn.Module, _inputs: Any = None) -> None:
        if module in kept or threading.get_ident() != thread:
            return
        kept[module] = {
            name: buffer
            for name, buffer in module._buffers.items()
            if buffer is not None and not is_lazy(buffer)
        }
        for name, buffer in kept[module].items():
            _place(module, name, buffer.detach().clone())

    try:
        yield exchange
    finally:
        for module, buffers in kept.items():
            for name, buffer in buffers.items():
                _place(module, name, buffer)


def _place(module: nn.Module, name: str, buffer: Tensor) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        setattr(module, name, buffer)  # its buffers live in C++
    else:
        module._buffers[name] = buffer


def _cuda_devices() -> range:
    """Every GPU, but none before CUDA is in use: starting it here would be a trace too."""
    cuda_in_use = bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
    return range(torch.cuda.device_count() if cuda_in_use else 0)


class Probe:
    """Outputs of a model's calls on the user's inputs, each run once, and how they were computed.

    To be used inside `undisturbed`. Every call starts from the same random state.

    Args:
        calls: The calls by name.
        modules: The modules behind them, whose parameters have names.
        inputs: What each call gets.
    """

    def __init__(
        self,
        calls: dict[str, Callable[..., Any]],
        modules: Sequence[nn.Module],
        inputs: Sequence[Any],
    ) -> None:
        """Runs nothing yet."""
        self.calls = calls
        self.inputs = inputs
        named = [pair for module in modules for pair in module.named_parameters()]
        self._named = named  # kept alive, so that the ids stay theirs
        self.graph = Graph(inputs, {id(tensor): name for name, tensor in named})
        self._outputs: dict[str, Any] = {}
        self._recorders: dict[str, Recorder] = {}

    def output(self, call: str) -> Any:
        """The output of the named call."""
        if call not in self._outputs:
            recorder = Recorder(self.graph)
            try:
                with torch.random.fork_rng(devices=_cuda_devices()), recorder:
                    output = self.calls[call](*self.inputs)
            except Exception:
                # Some operators refuse to run while they are watched. Names may do without.
                recorder = Recorder(self.graph)
                with torch.random.fork_rng(devices=_cuda_devices()):
                    output = self.calls[call](*self.inputs)
            self._outputs[call], self._recorders[call] = output, recorder
        return self._outputs[call]

    def trace(self, call: str) -> Sequence[Node]:
        """The operations of the named call, in order."""
        self.output(call)
        return self._recorders[call].nodes

    def elements(self, call: str, tensor: Tensor) -> Tensor:
        """The scalars that a tensor of the call's output holds: see `Graph.elements`."""
        self.output(call)
        return self.graph.elements(self._recorders[call].node(tensor))

    def node(self, call: str, tensor: Tensor) -> Node:
        """The node of a tensor of the call's output."""
        self.output(call)
        return self._recorders[call].node(tensor)


def training_twin(module: nn.Module, copies: dict[nn.Module, nn.Module] | None = None) -> nn.Module:
    """The module in train mode, with the same parameters and copies of everything else it holds.

    A VAE often samples in train mode only, which shows what its outputs are. The twin can show it
    while the module itself, which other threads may be running, stays in its mode.
    """
    copies = {} if copies is None else copies
    if module not in copies:
        twin = module.__new__(type(module))
        copies[module] = twin
        state = module.__dict__
        twin.__dict__.update(state)
        twin.__dict__["training"] = True
        twin.__dict__["_parameters"] = dict(state["_parameters"])
        twin.__dict__["_buffers"] = {
            name: None if buffer is None else buffer.detach().clone()
            for name, buffer in state["_buffers"].items()
        }
        twin.__dict__["_modules"] = {
            name: None if child is None else training_twin(child, copies)
            for name, child in state["_modules"].items()
        }
    return copies[module]
