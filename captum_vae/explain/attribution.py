"""A registered attribution on a model, built from options by name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from captum_vae.attr import PRESETS, MeanActivation
from captum_vae.plugins import Registry
from captum_vae.posterior import CollapsedPosteriorWarning, PosteriorAdapter

_NEEDS_NORMAL = "needs normal images to be fitted on; give normal=FOLDER"

_FIXED = {"self", "inputs", "target", "forward_func", "layer", "posterior", "device_ids"}
_FIXED |= {"model", "reshape_transform"}
"""What an attribution takes beside its options."""


@dataclass(frozen=True)
class BuiltAttribution:
    """A registered attribution on a model, and the options that its maps are made with.

    Attributes:
        attribution: An instance with Captum's ``attribute``.
        options: Keywords of ``attribute``.
    """

    attribution: Any
    options: Mapping[str, Any]

    def maps(self, images: Tensor, dims: Sequence[int]) -> tuple[Tensor, ...]:
        """Maps (B, T, h, w) of a batch of images, T of them each, for every layer.

        Args:
            images: (B, C, H, W) in the model's range, on its device.
            dims: The latent dimensions to explain.

        Raises:
            ValueError: Options or a layer do not fit, or the attribution gives another shape.
        """
        found = self.attribution.attribute(images, target=list(dims), **self.options)
        every = found if isinstance(found, tuple) else (found,)
        return tuple(self._checked(of_layer, images, dims) for of_layer in every)

    def _checked(self, found: object, images: Tensor, dims: Sequence[int]) -> Tensor:
        if not isinstance(found, Tensor) or found.dim() != 4 or len(found) != len(images):
            raise ValueError(self._no_maps(found, images))
        if found.shape[1] not in (1, len(dims)):
            raise ValueError(
                f"{type(self.attribution).__name__} gave {found.shape[1]} maps an image for "
                f"{len(dims)} dimensions; wanted one each, or one for all"
            )
        return found.detach()

    def plan(self, images: Tensor) -> str:
        """How the weights are computed, in words; "-" for an attribution that does not tell."""
        if not hasattr(self.attribution, "explain_plan"):
            return "-"
        weighting = self.options.get("weighting") or "pooled"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapsedPosteriorWarning)
            plans = self.attribution.explain_plan(images, weighting=weighting)
        return "; ".join(f"{plan.path}: {plan.reason}" for plan in plans)

    def _no_maps(self, found: object, images: Tensor) -> str:
        """Why what an attribution gave cannot be drawn."""
        name = type(self.attribution).__name__
        if not isinstance(found, Tensor):
            return f"{name} gave {type(found).__name__}; wanted one tensor of maps (B, T, h, w)"
        gave = f"{name} gave {tuple(found.shape)} for {len(images)} images; wanted (B, T, h, w)"
        if self.options.get("reduction") == "none":
            return f"{gave}: leave out reduction='none', which keeps every channel's map"
        if found.dim() > 2 and len(found) == len(images):
            return (
                f"{gave}: the features of this layer lie in {found.dim() - 2} dimensions, and a "
                "page shows two; choose another layer, or lay them out with reshape_transform="
            )
        return gave


def build_attribution(
    name: str,
    model: nn.Module,
    layer: str | Sequence[str] | None,
    adapter: PosteriorAdapter,
    options: Mapping[str, Any],
    *,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
    normal: DataLoader[Any] | None = None,
) -> BuiltAttribution:
    """A registered attribution of the model's layer.

    Args:
        name: The name it is registered under (``captum-vae plugins`` lists them).
        model: The VAE.
        layer: The layer's dotted name, or several; None for an attribution without one.
        adapter: Reads the posterior.
        options: Options of the constructor or of ``attribute``, which take what their signatures
            name.
        reshape_transform: Brings tokens (B, N, C) to (B, C, h, w); for transformers.
        normal: Batches of normal images, for what is fitted on them.

    Raises:
        ValueError: The name is unknown, options do not fit, or the attribution or
            ``baselines="mean_activation"`` needs normal images and there are none.
    """
    factory = Registry("attributions").load(name)
    taken = inspect.signature(factory.attribute).parameters
    calling = {key: value for key, value in options.items() if key in taken}
    building = {key: value for key, value in options.items() if key not in taken}
    fixed = sorted(_FIXED & set(options))
    if fixed:
        raise ValueError(f"options has {', '.join(fixed)}, which have arguments of their own")
    # That order rectifies the maps where they are shown, so they must be made at that size.
    if "after_upsampling" in (options.get("order"), _order_of(options.get("preset"))):
        calling.setdefault("size", "input")
    if reshape_transform is not None:
        building["reshape_transform"] = _named_in_errors(reshape_transform)
    try:
        attribution = factory(
            *([model] if layer is None else [model, layer]), posterior=adapter, **building
        )
    except TypeError as error:
        raise ValueError(
            f"options do not fit the attribution {name!r}: {error}; its maps take "
            f"{', '.join(sorted(set(taken) - {'self', 'inputs', 'target'}))}"
        ) from error
    if hasattr(attribution, "fit"):
        if normal is None:
            raise ValueError(f"the attribution {name!r} {_NEEDS_NORMAL}")
        attribution.fit(normal)
    if calling.get("baselines") == "mean_activation":
        if normal is None:
            raise ValueError(f"baselines='mean_activation' {_NEEDS_NORMAL}")
        calling["baselines"] = MeanActivation().fit(attribution, normal)
    return BuiltAttribution(attribution, calling)


def _named_in_errors(reshape: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The function, whatever it raises told as what came of ``reshape_transform``."""
    if not callable(reshape):
        raise TypeError(
            f"reshape_transform is {reshape!r}; wanted a function from tokens to (B, C, h, w)"
        )

    def apply(features: Tensor) -> Tensor:
        # A function of the user's can raise anything at all.
        try:
            return reshape(features)
        except Exception as error:
            raise ValueError(
                f"reshape_transform raised {type(error).__name__} on features "
                f"{tuple(features.shape)}: {error}"
            ) from error

    return apply


def needs_layer(name: str) -> bool:
    """Whether a registered attribution explains the features of a layer.

    Raises:
        ValueError: The name is unknown, or the plugin does not import.
    """
    return "layer" in inspect.signature(Registry("attributions").load(name)).parameters


def _order_of(preset: object) -> str | None:
    return PRESETS[preset].order if isinstance(preset, str) and preset in PRESETS else None
