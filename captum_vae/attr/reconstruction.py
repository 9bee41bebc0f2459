"""A VAE's own reconstruction of its input, by whichever of its calls gives one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.attr.decoding import images_like, latent_of, named_decoders
from captum_vae.models.base import GaussianVAE
from captum_vae.posterior import Posterior, PosteriorAdapter
from captum_vae.posterior.hooks import hooked
from captum_vae.posterior.probe import seeded
from captum_vae.posterior.read_back import may_read_back

_CHOSEN: WeakKeyDictionary[Any, dict[Any, tuple[str, int]]] = WeakKeyDictionary()
"""Which call of a model reconstructs, see ``_first_reconstruction``."""


def reconstruct(
    adapter: PosteriorAdapter,
    args: Sequence[Any],
    posterior: Posterior | None = None,
    *,
    keep_graph: bool = False,
) -> Tensor:
    """The VAE's own reconstruction of its first input, from the posterior mean where it can be.

    A model with a method ``reconstruct`` is asked for it. Else the model is run as a whole with the
    mean in the place of what its ``decode``, or ``decoder``, takes there, since what it decodes may
    be logits that its forward turns into an image; where that cannot be, ``decode`` or ``decoder``
    is given the mean; and a model without one is run as it is. Each gets the model's other
    arguments that its signature asks for. Noise, if the model draws any, is the same at every call;
    the user's random state is left as it was.

    Args:
        adapter: Knows the model and how it is called.
        args: The model's positional arguments; the first is the image (B, C, *spatial).
        posterior: Posterior of those arguments, where it is known; its gradients reach the result.
        keep_graph: Record gradients from the arguments to the reconstruction.

    Returns:
        Intensities of the image's shape and on its scale; detached unless ``keep_graph``.

    Raises:
        ValueError: No tensor of the image's shape comes out.
    """
    image: Tensor = args[0]
    model: Any = adapter.owner or adapter.model
    if getattr(model, "DECODES", "images") != "images":
        raise ValueError(
            f"{type(model).__name__} decodes {model.DECODES}, not images, so it has no "
            "reconstruction to compare an image with; compare its features with those it explains "
            "(model.explained), or take another baseline"
        )
    decode = next(iter(named_decoders(model)), None)
    whole = getattr(model, "reconstruct", None)
    names = _extra_names(model)

    @cache
    def latent() -> Tensor | None:
        return latent_of(adapter.prepare(*args)(*args) if posterior is None else posterior)

    failures: list[Exception] = []
    runs = {"call": partial(adapter.output, *args), "whole": partial(_tried, [], model, *args)}

    @cache
    def decoded() -> tuple[Any, Module | None]:
        """What the mean decodes to, and the module through which it enters."""
        mean = latent()
        if decode is None or mean is None:
            return None, None
        with _inputs_of(model) as entered:
            output = _tried(failures, _call, decode, mean, args[1:], names)
        if output is None:
            return None, None
        return output, next((module for module, given in entered if given is mean), None)

    @cache
    def entry() -> Module | None:
        """The module through which a latent enters the decoder."""
        mean, (_, entered) = latent(), decoded()
        if entered is not None or mean is None:
            return entered
        # Nothing that decodes is named: what alone is given something of the latent's shape.
        with _inputs_of(model) as inputs:
            runs["whole"]()
        alike = [(module, given) for module, given in inputs if given.shape == mean.shape]
        return alike[0][0] if len({id(given) for _, given in alike}) == 1 else None

    def of_mean(run: Callable[[], Any]) -> Any:
        """What a call of the whole model gives with the mean in the place of its latent."""
        mean, module = latent(), entry()
        if mean is None or module is None:
            return None
        with _taking(module, mean) as replaced:
            output = run()
        # A decoder that ran several times, or through another module, has drawn something else.
        return output if len(replaced) == 1 else None

    with torch.set_grad_enabled(keep_graph), seeded(), adapter.without_updates():
        if isinstance(model, GaussianVAE) and type(model).reconstruct is GaussianVAE.reconstruct:
            # The same as ``model.reconstruct``, without encoding the image again.
            image_or_logits, _ = decoded()
            if image_or_logits is not None:
                logits = model.output == "logits"
                found = torch.sigmoid(image_or_logits) if logits else image_or_logits
                return found if keep_graph else found.detach()
        attempts: dict[str, Callable[[], Any]] = {}
        if callable(whole):
            attempts["reconstruct"] = partial(_call, whole, image, args[1:], names)
        attempts |= {f"{name} of mean": partial(of_mean, run) for name, run in runs.items()}
        attempts["decode"] = lambda: decoded()[0]
        attempts |= runs
        # Where only a submodule decodes, as in pythae, ``reconstruct`` may do so from a sample.
        doubted = () if hasattr(model, "decode") else ("reconstruct",)
        found = _first_reconstruction(
            attempts, image, doubted, _CHOSEN.setdefault(adapter.owner or adapter, {})
        )
        if found is not None:
            return found if keep_graph else found.detach()
    if failures:
        raise failures[0]
    raise ValueError(
        f"the model {type(model).__name__} gives no reconstruction of the image's shape "
        f"{tuple(image.shape)}, neither from reconstruct, decode or decoder nor as a whole; as "
        "baselines pass a callable of the inputs instead"
    )


def _tried(failures: list[Exception], function: Callable[..., Any], *args: Any) -> Any:
    """What a call of the user's model gives; None where it fails, with why in ``failures``."""
    try:
        return function(*args)
    except torch.OutOfMemoryError:
        raise
    # It may want a dict, a label, another shape, or be no function at all.
    except Exception as error:
        failures.append(error)
        return None


@contextmanager
def _inputs_of(model: Any) -> Iterator[list[tuple[Module, Tensor]]]:
    """The modules of the model that run in the block and the tensors that they are given first."""
    found: list[tuple[Module, Tensor]] = []

    def note(module: Module, inputs: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            found.append((module, inputs[0]))

    with ExitStack() as stack:
        for module in model.modules() if isinstance(model, Module) else ():
            stack.enter_context(hooked(module, note, on="input"))
        yield found


@contextmanager
def _taking(module: Module, latent: Tensor) -> Iterator[list[Module]]:
    """The latent in the place of what the module is given; it is listed as often as that is."""
    replaced: list[Module] = []

    def replace(module: Module, inputs: Any) -> Any:
        first = inputs[0] if inputs else None
        if not isinstance(first, Tensor) or first.shape != latent.shape:
            return None
        replaced.append(module)
        return (latent, *inputs[1:])

    with hooked(module, replace, on="input"):
        yield replaced


def _first_reconstruction(
    attempts: Mapping[str, Callable[[], Any]],
    image: Tensor,
    doubted: Collection[str],
    chosen: dict[Any, tuple[str, int]],
) -> Tensor | None:
    """The first image that an attempt gives and that is not the input itself.

    Some models return the image itself beside its reconstruction, and some draw a sample. Telling
    reads values, so that what was told once serves later calls in which none may be read.

    Args:
        attempts: Calls of the model by name, in order.
        image: (B, C, *spatial).
        doubted: Those which may draw random numbers, and do not count if they do.
        chosen: The attempt chosen and the place among its images, by what there was to choose.
    """
    key = (tuple(attempts), image.shape[1:])
    reading = may_read_back(image)
    known = None if reading else chosen.get(key)
    if known is not None:
        images = images_like(image.shape, attempts[known[0]]())
        if known[1] < len(images):
            return images[known[1]]
    for name, attempt in attempts.items():
        output = _without_noise(attempt, image) if name in doubted else attempt()
        for place, found in enumerate(images_like(image.shape, output)):
            if not (torch.equal(found, image) if reading else found._base is image):
                if reading:
                    chosen[key] = (name, place)
                return found
    return None


def _call(
    function: Callable[..., Any], first: Tensor, extra: Sequence[Any], names: Sequence[str]
) -> Any:
    """``function`` of its first argument and of those others of the model that it asks for.

    They are matched by name; where what is required has other names, by place. None where the
    function requires what the model was not given.
    """
    try:
        signature = inspect.signature(getattr(function, "forward", function))
    except (TypeError, ValueError):  # a builtin
        return function(first)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return function(first, *extra)
    others = list(signature.parameters.values())[1:]
    given = dict(zip(names, extra, strict=False))
    named = {p.name: given[p.name] for p in others if p.name in given}
    required = [
        p.name
        for p in others
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.name not in named
    ]
    if not required:
        return function(first, **named)
    return function(first, *extra) if len(required) <= len(extra) <= len(others) else None


def _without_noise(call: Callable[[], Any], like: Tensor) -> Any:
    """The call's result, or None where it drew random numbers."""
    before = _random_states(like)
    output = call()
    after = _random_states(like)
    return output if all(map(torch.equal, before, after)) else None


def _random_states(like: Tensor) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(like.device)] if like.is_cuda else states


def _extra_names(model: Any) -> list[str]:
    """Names of the model's positional arguments behind the first."""
    try:
        return list(inspect.signature(getattr(model, "forward", model)).parameters)[1:]
    except (TypeError, ValueError):
        return []
