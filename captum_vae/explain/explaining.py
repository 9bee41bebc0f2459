"""``explain``: maps of every image and latent dimension, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae.attr.arguments import latent_dims
from captum_vae.checks import whole_number
from captum_vae.data.resize import ImageSize
from captum_vae.data.sample import SampleDataset
from captum_vae.explain.attribution import BuiltAttribution, build_attribution, needs_layer
from captum_vae.explain.decoded import Decoded
from captum_vae.explain.explanation import Explanation
from captum_vae.explain.faithful import measure_faithfulness
from captum_vae.explain.layers import LayerList, explainable, find_listed
from captum_vae.explain.subject import Subject
from captum_vae.posterior import CollapsedPosteriorWarning
from captum_vae.progress import Progress, ProgressBar, progress_bar

_MEASURED_DIMS = 6
"""Dimensions whose maps are measured for faithfulness, those that are used most."""


def explain(
    model: nn.Module,
    images: str | Path | Tensor | SampleDataset,
    layer: str | Sequence[str] | None = None,
    *,
    dims: Sequence[int] | None = None,
    attribution: str = "latent_grad_cam",
    options: Mapping[str, Any] | None = None,
    posterior: Any = None,
    posterior_options: Mapping[str, Any] | None = None,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
    normal: str | Path | Tensor | SampleDataset | None = None,
    image_size: ImageSize = None,
    channels: int | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    batch_size: int = 16,
    faithfulness: int = 0,
    progress: Progress = "off",
) -> Explanation:
    """What each latent dimension of a VAE reads in images: a map per image and dimension.

    Args:
        model: The VAE, in eval mode on the device where it is to run.
        images: A folder, an image file or an array file (see :func:`captum_vae.data.read_images`),
            a tensor (N, C, h, w) in [0, 1], or a data set of samples.
        layer: Dotted name of the layer whose features are explained, or several, all from one
            forward pass; None for an attribution that takes none.
        dims: The latent dimensions to explain; None for all D.
        attribution: Name of a registered attribution (``captum-vae plugins`` lists them).
        options: Options of that attribution, such as preset, rectifier, weighting or baselines;
            ``baselines="mean_activation"`` is fitted on ``normal``.
        posterior: How to read the posterior, in the words of
            :class:`captum_vae.posterior.PosteriorAdapter`; None detects.
        posterior_options: Further arguments of PosteriorAdapter: call, spatial, level, spread.
        reshape_transform: Brings tokens (B, N, C) to (B, C, h, w); for transformers.
        normal: Normal images, for attributions that are fitted and for ``mean_activation``.
        image_size: (height, width) or one number; None takes what the model states, else the
            images' own.
        channels: 1 or 3; None takes what the model states, else the images' own.
        value_range: The lowest and the highest value the model was trained on, such as (-1, 1);
            images in [0, 1] are brought to it.
        batch_size: Images per pass; maps do not depend on it.
        faithfulness: How many of the images deletion and insertion are measured on, in the
            dimensions used most; 0 leaves it out, which takes time for large images.
        progress: Whether a bar is shown; ``"auto"`` shows it on a terminal only.

    Raises:
        ValueError: An option does not fit, the layer cannot be explained, the posterior cannot be
            told, or the model does not run on such images.
        TypeError: An argument is of another kind.
        FileNotFoundError: There are no such images.

    Example::

        explanation = explain(vae, "photos", "encoder.conv2")
        write_explanation(explanation, "maps")  # maps.npz, explain.json, index.html, overlays/
    """
    subject = Subject.of(
        model,
        posterior=posterior,
        posterior_options=posterior_options,
        image_size=image_size,
        channels=channels,
        value_range=value_range,
        batch_size=batch_size,
    )
    wanted = needs_layer(attribution)
    if layer is not None and not wanted:
        raise ValueError(f"layer is {layer!r}, but the attribution {attribution!r} takes none")
    dataset = subject.read(images, "images")
    first: Tensor = next(iter(subject.batches(dataset)))[0]
    count = subject.latent_count(first)
    if layer is None and wanted:
        names = explainable(find_listed(subject.adapter, first))
        raise ValueError(f"layer is missing; choose one with layer=NAME: {names}")
    layers = _layer_names(layer)
    built = build_attribution(
        attribution,
        model,
        layers[0] if len(layers) == 1 else layers or None,
        subject.adapter,
        options or {},
        reshape_transform=reshape_transform,
        normal=None if normal is None else subject.batches(subject.read(normal, "normal")),
    )
    chosen = latent_dims(dims, count)
    settings = {
        "model": {"class": type(model).__name__, "posterior_read_by": repr(subject.adapter)},
        "layer": layers[0] if len(layers) == 1 else list(layers) or None,
        "attribution": attribution,
        "options": {name: _for_json(value) for name, value in (options or {}).items()},
        "plan": built.plan(first[:1]),
        "images": {
            "path": str(images) if isinstance(images, str | Path) else type(images).__name__,
            "count": len(dataset),
            "shape": list(first.shape[1:]),
            "range": list(value_range),
        },
    }
    explanation = _explained(
        subject, built, dataset, layers or ("",), chosen, settings, progress_bar(progress)
    )
    measured = whole_number("faithfulness", faithfulness, least=0)
    return _with_faithfulness(explanation, subject, measured) if measured else explanation


def _with_faithfulness(explanation: Explanation, subject: Subject, count: int) -> Explanation:
    """The explanation with deletion and insertion measured on its first images."""
    if not explanation.per_dimension:
        raise ValueError(
            "faithfulness is measured against single dimensions, and this attribution gives one "
            "map for all; leave it out"
        )
    places = explanation.order[:_MEASURED_DIMS]
    count = min(count, len(explanation.names))
    images = torch.stack([explanation.images[index].image for index in range(count)])
    rows = []
    for layer, maps in explanation.layer_maps.items():
        of_layer = measure_faithfulness(
            lambda x: subject.adapter(x).mean,
            subject.for_model(images),
            maps[:count, places],
            [explanation.dims[place] for place in places],
            batch_size=subject.batch_size,
        )
        rows += [{"images": count, "layer": layer, **row} for row in of_layer]
    return replace(explanation, faithfulness=tuple(rows))


def _layer_names(layer: object) -> tuple[str, ...]:
    """The layers that were asked for."""
    names = () if layer is None else (layer,) if isinstance(layer, str) else layer
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"layer is {layer!r}; wanted a layer's dotted name, or several")
    if layer is not None and (not names or len(set(names)) < len(names)):
        raise ValueError(f"layer is {layer!r}; wanted at least one name, none of them twice")
    return tuple(names)


def list_layers(
    model: nn.Module,
    images: str | Path | Tensor | SampleDataset | None = None,
    *,
    posterior: Any = None,
    posterior_options: Mapping[str, Any] | None = None,
    image_size: ImageSize = None,
    channels: int | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
) -> LayerList:
    """Every layer of a model with the shape of its output, and whether it can be explained.

    Args:
        model: The VAE, in eval mode on the device where it is to run.
        images: Images that it takes, as in :func:`explain`; None tries noise of the size that the
            model states, or that ``image_size`` and ``channels`` give.
        posterior: How to read the posterior, as in :func:`explain`.
        posterior_options: Further arguments of PosteriorAdapter.
        image_size: (height, width) or one number.
        channels: 1 or 3.
        value_range: The lowest and the highest value the model was trained on.

    Raises:
        ValueError: The model does not run on such images, its posterior cannot be told, or it does
            not state what images it takes and none are given.
    """
    subject = Subject.of(
        model,
        posterior=posterior,
        posterior_options=posterior_options,
        image_size=image_size,
        channels=channels,
        value_range=value_range,
        batch_size=2,
    )
    tried = subject.example(images)
    subject.latent_count(tried)
    return LayerList(repr(subject.adapter), find_listed(subject.adapter, tried))


def _explained(
    subject: Subject,
    built: BuiltAttribution,
    dataset: SampleDataset,
    layers: Sequence[str],
    dims: Sequence[int],
    settings: Mapping[str, Any],
    bar: ProgressBar,
) -> Explanation:
    """Run the attribution over all images; memory is bounded but for the maps themselves."""
    maps: list[list[Tensor]] = [[] for _ in layers]
    means, kls, names = [], [], []
    with warnings.catch_warnings():
        # Once for all images is enough: see Explanation.warn_if_collapsed.
        warnings.simplefilter("ignore", CollapsedPosteriorWarning)
        for batch, batch_names in bar(subject.batches(dataset), "maps"):
            with torch.no_grad():
                posterior = subject.adapter(batch)
                means.append(posterior.mean.float().cpu())
                if posterior.log_variance is not None:
                    kls.append(posterior.kl().float().cpu())
            for of_layer, found in zip(maps, built.maps(batch, dims), strict=True):
                of_layer.append(found.float().cpu())
            names += batch_names
    return Explanation(
        layer_maps={name: torch.cat(found) for name, found in zip(layers, maps, strict=True)},
        dims=tuple(dims),
        mean=torch.cat(means),
        kl=torch.cat(kls) if kls else None,
        names=tuple(names),
        images=dataset,
        device=subject.device,
        settings=settings,
        decoded=Decoded(subject),
    )


def _for_json(value: object) -> object:
    """A plain value as it is, anything else as Python shows it."""
    return value if isinstance(value, str | int | float | list | dict | None) else repr(value)
