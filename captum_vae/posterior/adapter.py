"""`PosteriorAdapter`: how to call a VAE and how to read its posterior, decided once."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae.checks import check_choice, whole_number
from captum_vae.plugins import Registry
from captum_vae.posterior.calling import (
    FORWARD,
    ModelCall,
    call_for_output,
    modules_behind,
    owner_of,
    route_named,
    routes_of,
    unwrap,
)
from captum_vae.posterior.detection import Search, agree, detect, first_broken
from captum_vae.posterior.gaussian import (
    Posterior,
    Spatial,
    check_spatial,
    posterior_of_latent,
)
from captum_vae.posterior.probe import PROBING, Probe, training_twin, undisturbed, without_updates
from captum_vae.posterior.reading import (
    SPREADS,
    WORDS,
    PosteriorError,
    Reading,
    Spread,
    parse_reading,
)

_RESERVED = ("auto", "mean", "chunk")
"""Words of `read` that no plugin can take."""


class PosteriorAdapter:
    """Reads q(z|x) from any VAE without changing it.

    Words for `read`, which are also words for `posterior=` in the attribution classes, where a
    call may stand before them: `encode:chunk`, `encoder:mu,logvar`, `forward:[1]`; `encode` alone
    is `encode:auto`.

    | words | mean | log-variance |
    |---|---|---|
    | `auto` | by how the model computes it, else an error that lists the candidates | by the same |
    | `mean` | the output itself (or its entry called mean) | none |
    | `chunk` | first half of dim 1 | second half |
    | `chunk[1],chunk[0]` | second half of dim 1 | first half |
    | `1`, `[1]`, `mu`, `out[0].mu` | that index, key or attribute | none |
    | `1,2` or `mu,logvar` | the first path | the second path, see `spread` |
    | `latent_dist` | the mean (or mode) of that distribution object | the distribution's own |
    | `latent_dist.mean` | that attribute, called if it is a method | none |
    | `[0].chunk` | first half of dim 1 of that tensor | second half |
    | `module:fc_mu` | output of that submodule | none |
    | `module:fc_mu,fc_logvar` | output of the first | output of the second |
    | `module:moments:chunk` | what follows, read in the submodule's output | by the same |
    | a callable f | f(output) -> mean, (mean, second) or a distribution | by the same |

    What `auto` rests on holds for every batch: names of outputs, how the model draws
    z = mean + std * noise, names of layers such as `fc_mu`, what is decoded. A class that knows its
    reading states it as `POSTERIOR = {"encode": "[0],[1]"}`, words by method, and is believed; all
    models of this package do.

    Args:
        model: A VAE as nn.Module, a bound method of one, or any callable. DataParallel,
            DistributedDataParallel, torch.compile, Fabric and bare LightningModule wrappers are
            unwrapped: the module inside is called, on its own device.
        call: How to call the model: "auto" (encode, or encoder, or the module itself), "forward",
            the dotted name of a method or submodule, or a callable that takes the inputs. A
            callable `read` with "auto" gets the output of the module itself.
        read: How to read the output, in the words above. A plain callable that returns one tensor
            is taken as the mean.
        spatial: What to do with latents (B, C, h, w): "mean" over positions, "flatten", or a
            position (i, j).
        level: Which item of a hierarchical model's list of levels.
        spread: What the second tensor is: "log_variance", "variance", "std" or "log_std". None
            takes what detection finds, or in a stated reading what the name says, else
            log-variance.

    Attributes:
        asked: What it was asked for, (call, read, spatial, level, spread). Adapters of one model
            that were asked for the same read the same, decided yet or not.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: Words name nothing, or `spatial` or `spread` is unknown.
    """

    def __init__(
        self,
        model: Any,
        *,
        call: str | ModelCall = "auto",
        read: Any = "auto",
        spatial: Spatial = "mean",
        level: int | None = None,
        spread: Spread | None = None,
    ) -> None:
        """Checks the words; the model is not run before `prepare` or the first call."""
        check_spatial(spatial)
        check_choice("spread", spread, (*SPREADS, None))
        if level is not None:
            level = whole_number("level", level)
        self.model = _module_of_forward(unwrap(model))
        self.spatial = spatial
        self.level = level
        self.spread = spread
        self.asked = (call, read, spatial, level, spread)
        self._call = FORWARD if callable(read) and call == "auto" else call
        self._reading = parse_reading(read, level=level, spread=spread)
        self._decided = self._without_looking()

    def _without_looking(self) -> tuple[str, Reading] | None:
        """Call and reading where nothing is open: both stated, or told by the model's contract."""
        routes = list(routes_of(self.model, self._call))
        if self._reading is not None:
            return (routes[0], self._reading) if len(routes) == 1 else None
        contract = getattr(type(owner_of(self.model)), "POSTERIOR", {})
        route = next((route for route in routes if route in contract), None)
        if route is None:
            return None
        reading = parse_reading(contract[route], level=self.level, spread=self.spread)
        return None if reading is None else (route, reading)

    def prepare(self, *inputs: Any) -> "PosteriorAdapter":
        """Decide how to call and read, if that is open, by running the model on the inputs.

        The runs happen without gradients and leave buffers, random states, modes and hooks as
        they were. Without effect once decided. Threads may call it at once: the first decides.

        Raises:
            AmbiguousPosteriorError: It cannot be told; the message lists the candidates.
            PosteriorError: A stated reading fits nothing the model returns, the inputs hold NaN or
                infinite values, or they are not the arguments that the model takes.
        """
        if self._decided is None:
            owner = owner_of(self.model)
            with PROBING:
                if self._decided is None:
                    broken = first_broken(inputs)
                    if broken:
                        raise PosteriorError(
                            f"{broken}: the model cannot be looked at with them. Give finite "
                            "images, at least on the first call"
                        )
                    with undisturbed(owner):
                        self._decided = self._decide(owner, inputs)
        return self

    def _decide(self, owner: nn.Module | None, inputs: tuple[Any, ...]) -> tuple[str, Reading]:
        routes = routes_of(self.model, self._call)
        if self._reading is not None:
            modules = self._reading.modules
            calls = {
                name: lambda *args, route=route: call_for_output(route, args, owner, modules)
                for name, route in routes.items()
            }
            return agree(list(routes), self._reading, Probe(calls, [], inputs)), self._reading

        behind = modules_behind(self.model if owner is None else owner)
        everything = behind[0] if len(behind) == 1 else None
        evidence = FORWARD if owner is not None else "forward of the module in it"

        def calls_of(model: Any, whole: nn.Module | None) -> dict[str, ModelCall]:
            found: dict[str, ModelCall] = {} if whole is None else {evidence: whole}
            found.update(routes_of(model, self._call))
            return {
                name: lambda *args, route=route: call_for_output(route, args, None, ())
                for name, route in found.items()
            }

        @cache
        def twin() -> Probe | None:
            if owner is None or owner.training or callable(self._call):
                return None
            try:
                module = training_twin(owner)
                model = module if self.model is owner else getattr(module, self.model.__name__)
                return Probe(calls_of(model, module), [module], tuple(map(_at_least_two, inputs)))
            except Exception:  # a module that cannot be copied gives no evidence
                return None

        return detect(
            Search(
                probe=Probe(calls_of(self.model, everything), behind, inputs),
                twin=twin,
                routes=list(routes),
                evidence=None if everything is None else evidence,
                level=self.level,
                spread=self.spread,
                one_tensor_is_mean=_is_written_to_return_the_mean(self.model, self._call),
                pools_positions=self.spatial != "flatten",
            )
        )

    def __call__(self, *inputs: Any) -> Posterior:
        """The posterior of the inputs, from one call of the model (after `prepare`).

        Differentiable; gradients are recorded or not as the caller's grad mode says.

        Raises:
            PosteriorError: The output cannot be read as decided, its batch is not that of the
                inputs, or the model wants other arguments.
        """
        self.prepare(*inputs)
        function, reading = self._chosen()
        output = call_for_output(function, inputs, owner_of(self.model), reading.modules)
        mean, log_variance = reading.latent(output)
        batch = next((x.shape[0] for x in inputs if isinstance(x, Tensor) and x.ndim), None)
        if batch is not None and mean.shape[0] != batch:
            raise PosteriorError(
                f"the mean has shape {tuple(mean.shape)}, but the inputs are a batch of {batch}: "
                f"its first dimension must be the batch (reading: {reading})"
            )
        return posterior_of_latent(mean, log_variance, spatial=self.spatial)

    def look(self, *inputs: Any) -> Posterior:
        """The posterior of the inputs, leaving the buffers of a model in train mode as they are."""
        with self.without_updates():
            return self(*inputs)

    def without_updates(self) -> AbstractContextManager[None]:
        """A block in which the model's calls leave its buffers as they are, in train mode too."""
        return without_updates(self.model)

    @property
    def owner(self) -> nn.Module | None:
        """The module behind the model; None for a plain callable."""
        return owner_of(self.model)

    def output(self, *inputs: Any) -> Any:
        """What the call that gives the posterior returns, whole."""
        return self.prepare(*inputs)._chosen()[0](*inputs)

    def _chosen(self) -> tuple[ModelCall, Reading]:
        assert self._decided is not None
        name, reading = self._decided
        return route_named(name, self.model, self._call), reading

    def __repr__(self) -> str:
        """The call and the reading chosen, as far as they are decided."""
        call, reading = self._decided or (self._call, self._reading)
        read = "'auto'" if reading is None else str(reading)
        pending = "" if self._decided else ", undecided until prepare(inputs)"
        return f"PosteriorAdapter(call={call!r}, read={read}, spatial={self.spatial!r}{pending})"


def as_adapter(forward_func: Any, posterior: Any = None) -> PosteriorAdapter:
    """What a user gives as `posterior=` turned into an adapter of `forward_func`.

    Args:
        forward_func: The model, one of its bound methods, or any callable.
        posterior: How to read the posterior. None detects; a PosteriorAdapter is returned as it
            is; the name of a registered posterior asks that plugin; a str, int or pair are the
            words of the table in `PosteriorAdapter`, with a call before them or not; any other
            callable reads the model's own output, f(output) -> mean or (mean, log_variance).

    A plugin of the entry-point group ``captum_vae.posteriors`` is a callable (a class or a
    function) that takes the model and returns a `PosteriorAdapter`, whose `call` and `read` may
    both be functions, so that it can read anything. A plugin's name stands before a word of the
    same spelling, but never before `auto`, `mean`, `chunk`, `encode`, `encoder` or `forward`.

    Raises:
        TypeError: The posterior is of another kind, or a plugin gives no adapter.
        ValueError: Words name nothing, a plugin's name is registered twice, or a plugin does not
            import.
    """
    if isinstance(posterior, PosteriorAdapter):
        return posterior
    if posterior is None:
        return PosteriorAdapter(forward_func)
    if isinstance(posterior, str):
        call, colon, read = posterior.partition(":")
        if (colon and call != "module") or call in ("encode", "encoder", FORWARD):
            return PosteriorAdapter(forward_func, call=call, read=read or "auto")
        if posterior not in _RESERVED and posterior in (plugins := Registry("posteriors")).names:
            return _of_plugin(posterior, plugins.load(posterior), forward_func)
    elif not callable(posterior) and not isinstance(posterior, int | tuple):
        raise TypeError(f"posterior is a {type(posterior).__name__}: {WORDS}")
    return PosteriorAdapter(forward_func, read=posterior)


def _of_plugin(name: str, plugin: Any, model: Any) -> PosteriorAdapter:
    adapter = plugin(model)
    if not isinstance(adapter, PosteriorAdapter):
        raise TypeError(
            f"the posterior plugin {name!r} gave {type(adapter).__name__} for the model; wanted a "
            "captum_vae.posterior.PosteriorAdapter"
        )
    return adapter


def _at_least_two(item: Any) -> Any:
    """A batch of one twice, since batch norm in train mode refuses a single image."""
    is_one = isinstance(item, Tensor) and item.ndim > 0 and len(item) == 1
    return torch.cat([item, item]) if is_one else item


def _module_of_forward(model: Any) -> Any:
    """A module's bound forward means the module, whose hooks then run."""
    owner = owner_of(model)
    return owner if owner is not None and getattr(model, "__name__", "") == FORWARD else model


def _is_written_to_return_the_mean(model: Any, call: Any) -> bool:
    """Whether one returned tensor is the mean: from a callable of the user's, not from encode."""
    if callable(call):
        return True
    owner = owner_of(model)
    return owner is None or (model is not owner and getattr(model, "__name__", "") != "encode")
