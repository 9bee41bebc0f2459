"""Maps of many images by a registered attribution, and what the posterior says about each."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from captum_vae.attr import PRESETS, MeanActivation
from captum_vae.plugins import Registry
from captum_vae.posterior import CollapsedPosteriorWarning, PosteriorAdapter
from captum_vae.posterior.usage import is_active, rule_in_words, spread_of

NEEDS_NORMAL = "needs normal images to be fitted on; give --normal FOLDER"


@dataclass(frozen=True)
class Explanation:
    """Maps of N images.

    Attributes:
        maps: (N, T, h, w) at the size of the features; T is the number of ``dims``, or 1 for a map
            of all of them together.
        dims: latent dimensions that were explained.
        mean: (N, D) posterior mean.
        kl: (N, D) nats, or None where the log-variance is unknown.
        names: of the images.
    """

    maps: Tensor
    dims: tuple[int, ...]
    mean: Tensor
    kl: Tensor | None
    names: tuple[str, ...]

    @property
    def per_dimension(self) -> bool:
        """Whether every dimension has a map of its own."""
        return self.maps.shape[1] == len(self.dims)

    @property
    def usage(self) -> Tensor:
        """(D,) by which dimensions are ordered: mean KL, else the spread of the posterior mean."""
        return self.mean.std(0, correction=0) if self.kl is None else self.kl.mean(0)

    @property
    def order(self) -> list[int]:
        """Places in ``dims``, the most used dimension first."""
        ranked: list[int] = self.usage[list(self.dims)].argsort(descending=True).tolist()
        return ranked

    @property
    def collapsed(self) -> set[int]:
        """Dimensions that ignore the images; none where the KL is unknown."""
        if self.kl is None:
            return set()
        active = is_active(self.kl.mean(0), spread_of(self.mean))
        return set((~active).nonzero().flatten().tolist())

    @property
    def rule(self) -> str:
        """What makes a dimension count as active here, in words."""
        return rule_in_words(spread_known=spread_of(self.mean) is not None)

    @property
    def meaningless(self) -> bool:
        """Whether every dimension that is explained is collapsed."""
        return self.collapsed >= set(self.dims)

    def save(self, path: Path) -> None:
        """Write an .npz of maps (N, T, h, w), dims, kl (N, D; NaN if unknown), mean, names."""
        kl = torch.full_like(self.mean, torch.nan) if self.kl is None else self.kl
        np.savez_compressed(
            path,
            maps=self.maps.numpy(),
            dims=np.asarray(self.dims),
            kl=kl.numpy(),
            mean=self.mean.numpy(),
            names=np.asarray(self.names),
        )

    def to_dict(self) -> dict[str, Any]:
        """What is known of the dimensions, for JSON."""
        return {
            "dims": list(self.dims),
            "order": [self.dims[place] for place in self.order],
            "mean_kl_nats": None
            if self.kl is None
            else [round(value, 6) for value in self.kl.mean(0).tolist()],
            "collapsed": sorted(self.collapsed),
        }

    def warn_if_collapsed(self) -> None:
        """Warn when no dimension that is explained says anything about the images."""
        if self.meaningless:
            assert self.kl is not None
            warnings.warn(
                f"the posterior carries no information about these images (largest KL "
                f"{float(self.kl.mean(0).max()):.2g} nats): the VAE is untrained or collapsed, "
                "and its maps are noise",
                CollapsedPosteriorWarning,
                stacklevel=2,
            )


@dataclass(frozen=True)
class BuiltAttribution:
    """A registered attribution on a model, and the options that its maps are made with."""

    attribution: Any
    options: Mapping[str, Any]

    def maps(self, images: Tensor, dims: Sequence[int]) -> Tensor:
        """(B, T, h, w).

        Raises:
            ValueError: options or a layer that do not fit, or a result of another shape.
        """
        found = self.attribution.attribute(images, target=list(dims), **self.options)
        if not isinstance(found, Tensor) or found.dim() != 4 or len(found) != len(images):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{type(self.attribution).__name__} gave {shape} for {len(images)} images; wanted "
                "maps (B, T, h, w), so leave out options that keep channels or several layers"
            )
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


def build_attribution(
    name: str,
    model: nn.Module,
    layer: str | None,
    adapter: PosteriorAdapter,
    options: Mapping[str, Any],
    *,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
    normal: DataLoader[Any] | None = None,
) -> BuiltAttribution:
    """A registered attribution of the model's layer.

    Args:
        name: among ``captum-vae plugins``.
        model: the VAE.
        layer: its dotted name; None for an attribution without one.
        adapter: reads the posterior.
        options: of the constructor or of ``attribute``, which take what their signatures name.
        reshape_transform: for token encoders.
        normal: batches of normal images, for what is fitted on them.

    Raises:
        ValueError: an unknown name, options that do not fit, or no normal images where the
            attribution or ``baselines="mean_activation"`` needs them.
    """
    factory = Registry("attributions").load(name)
    taken = inspect.signature(factory.attribute).parameters
    calling = {key: value for key, value in options.items() if key in taken}
    building = {key: value for key, value in options.items() if key not in taken}
    # That order rectifies the maps where they are shown, so they must be made at that size.
    if "after_upsampling" in (options.get("order"), _order_of(options.get("preset"))):
        calling.setdefault("size", "input")
    if reshape_transform is not None:
        building["reshape_transform"] = reshape_transform
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
            raise ValueError(f"the attribution {name!r} {NEEDS_NORMAL}")
        attribution.fit(normal)
    if calling.get("baselines") == "mean_activation":
        if normal is None:
            raise ValueError(f"baselines='mean_activation' {NEEDS_NORMAL}")
        calling["baselines"] = MeanActivation().fit(attribution, normal)
    return BuiltAttribution(attribution, calling)


def needs_layer(name: str) -> bool:
    """Whether a registered attribution explains the features of a layer.

    Raises:
        ValueError: an unknown name, or a plugin that does not import.
    """
    return "layer" in inspect.signature(Registry("attributions").load(name)).parameters


def _order_of(preset: str | None) -> str | None:
    return PRESETS[preset].order if preset in PRESETS else None


def explain_images(
    built: BuiltAttribution,
    adapter: PosteriorAdapter,
    images: DataLoader[Any],
    dims: Sequence[int],
) -> Explanation:
    """Run the attribution over all images; bounded memory but for the maps themselves.

    Args:
        built: the attribution.
        adapter: reads the posterior.
        images: batches with names, on the model's device and in its range.
        dims: latent dimensions.

    Raises:
        ValueError: as for :meth:`BuiltAttribution.maps`.
    """
    maps, means, kls, names = [], [], [], []
    with warnings.catch_warnings():
        # Once for all images is enough: see Explanation.warn_if_collapsed.
        warnings.simplefilter("ignore", CollapsedPosteriorWarning)
        for batch, batch_names in images:
            with torch.no_grad():
                posterior = adapter(batch)
                means.append(posterior.mean.float().cpu())
                if posterior.log_variance is not None:
                    kls.append(posterior.kl().float().cpu())
            maps.append(built.maps(batch, dims).cpu())
            names += batch_names
    return Explanation(
        maps=torch.cat(maps),
        dims=tuple(dims),
        mean=torch.cat(means),
        kl=torch.cat(kls) if kls else None,
        names=tuple(names),
    )
