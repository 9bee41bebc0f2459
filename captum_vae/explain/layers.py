"""Which layers of a model can be explained, with the shapes of their features and the way."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_vae.attr.engine.forward_pass import run_layers
from captum_vae.attr.engine.plans import plan_layer
from captum_vae.posterior import PosteriorAdapter
from captum_vae.posterior.calling import owner_of
from captum_vae.report.tables import Table

WAYS = {
    "pooled": "pooled weight, all dimensions at the price of one",
    "masked": "pooled weight per image, all dimensions at the price of one",
    "convolved": "cotangents up to the convolutions, whose kernels are summed over positions",
    "forward": "one tangent per channel, for all dimensions",
    "vector_jacobian": "batched vector-Jacobian products",
}
"""What :attr:`captum_vae.attr.LayerPlan.path` means."""


@dataclass(frozen=True)
class ListedLayer:
    """One module of the model.

    Attributes:
        name: Its dotted name.
        kind: The name of its class.
        shape: Shape of its output without the batch; None where it gives no single tensor.
        path: How its channel weights would be computed, see :data:`WAYS`; None where it cannot be
            explained.
        reason: Why so, in a few words.
    """

    name: str
    kind: str
    shape: tuple[int, ...] | None
    path: str | None
    reason: str


@dataclass(frozen=True)
class LayerList:
    """The layers of a model; printed, a line each.

    Attributes:
        posterior_read_by: How the posterior was read.
        layers: All modules of the model, in order.
    """

    posterior_read_by: str
    layers: list[ListedLayer]

    def __str__(self) -> str:
        """Name, class, output shape and verdict of each layer."""
        rows = [
            (
                layer.name,
                layer.kind,
                "-" if layer.shape is None else " x ".join(map(str, layer.shape)),
                f"no: {layer.reason}" if layer.path is None else f"yes: {WAYS[layer.path]}",
            )
            for layer in self.layers
        ]
        table = Table(("layer", "class", "output", "can be explained"), rows)
        return f"posterior: {self.posterior_read_by}\n{table.text()}"


def find_listed(adapter: PosteriorAdapter, images: Tensor) -> list[ListedLayer]:
    """Every module of the adapter's model, in order, and whether it can be explained.

    Args:
        adapter: Reads the posterior of the model.
        images: (B, C, h, w) for the model to run on once or twice.

    Raises:
        ValueError: The model is a plain function.
    """
    owner = owner_of(adapter.model)
    if owner is None:
        raise ValueError("layers have names in a torch.nn.Module, not in a plain function")
    modules = {name: module for name, module in owner.named_modules() if name}
    adapter.prepare(images)
    with torch.no_grad(), _watching(modules) as outputs:
        adapter(images)
    refused = {name: _why_not(outputs[name], images) for name in modules}
    usable = [name for name in modules if refused[name] is None]
    plans = _plans(adapter, [modules[name] for name in usable], images)
    found = dict(zip(usable, plans, strict=True))
    return [
        ListedLayer(name, type(module).__name__, _shape(outputs[name]), *found[name])
        if name in found
        else ListedLayer(
            name, type(module).__name__, _shape(outputs[name]), None, str(refused[name])
        )
        for name, module in modules.items()
    ]


def explainable(layers: Sequence[ListedLayer]) -> str:
    """The names and output shapes of those that can be explained, in one line."""
    names = [
        f"{layer.name} ({' x '.join(map(str, layer.shape or ()))})"
        for layer in layers
        if layer.path is not None
    ]
    return ", ".join(names) or "none of this model's layers has spatial features on the path"


def _plans(
    adapter: PosteriorAdapter, modules: Sequence[nn.Module], images: Tensor
) -> list[tuple[str | None, str]]:
    if not modules:
        return []
    with warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            run = run_layers(adapter, modules, (images,), (), side="output", keep_graph=False)
        except ValueError:
            return [(None, "not on the path to the posterior")] * len(modules)
        plans = [plan_layer(run.codes, features) for features in run.features]
    return [
        (None, "not on the path to the posterior")
        if plan.path == "off_path"
        else (plan.path, plan.reason)
        for plan in plans
    ]


@contextmanager
def _watching(modules: dict[str, nn.Module]) -> Iterator[dict[str, list[object]]]:
    """What each module puts out in the block, one entry per call; tensors by their shape alone."""
    outputs: dict[str, list[object]] = {name: [] for name in modules}

    def watch(name: str) -> Callable[[nn.Module, object, object], None]:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            meta = output.detach().to("meta") if isinstance(output, Tensor) else type(output)
            outputs[name].append(meta)

        return keep

    handles = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _why_not(calls: Sequence[object], images: Tensor) -> str | None:
    if len(calls) != 1:
        return "does not run for the posterior" if not calls else f"runs {len(calls)} times"
    features = calls[0]
    if not isinstance(features, Tensor):
        return "puts out no single tensor"
    if not features.is_floating_point() or len(features) != len(images):
        return "puts out no features of each image"
    if features.dim() == 3:
        return "puts out tokens: give reshape_transform=FUNCTION"
    if features.dim() != images.dim():
        return "puts out no spatial positions"
    return None


def _shape(calls: Sequence[object]) -> tuple[int, ...] | None:
    output = calls[0] if calls else None
    return tuple(output.shape[1:]) if isinstance(output, Tensor) else None
