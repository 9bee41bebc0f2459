"""``captum-vae explain``: what the latent dimensions of a person's own VAE read in their images."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from captum_vae.attr.arguments import latent_dims
from captum_vae.commands.model_source import source_model, source_of
from captum_vae.data.resize import ImageSize, height_width
from captum_vae.explain.attribution import (
    Explanation,
    build_attribution,
    explain_images,
    needs_layer,
)
from captum_vae.explain.layers import explainable, find_listed, layer_table
from captum_vae.explain.subject import Subject
from captum_vae.localization.tables import aligned
from captum_vae.plugins import import_object
from captum_vae.provenance import run_record
from captum_vae.training.configuration import Accelerator
from captum_vae.training.logs import say

PACKAGES = ("captum-vae", "torch", "captum", "numpy", "matplotlib")


def explain(
    model: str,
    *,
    images: str | None = None,
    layer: str | None = None,
    list_layers: bool = False,
    out: str = "captum-vae-maps",
    dims: Sequence[int] | None = None,
    attribution: str = "latent_grad_cam",
    options: dict[str, Any] | None = None,
    posterior: str | None = None,
    posterior_options: dict[str, Any] | None = None,
    model_options: dict[str, Any] | None = None,
    reshape_transform: str | None = None,
    normal: str | None = None,
    image_size: ImageSize = None,
    channels: int | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    shown_dims: int = 10,
    shown_images: int = 16,
    scale: Literal["common", "own"] = "common",
    batch_size: int = 16,
    device: Accelerator = "auto",
) -> None:
    """Explain your own VAE: a map per image and latent dimension, on a page.

    Writes index.html with its figures, an overlay per map in overlays/, maps.npz with all maps as
    numbers, and explain.json.

    Args:
        model: package.module:function of your own that returns the model with its weights (of an
            installed package or the current folder), or a run's folder or checkpoint of
            captum-vae fit.
        images: a folder, an image file, or an array in .npy, .npz or .pt: bytes, or in [0, 1].
        layer: dotted name of the layer whose features are explained; left out for an attribution
            of the decoder.
        list_layers: print the layers' names, output shapes and which can be explained, no more.
        out: folder to write to; made if needed, files of an earlier run are replaced.
        dims: latent dimensions; all by default.
        attribution: a registered attribution (captum-vae plugins lists them).
        options: of the attribution, such as preset, rectifier, order, weighting, baselines
            (reconstruction, a number, or mean_activation).
        posterior: how to read the posterior: a registered name, or the words of PosteriorAdapter,
            such as encode:chunk, mu,logvar or module:fc_mu; detected by default.
        posterior_options: of PosteriorAdapter: call, spatial, level, spread.
        model_options: arguments of the model's function.
        reshape_transform: package.module:function from tokens (B, N, C) to (B, C, h, w), for
            transformers.
        normal: normal images, for attributions that are fitted and for baselines=mean_activation.
        image_size: [height, width], or one number; by default what the model states, else the
            images' own.
        channels: 1 or 3, likewise.
        value_range: lowest and highest value the model was trained on, such as [-1, 1].
        shown_dims: columns of the page at most, those of the highest KL; maps.npz holds all.
        shown_images: rows of the page at most.
        scale: common, or own for a colour scale per map, which shows faint maps but does not
            compare them.
        batch_size: images per pass.
        device: auto, cpu or cuda.

    Raises:
        ValueError: an option that does not fit, a layer that cannot be explained, or a posterior
            that cannot be told without --posterior.
        FileNotFoundError: no such images or checkpoint.
    """
    for name, number in (("shown_dims", shown_dims), ("shown_images", shown_images)):
        if number < 1:
            raise ValueError(f"{name} is {number}; wanted at least 1")
    vae = source_model(source_of(model, model_options or {})).to(_device(device)).eval()
    subject = Subject.of(
        vae,
        posterior=posterior,
        posterior_options=posterior_options or {},
        image_size=height_width(image_size),
        channels=channels,
        value_range=value_range,
        batch_size=batch_size,
    )
    if images is None and not list_layers:
        raise ValueError("images is missing; name a folder or a file with --images")
    dataset = None if images is None else subject.read(images)
    first = subject.noise() if dataset is None else next(iter(subject.batches(dataset)))[0]
    if first is None:
        raise ValueError(
            "the model does not state what images it takes; give some with --images, or say "
            "--image_size and --channels"
        )
    count = subject.latent_count(first)
    wanted = needs_layer(attribution)
    if layer is not None and not wanted:
        raise ValueError(f"layer is {layer!r}, but the attribution {attribution!r} takes none")
    if list_layers or (layer is None and wanted):
        listed = find_listed(subject.adapter, first)
        if not list_layers:
            raise ValueError(f"layer is missing; choose one with --layer: {explainable(listed)}")
        columns = ("layer", "class", "output", "can be explained")
        print(f"posterior: {subject.adapter!r}\n{aligned(columns, layer_table(listed))}")
        return
    assert dataset is not None
    built = build_attribution(
        attribution,
        vae,
        layer,
        subject.adapter,
        options or {},
        reshape_transform=None
        if reshape_transform is None
        else import_object(reshape_transform, "reshape_transform"),
        normal=None if normal is None else subject.batches(subject.read(normal)),
    )
    chosen = latent_dims(dims, count)
    say(f"explaining {len(dataset)} images: {subject.adapter!r}")
    plan = built.plan(first[:1])
    explanation = explain_images(built, subject.adapter, subject.batches(dataset), chosen)
    report = {
        **run_record(subject.device),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "model": {
            "source": model,
            "options": model_options or {},
            "class": type(vae).__name__,
            "posterior_read_by": repr(subject.adapter),
        },
        "layer": layer,
        "attribution": attribution,
        "options": options or {},
        "plan": plan,
        "images": {
            "path": images,
            "count": len(dataset),
            "shape": list(first.shape[1:]),
            "range": list(value_range),
        },
        **explanation.to_dict(),
    }
    path = Path(out)
    write_numbers(path, explanation, report)
    # Drawing needs matplotlib, an extra; the numbers do not.
    from captum_vae.explain.page import Drawing, write_explanation_page

    drawing = Drawing(
        explanation,
        dataset,
        shown_dims=shown_dims,
        shown_images=shown_images,
        scale=scale,
        label=attribution,
    )
    drawing.overlays(path / "overlays")
    page = write_explanation_page(path / "index.html", drawing, report)
    explanation.warn_if_collapsed()
    say(f"maps {tuple(explanation.maps.shape)} in {path / 'maps.npz'}; open {page}")


def write_numbers(folder: Path, explanation: Explanation, report: Mapping[str, Any]) -> None:
    """Write maps.npz and explain.json."""
    folder.mkdir(parents=True, exist_ok=True)
    explanation.save(folder / "maps.npz")
    text = json.dumps(report, indent=2) + "\n"
    (folder / "explain.json").write_text(text, encoding="utf-8")


def _device(accelerator: Accelerator) -> torch.device:
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but PyTorch finds no CUDA device; use cpu or auto")
    return torch.device("cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu")
