"""``captum-vae explain``: what the latent dimensions of a person's own VAE read in their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from captum_vae.training.configuration import Accelerator


def explain(
    model: str,
    *,
    images: str | None = None,
    layer: str | Sequence[str] | None = None,
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
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    shown_dims: int = 10,
    shown_images: int = 16,
    traversed_images: int = 8,
    scale: Literal["common", "own"] = "common",
    faithfulness: int = 0,
    batch_size: int = 16,
    device: Accelerator = "auto",
) -> None:
    """Explain your own VAE: a map per image and latent dimension, on a page.

    Writes index.html, on which all images and dimensions are browsed, an overlay per map that is
    drawn in overlays/, maps.npz with all maps as numbers, and explain.json.

    Args:
        model: A package.module:function of your own that returns the model with its weights (of an
            installed package or the current folder), or a run's folder or checkpoint of
            captum-vae fit, or a detector of captum-vae detect, whose model is explained.
        images: A folder, an image file, or an array in .npy, .npz or .pt: bytes, or in [0, 1].
        layer: Dotted name of the layer whose features are explained, or several, such as
            encoder.conv1,encoder.conv2, among which the page chooses; left out for an attribution
            of the decoder.
        list_layers: Print the layers' names, output shapes and which can be explained, no more.
        out: Folder to write to; it is made if needed, and files of an earlier run are replaced.
        dims: Latent dimensions, such as 1,2; all by default.
        attribution: Name of a registered attribution (captum-vae plugins lists them).
        options: Options of the attribution, such as preset, rectifier, order, weighting, baselines
            (reconstruction, a number, or mean_activation).
        posterior: How to read the posterior: a registered name, or the words of PosteriorAdapter,
            such as encode:chunk, mu,logvar or module:fc_mu; detected by default.
        posterior_options: Further arguments of PosteriorAdapter: call, spatial, level, spread.
        model_options: Arguments of the model's function.
        reshape_transform: A package.module:function from tokens (B, N, C) to (B, C, h, w), for
            transformers.
        normal: Normal images, for attributions that are fitted and for baselines=mean_activation.
        image_size: Height and width, or one number; by default what the model states, else the
            images' own.
        channels: 1 or 3; by default what the model states, else the images' own.
        value_range: Lowest and highest value the model was trained on, such as [-1, 1]; by default
            0 to 1, or what a detector knows of its model.
        shown_dims: Columns of the still pictures and overlays at most, those of the highest KL;
            maps.npz and the page's explorer hold all.
        shown_images: Rows of the still pictures and overlays at most.
        traversed_images: The first so many images get traversals of the decoder.
        scale: Colour scale: common to all maps, or own for one per map, which shows faint maps but
            does not compare them.
        faithfulness: How many images deletion and insertion are measured on, beside random maps
            and the gradient times the input; 0 leaves it out.
        batch_size: Images per pass.
        device: Where the model runs: auto, cpu or cuda.

    Raises:
        ValueError: An option does not fit, a layer cannot be explained, or the posterior cannot be
            told without --posterior.
        FileNotFoundError: There are no such images or no such checkpoint.
    """
    from dataclasses import replace
    from pathlib import Path

    from captum_vae.checks import whole_number
    from captum_vae.commands.model_source import (
        detector_layer,
        is_detector,
        range_of,
        source_model,
        source_of,
    )
    from captum_vae.commands.options import as_typed
    from captum_vae.explain import explaining, page
    from captum_vae.files import check_writable
    from captum_vae.plugins import import_object
    from captum_vae.training.devices import chosen_device
    from captum_vae.training.logs import say

    for name, number in (("shown_dims", shown_dims), ("shown_images", shown_images)):
        whole_number(name, number, least=1)
    whole_number("traversed_images", traversed_images, least=0)
    source = source_of(model, model_options or {})
    vae = source_model(source, argument="model").to(chosen_device(device)).eval()
    if layer is None and source.checkpoint is not None and is_detector(source.checkpoint):
        layer = detector_layer(source.checkpoint)
    how: dict[str, Any] = {
        "posterior": posterior,
        "posterior_options": posterior_options,
        "image_size": image_size,
        "channels": channels,
        "value_range": range_of(source, value_range),
    }
    if list_layers:
        say(as_typed(str(explaining.list_layers(vae, images, **how)), explain))
        return
    if images is None:
        raise ValueError("images is missing; name a folder or a file with images=PATH")
    check_writable(out, "out", folder=True)
    explanation = explaining.explain(
        vae,
        images,
        layer,
        dims=dims,
        attribution=attribution,
        options=options,
        reshape_transform=None
        if reshape_transform is None
        else import_object(reshape_transform, "reshape_transform"),
        normal=normal,
        batch_size=batch_size,
        faithfulness=faithfulness,
        progress="auto",
        **how,
    )
    model_settings = explanation.settings["model"]
    say(f"explained {len(explanation.names)} images: {model_settings['posterior_read_by']}")
    described = {
        "source": model,
        "options": model_options or {},
        **model_settings,
    }
    explanation = replace(explanation, settings={**explanation.settings, "model": described})
    written = page.write_explanation(
        explanation,
        out,
        shown_dims=shown_dims,
        shown_images=shown_images,
        traversed_images=traversed_images,
        scale=scale,
        progress="auto",
    )
    explanation.warn_if_collapsed()
    count, drawn = len(explanation.names), min(shown_images, len(explanation.names))
    for name, maps in explanation.layer_maps.items():
        of = f" of {name}" if len(explanation.layer_maps) > 1 else ""
        say(f"maps{of} {tuple(maps.shape)} in {Path(out) / 'maps.npz'}")
    say(f"drew overlays of {drawn} of {count} images (shown_images draws more)")
    say(f"all {count} images with every dimension are on the page: open {written}")
