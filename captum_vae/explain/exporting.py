"""``export_maps``: a registered attribution of a model as one file, in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from captum_vae.attr.arguments import latent_dims
from captum_vae.attr.export import ExportedFile
from captum_vae.attr.export.options import OUTPUTS, Format, Output
from captum_vae.data.resize import ImageSize
from captum_vae.data.sample import SampleDataset
from captum_vae.explain.attribution import build_attribution
from captum_vae.explain.subject import Subject
from captum_vae.files import check_writable


def export_maps(
    model: nn.Module,
    layers: str | Sequence[str],
    path: str | Path,
    *,
    format: Format = "onnx",
    outputs: Sequence[Output] = OUTPUTS,
    dims: Sequence[int] | None = None,
    attribution: str = "latent_grad_cam",
    options: Mapping[str, Any] | None = None,
    posterior: Any = None,
    posterior_options: Mapping[str, Any] | None = None,
    reshape_transform: Callable[[Tensor], Tensor] | None = None,
    images: str | Path | Tensor | SampleDataset | None = None,
    normal: str | Path | Tensor | SampleDataset | None = None,
    image_size: ImageSize = None,
    channels: int | None = None,
    value_range: Sequence[float] = (0.0, 1.0),
    batch_size: int = 2,
) -> ExportedFile:
    """Write the maps of a model as a file; see :meth:`captum_vae.LatentGradCAM.export`.

    Args:
        model: The VAE, in eval mode on the device where it is to be recorded.
        layers: Dotted name of the layer whose features are explained, or several.
        path: The file to write.
        format: ``onnx`` or ``torch``.
        outputs: Which of ``maps``, ``mean``, ``log_variance`` and ``reconstruction`` it gives.
        dims: The latent dimensions to explain; None for all D.
        attribution: Name of a registered attribution of a layer.
        options: Options of that attribution; ``baselines="mean_activation"`` is fitted on
            ``normal``.
        posterior: How to read the posterior, in the words of
            :class:`captum_vae.posterior.PosteriorAdapter`; None detects.
        posterior_options: Further arguments of PosteriorAdapter.
        reshape_transform: Brings tokens (B, N, C) to (B, C, h, w); for transformers.
        images: Images to record and compare with, as in :func:`captum_vae.explain.explain`; None
            takes noise of the size that the model states, or that ``image_size`` and ``channels``
            give.
        normal: Normal images, for attributions that are fitted and for ``mean_activation``.
        image_size: (height, width) or one number.
        channels: 1 or 3.
        value_range: The lowest and the highest value the model was trained on.
        batch_size: Images to record with.

    Raises:
        ValueError: An option does not fit, a layer cannot be explained, the posterior cannot be
            told, the attribution cannot be exported, or there are no images to record with.
        FileNotFoundError: There are no such images.
        OSError: The disk refuses the file; nothing has been recorded then.
    """
    check_writable(path, "path")
    subject = Subject.of(
        model,
        posterior=posterior,
        posterior_options=posterior_options,
        image_size=image_size,
        channels=channels,
        value_range=value_range,
        batch_size=batch_size,
    )
    example = subject.example(images)
    count = subject.latent_count(example)
    names = [layers] if isinstance(layers, str) else list(layers)
    built = build_attribution(
        attribution,
        model,
        names[0] if len(names) == 1 else names,
        subject.adapter,
        options or {},
        reshape_transform=reshape_transform,
        normal=None if normal is None else subject.batches(subject.read(normal, "normal")),
    )
    if not hasattr(built.attribution, "export"):
        raise ValueError(
            f"the attribution {attribution!r} ({type(built.attribution).__name__}) cannot be "
            "exported; take latent_grad_cam, mean_sum_grad_cam or normal_difference_grad_cam"
        )
    target = {} if dims is None else {"target": list(latent_dims(dims, count))}
    written: ExportedFile = built.attribution.export(
        example, path, format=format, outputs=outputs, **target, **built.options
    )
    return written
