"""How to call a VAE for its posterior: itself, encode, encoder, any method, any callable."""

import functools
import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from captum_vae.posterior.hooks import hooked
from captum_vae.posterior.reading import PosteriorError

ModelCall = Callable[..., Any]


class ModelArgumentsError(PosteriorError):
    """The model wants other arguments than it was called with."""


FORWARD = "forward"


def unwrap(model: Any) -> Any:
    """The VAE inside DataParallel, DistributedDataParallel, torch.compile, Fabric or Lightning.

    A LightningModule is unwrapped only when it has no forward, encode or encoder of its own; its
    one child with parameters is then the VAE.

    Raises:
        ValueError: Such a LightningModule has several children with parameters.
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


def modules_behind(model: Any) -> list[nn.Module]:
    """The modules that a callable reaches: itself, or what its closure, globals or partial hold."""
    owner = owner_of(model)
    if owner is not None:
        return [owner]
    if isinstance(model, functools.partial):
        held = [model.func, *model.args, *model.keywords.values()]
        return _without_repeats(module for one in held for module in modules_behind(one))
    try:
        seen = inspect.getclosurevars(model)
    except (TypeError, ValueError):  # no Python function, or one whose closure is not complete
        return []
    held = [*seen.nonlocals.values(), *seen.globals.values()]
    return _without_repeats(module for one in held if (module := owner_of(one)) is not None)


def all_modules(root: nn.Module) -> list[nn.Module]:
    """A module and every one inside it, once each: ``root.modules()`` at a tenth of its price."""
    found = {root: None}
    waiting = [root]
    while waiting:
        for child in waiting.pop()._modules.values():
            if child is not None and child not in found:
                found[child] = None
                waiting.append(child)
    return list(found)


def _without_repeats(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return list(dict.fromkeys(modules))


def routes_of(model: Any, call: Any) -> dict[str, ModelCall]:
    """The calls that may give the posterior, by the word for each, cheapest first.

    "auto" on a module: encode (or, without one, encoder), then the module itself.

    Raises:
        TypeError: The model or `call` is not callable.
        ValueError: `call` names no method or submodule.
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


def route_named(name: str, model: Any, call: Any) -> ModelCall:
    """One of the calls of :func:`routes_of`, looked up anew: a method may have been replaced."""
    if name == FORWARD and not callable(call):
        return cast(ModelCall, model)
    if call == "auto" and isinstance(model, nn.Module):
        found = getattr(model, name, None)
        if callable(found):
            return cast(ModelCall, found)
    return routes_of(model, call)[name]


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
        PosteriorError: A submodule does not exist, did not run, or ran more than once.
        ModelArgumentsError: The model fails for want of arguments that it did not get.
        Exception: The model's own, when it fails for another reason.
    """
    if not modules:
        return _called(function, inputs)
    if owner is None:
        raise PosteriorError(f"reading submodules {list(modules)} needs a module, got a callable")
    outputs: dict[str, list[Any]] = {name: [] for name in modules}
    with _recording(owner, outputs):
        _called(function, inputs)
    for name, calls in outputs.items():
        if len(calls) != 1:
            raise PosteriorError(
                f"submodule {name!r} ran {len(calls)} times in one call of the model, want once: "
                "choose the call that runs it (call='encode', 'forward', ...) or another submodule"
            )
    return {name: calls[0] for name, calls in outputs.items()}


def _called(function: ModelCall, inputs: Sequence[Any]) -> Any:
    try:
        return function(*inputs)
    except Exception as error:
        misfit = _misfit(function, inputs, error)
        if misfit:
            raise ModelArgumentsError(misfit) from error
        raise


def _misfit(function: ModelCall, inputs: Sequence[Any], error: Exception) -> str:
    """Which arguments the failed call lacks, and how to give them; "" where that was not it."""
    if isinstance(error, PosteriorError):
        return ""
    called = function.forward if isinstance(function, nn.Module) else function
    owner = getattr(called, "__self__", None)
    name = getattr(called, "__name__", "call")
    model = f"{name} of {type(owner).__name__}" if owner is not None else f"the function {name}"
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # of built-in and compiled functions nothing is known
        return ""
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if len(inputs) > len(plain) and not takes_more:
        return (
            f"{model} takes {len(plain)} argument(s), {', '.join(p.name for p in plain)}, and was "
            f"given {len(inputs)}: leave out {len(inputs) - len(plain)} of inputs and "
            "additional_forward_args"
        )
    missing = [p.name for p in plain[len(inputs) :] if p.default is p.empty]
    if missing:
        listed = ", ".join(missing)
        return (
            f"{model} wants further arguments beside the images: {listed}. Pass "
            f"additional_forward_args=({listed},), {_OR_WRAPPED}"
        )
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if by_name:
        words = ", ".join(f"{p.name}=..." for p in by_name)
        return (
            f"{model} wants arguments by keyword beside the images: {words}. Give a call that "
            f"passes them, PosteriorAdapter(model, call=lambda x: model(x, {words})), {_OR_WRAPPED}"
        )
    left = [p.name for p in plain[len(inputs) :] if p.default is None]
    if left and "NoneType" in str(error):
        listed = ", ".join(left)
        return (
            f"{model} fails while its arguments {listed} are left at None ({error}). Pass "
            f"additional_forward_args=({listed},), {_OR_WRAPPED}"
        )
    looked_up = _looked_up(error)
    if looked_up:
        return (
            f"{model} does not take a tensor of images: it looks up {looked_up} in its batch "
            f"({type(error).__name__}: {error}). Give a call that makes such a batch, as in "
            "PosteriorAdapter(model, call=lambda x: model({'data': x})) for a dictionary, "
            f"{_OR_WRAPPED}"
        )
    return ""


_OR_WRAPPED = (
    "or wrap the model in a module whose forward takes the images alone; on the command line let "
    "--model name a function that returns the wrapped model"
)


def _looked_up(error: Exception) -> str:
    """The key or attribute that the model's own code sought in a tensor, as it wrote it."""
    frames = traceback.extract_tb(error.__traceback__)
    line = next((f.line or "" for f in reversed(frames) if "/torch/" not in f.filename), "")
    if isinstance(error, IndexError | TypeError | KeyError):
        found = re.search(r"\w+(\[\s*[\"'][^\]]*\])", line)
        return found.group(1) if found else ""
    if isinstance(error, AttributeError) and "'Tensor' object" in str(error):
        return f".{error.name}"
    return ""


@contextmanager
def _recording(owner: nn.Module, outputs: dict[str, list[Any]]) -> Iterator[None]:
    """Forward hooks on the named submodules, which live for this block and act for this thread."""
    submodules = dict(owner.named_modules())
    missing = [name for name in outputs if name not in submodules]
    if missing:
        raise PosteriorError(
            f"{type(owner).__name__} has no submodule {missing[0]!r}; "
            f"it has {sorted(filter(None, submodules))}"
        )

    def recorder(calls: list[Any]) -> Callable[[nn.Module, Any], None]:
        def record(_module: nn.Module, output: Any) -> None:
            # The clone survives an in-place operation on the output later in the model.
            calls.append(output.clone() if isinstance(output, Tensor) else output)

        return record

    with ExitStack() as stack:
        for name, calls in outputs.items():
            stack.enter_context(hooked(submodules[name], recorder(calls)))
        yield
