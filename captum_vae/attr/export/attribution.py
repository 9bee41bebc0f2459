"""A latent attribution as a file: its maps, with the posterior and the reconstruction beside."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import Module

from captum_vae.attr._captum import format_additional_forward_args
from captum_vae.attr.engine.channel_weights import plan_layers
from captum_vae.attr.engine.forward_pass import ForwardPass
from captum_vae.attr.engine.gradients import PassSettings, dims_within_budget
from captum_vae.attr.engine.layers import Layers, describe, find_layers
from captum_vae.attr.export.options import OUTPUTS, Format, Output
from captum_vae.attr.export.recording import NotExportableError
from captum_vae.attr.export.saving import ExportedFile, export_function
from captum_vae.attr.latent_codes import Quantity, quantity_name
from captum_vae.attr.options import MapOptions, resolve_options
from captum_vae.attr.reconstruction import reconstruct
from captum_vae.checks import is_sequence
from captum_vae.posterior import Posterior, PosteriorAdapter

_CHOICES = tuple(field.name for field in fields(MapOptions))


class ExportableAttribution(Protocol):
    """What an export needs of a latent attribution."""

    forward_func: Callable[..., Any]
    layer: Layers | None
    posterior: PosteriorAdapter
    of: Quantity
    dims_per_pass: int | None
    memory_budget: int | None

    def attribute(self, inputs: tuple[Tensor, ...], **options: Any) -> Any:
        """The maps, by the options that an export takes."""

    def explained(
        self, inputs: tuple[Tensor, ...], *, options: MapOptions, **others: Any
    ) -> tuple[ForwardPass, tuple[Tensor, ...]]:
        """The maps of ``attribute``, one tensor per layer, with the pass they come from."""

    def _located(self, posterior: Posterior) -> Posterior: ...


def export_attribution(
    cam: ExportableAttribution,
    example: Tensor | tuple[Tensor, ...],
    path: str | Path,
    *,
    format: Format = "onnx",
    outputs: Sequence[Output] = OUTPUTS,
    tolerance: float | None = None,
    **options: Any,
) -> ExportedFile:
    """Write an attribution's maps as a file; see ``LatentGradCAM.export``."""
    wanted = _checked_outputs(outputs)
    options = _checked_options(cam, options)
    inputs = example if isinstance(example, tuple) else (example,)
    extra = format_additional_forward_args(options.pop("additional_forward_args", None)) or ()
    resolved = resolve_options(
        options.get("preset", "paper"), **{name: options.get(name) for name in _CHOICES}
    )
    others = {name: options[name] for name in options if name not in ("preset", *_CHOICES)}
    batch = len(inputs[0]) if inputs and isinstance(inputs[0], Tensor) and inputs[0].dim() else 0
    # A tensor of as many rows as images, such as their classes, is an input of the file too.
    per_image = [
        place
        for place, value in enumerate(extra)
        if isinstance(value, Tensor) and value.dim() and len(value) == batch
    ]
    tensors = (*inputs, *(extra[place] for place in per_image))
    names = _names(len(inputs), len(per_image))
    fixed = _with_fixed_passes(cam, inputs, extra, resolved, others)

    def explain(*given: Tensor) -> dict[str, Tensor]:
        further = list(extra)
        for place, value in zip(per_image, given[len(inputs) :], strict=True):
            further[place] = value
        run, maps = fixed.explained(
            given[: len(inputs)],
            additional_forward_args=tuple(further) or None,
            options=resolved,
            **others,
        )
        assert run.adapter is not None and run.posterior is not None
        found: dict[str, Tensor] = {}
        for output in wanted:
            if output == "maps":
                found.update(zip(_map_names(cam), maps, strict=True))
            elif output == "reconstruction":
                found[output] = reconstruct(run.adapter, run.args, run.posterior)
            else:
                value = getattr(fixed._located(run.posterior), output)
                if value is None:
                    raise NotExportableError(
                        f"outputs has 'log_variance', and {cam.posterior!r} reads none: leave it "
                        "out, as in outputs=('maps', 'mean'), or name it, as in "
                        "posterior='MEAN,LOGVAR'"
                    )
                found[output] = value.detach()
        return found

    return export_function(
        explain,
        tensors,
        path,
        format=format,
        input_names=names,
        tolerance=tolerance,
        metadata=_metadata(cam, options, resolved),
    )


def _checked_outputs(outputs: Any) -> list[Output]:
    given = [outputs] if isinstance(outputs, str) else outputs
    given = list(given) if is_sequence(given) else []
    if not given:
        raise ValueError(f"outputs={outputs!r}: wanted some of {', '.join(OUTPUTS)}")
    for output in given:
        if output not in OUTPUTS:
            raise ValueError(f"outputs has {output!r}; wanted some of {', '.join(OUTPUTS)}")
    return [output for output in OUTPUTS if output in given]


def _checked_options(cam: ExportableAttribution, options: Mapping[str, Any]) -> dict[str, Any]:
    taken = set(inspect.signature(cam.attribute).parameters)
    taken -= {"inputs", "return_convergence_delta"}
    unknown = sorted(set(options) - taken)
    if unknown:
        raise TypeError(
            f"export has no option {', '.join(unknown)}; it takes the options of attribute: "
            f"{', '.join(sorted(taken - {'create_graph'}))}"
        )
    if options.get("create_graph"):
        raise NotExportableError("create_graph=True trains a model, and a file is not trained")
    baselines = options.get("baselines")
    for value in baselines if isinstance(baselines, tuple) else (baselines,):
        if isinstance(value, Tensor) and value.dim() and len(value) > 1:
            raise NotExportableError(
                f"baselines holds {len(value)} images, one for each of a batch, and the file takes "
                "any number: give one for all, with a leading 1, or a function of the inputs"
            )
    return dict(options)


def _with_fixed_passes(
    cam: ExportableAttribution,
    inputs: tuple[Tensor, ...],
    extra: tuple[Any, ...],
    options: MapOptions,
    others: Mapping[str, Any],
) -> ExportableAttribution:
    """The attribution in as many backward passes as the example takes, whatever the batch."""
    run, _ = cam.explained(inputs, additional_forward_args=extra or None, options=options, **others)
    fixed = copy.copy(cam)
    plans = plan_layers(run, pooled=options.weighting == "pooled")
    settings = PassSettings(memory_budget=cam.memory_budget)
    fixed.dims_per_pass = cam.dims_per_pass or dims_within_budget(
        run.codes, run.features, plans, settings
    )
    return fixed


def _names(inputs: int, extra: int) -> list[str]:
    names = ["input"] if inputs == 1 else [f"input_{place}" for place in range(inputs)]
    return names + [f"additional_{place}" for place in range(extra)]


def _map_names(cam: ExportableAttribution) -> list[str]:
    if isinstance(cam.layer, (Module, str)):
        return ["maps"]
    return [f"maps_{place}" for place in range(len(find_layers(cam.forward_func, cam.layer)))]


def _metadata(
    cam: ExportableAttribution, options: Mapping[str, Any], resolved: MapOptions
) -> dict[str, Any]:
    """How the maps were made, in JSON's values."""
    layers = find_layers(cam.forward_func, cam.layer)
    owner = cam.posterior.owner
    known = {} if owner is None else {module: name for name, module in owner.named_modules()}
    plain = {name: value for name, value in options.items() if name not in _CHOICES}
    return {
        "attribution": type(cam).__name__,
        "model": type(owner or cam.forward_func).__name__,
        "layers": [known.get(layer) or describe(layer) for layer in layers],
        "posterior": repr(cam.posterior),
        "of": quantity_name(cam.of),
        "options": {**{name: _plain(value) for name, value in plain.items()}, **vars(resolved)},
    }


def _plain(value: Any) -> Any:
    """A value that JSON holds: itself, or how Python shows it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        return value.tolist() if value.numel() <= 64 else f"tensor {tuple(value.shape)}"
    if is_sequence(value):
        return [_plain(item) for item in value]
    return getattr(value, "__name__", None) or repr(value)
