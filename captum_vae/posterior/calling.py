"""How to call a VAE for its posterior: itself, encode, encoder, any method, any callable."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from captum_vae.posterior.reading import PosteriorError

ModelCall = Callable[..., Any]

FORWARD = "forward"


def unwrap(model: Any) -> Any:
    """The VAE inside DataParallel, DistributedDataParallel, torch.compile, Fabric or Lightning.

    A LightningModule is unwrapped only when it has no forward, encode or encoder of its own; its
    one child with parameters is then the VAE.

    Raises:
        ValueError: when such a LightningModule has several children with parameters.
    """
    if isinstance(model, nn.DataParallel | DistributedDataParallel):
        return unwrap(model.module)
    if isinstance(model, nn.Module) and isinstance(getattr(model, "_orig_mod", None), nn.Module):
        return unwrap(model._orig_mod)  # torch.compile's OptimizedModule
    if type(model).__name__ == "_FabricModule":
        return unwrap(model.module)
    if isinstance(model, nn.Module) and _is_bare_lightning_module(model):
        children = [name for name, child in model.named_children() if _has_parameters(child)]
        if len(children) != 1:
            raise ValueError(
                f"{type(model).__name__} has no forward, encode or encoder of its own and "
                f"{len(children)} children with parameters {children}: pass the VAE among them"
            )
        return unwrap(getattr(model, children[0]))
    return model


def _is_bare_lightning_module(model: nn.Module) -> bool:
    frameworks = ("lightning", "pytorch_lightning")
    is_lightning = any(
        base.__name__ == "LightningModule" and base.__module__.split(".")[0] in frameworks
        for base in type(model).__mro__
    )
    if not is_lightning or callable(getattr(model, "encode", None)) or hasattr(model, "encoder"):
        return False
    return type(model).forward.__module__.split(".")[0] in (*frameworks, "torch")


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def owner_of(model: Any) -> nn.Module | None:
    """The module behind a module, or behind one of its bound methods; None for other callables."""
    if isinstance(model, nn.Module):
        return model
    bound_to = getattr(model, "__self__", None)
    return bound_to if inspect.ismethod(model) and isinstance(bound_to, nn.Module) else None


def routes_of(model: Any, call: Any) -> dict[str, ModelCall]:
    """The calls that may give the posterior, by the word for each, cheapest first.

    "auto" on a module: encode (or, without one, encoder), then the module itself.

    Raises:
        ValueError: when `call` names no method or submodule.
        TypeError: when the model or `call` is not callable.
    """
    if not callable(model):
        raise TypeError(f"the model must be a module or a callable, got {type(model).__name__}")
    if callable(call):
        return {getattr(call, "__name__", type(call).__name__): call}
    if not isinstance(call, str):
        raise TypeError(f"call={call!r}: want 'auto', 'forward', a method's name or a callable")
    if not isinstance(model, nn.Module):
        name = FORWARD if owner_of(model) is None else model.__name__
        if call not in ("auto", FORWARD, name):
            raise ValueError(f"call={call!r}, but the model is a plain callable: pass the module")
        return {name: model}
    if call == "auto":
        encoders = [name for name in ("encode", "encoder") if callable(getattr(model, name, None))]
        return {**{name: getattr(model, name) for name in encoders[:1]}, FORWARD: model}
    if call == FORWARD:
        return {FORWARD: model}
    found: Any = model
    for name in call.split("."):
        found = getattr(found, name, None)
    if not callable(found):
        raise ValueError(
            f"call={call!r}: {type(model).__name__} has no such method or submodule; "
            f"it has {_callable_names(model)}"
        )
    return {call: found}


def _callable_names(model: nn.Module) -> list[str]:
    inherited = set(dir(nn.Module))
    methods = [
        name
        for name in dir(type(model))
        if name not in inherited and name[0] != "_" and callable(getattr(type(model), name))
    ]
    return [FORWARD, *methods, *(name for name, _ in model.named_children())]


def call_for_output(
    function: ModelCall, inputs: Sequence[Any], owner: nn.Module | None, modules: Sequence[str]
) -> Any:
    """Call the function once; its output, or {name: output} of the submodules named.

    Raises:
        PosteriorError: when a submodule does not exist, did not run, or ran more than once.
    """
    if not modules:
        return function(*inputs)
    if owner is None:
        raise PosteriorError(f"reading submodules {list(modules)} needs a module, got a callable")
    outputs: dict[str, list[Any]] = {name: [] for name in modules}
    with _recording(owner, outputs):
        function(*inputs)
    for name, calls in outputs.items():
        if len(calls) != 1:
            raise PosteriorError(
                f"submodule {name!r} ran {len(calls)} times in one call of the model, want once: "
                "choose the call that runs it (call='encode', 'forward', ...) or another submodule"
            )
    return {name: calls[0] for name, calls in outputs.items()}


@contextmanager
def _recording(owner: nn.Module, outputs: dict[str, list[Any]]) -> Iterator[None]:
    """Forward hooks on the named submodules that live for this block."""
    submodules = dict(owner.named_modules())
    missing = [name for name in outputs if name not in submodules]
    if missing:
        raise PosteriorError(
            f"{type(owner).__name__} has no submodule {missing[0]!r}; "
            f"it has {sorted(filter(None, submodules))}"
        )

    def recorder(calls: list[Any]) -> Callable[[nn.Module, Any, Any], None]:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # The clone survives an in-place operation on the output later in the model.
            calls.append(output.clone() if isinstance(output, Tensor) else output)

        return record

    handles = [
        submodules[name].register_forward_hook(recorder(calls)) for name, calls in outputs.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
