"""``captum-vae export``: the maps of a person's own VAE as one file, ONNX or torch.export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from captum_vae.attr.export.options import OUTPUTS, Format, Output
from captum_vae.training.configuration import Accelerator


def export(
    model: str,
    *,
    layer: Sequence[str],
    out: str = "maps.onnx",
    format: Literal["by_ending"] | Format = "by_ending",
    outputs: Sequence[Output] = OUTPUTS,
    dims: Sequence[int] | None = None,
    attribution: str = "latent_grad_cam",
    options: dict[str, Any] | None = None,
    posterior: str | None = None,
    posterior_options: dict[str, Any] | None = None,
    model_options: dict[str, Any] | None = None,
    reshape_transform: str | None = None,
    images: str | None = None,
    normal: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    batch_size: int = 2,
    device: Accelerator = "cpu",
) -> None:
    """Write the maps of your own VAE as a file that onnxruntime runs, without torch.

    The file takes any number of images of one size, in the range that the model was trained on. It
    is compared with PyTorch at 1 and at 7 images before it is written.

    Args:
        model: A package.module:function of your own that returns the model with its weights (of an
            installed package or the current folder), or a run's folder or checkpoint of
            captum-vae fit.
        layer: Dotted name of the layer whose features are explained, or several such as
            encoder.conv1,encoder.conv2, each of which gives maps.
        out: The file to write; one that is there is replaced.
        format: Either onnx or torch (a program of torch.export); by_ending takes onnx for .onnx and
            torch for .pt2.
        outputs: What the file gives beside the maps: mean, log_variance, reconstruction.
        dims: Latent dimensions, such as 1,2; all by default.
        attribution: Name of a registered attribution of a layer (captum-vae plugins lists them).
        options: Options of the attribution, such as preset, rectifier, order, weighting, aggregate,
            size, or baselines (reconstruction, a number, or mean_activation).
        posterior: How to read the posterior: a registered name, or the words of PosteriorAdapter,
            such as encode:chunk, mu,logvar or module:fc_mu; detected by default.
        posterior_options: Further arguments of PosteriorAdapter: call, spatial, level, spread.
        model_options: Arguments of the model's function.
        reshape_transform: A package.module:function from tokens (B, N, C) to (B, C, h, w), for
            transformers.
        images: Images to record and compare with; noise by default, where the model states its
            images' size or image_size and channels do.
        normal: Normal images, for attributions that are fitted and for baselines=mean_activation.
        image_size: Height and width, or one number; by default what the model states, else the
            images' own.
        channels: 1 or 3; by default what the model states, else the images' own.
        value_range: Lowest and highest value the model was trained on, such as [-1, 1]; by default
            0 to 1, or what a detector knows of its model.
        batch_size: Images to record with, for which the memory of backward passes is planned.
        device: Where the model is recorded: auto, cpu or cuda.

    Raises:
        ValueError: An option does not fit, a layer cannot be explained, the posterior cannot be
            told, or an operation has no form in such a file.
        FileNotFoundError: There are no such images or no such checkpoint.
    """
    from pathlib import Path

    from captum_vae.commands.model_source import range_of, source_model, source_of
    from captum_vae.explain.exporting import export_maps
    from captum_vae.files import check_writable
    from captum_vae.plugins import import_object
    from captum_vae.training.devices import chosen_device
    from captum_vae.training.logs import say

    endings: dict[str, Format] = {".onnx": "onnx", ".pt2": "torch"}
    chosen = endings.get(Path(out).suffix) if format == "by_ending" else format
    if chosen is None:
        raise ValueError(
            f"out is {out!r}, whose ending tells no format; end it in .onnx or .pt2, or say "
            "format=onnx or format=torch"
        )
    check_writable(out, "out")
    source = source_of(model, model_options or {})
    vae = source_model(source, argument="model").to(chosen_device(device)).eval()
    written = export_maps(
        vae,
        layer,
        out,
        format=chosen,
        outputs=outputs,
        dims=dims,
        attribution=attribution,
        options=options,
        posterior=posterior,
        posterior_options=posterior_options,
        reshape_transform=None
        if reshape_transform is None
        else import_object(reshape_transform, "reshape_transform"),
        images=images,
        normal=normal,
        image_size=image_size,
        channels=channels,
        value_range=range_of(source, value_range),
        batch_size=batch_size,
    )
    say(f"wrote {written}")
