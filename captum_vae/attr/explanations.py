"""Adapters to the calling conventions of ``captum.metrics``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_vae.attr.engine.inputs import check_images
from captum_vae.attr.latent_grad_cam import LatentGradCAM


def explanation_func(cam: LatentGradCAM, **options: Any) -> Callable[..., tuple[Tensor, ...]]:
    """A function of the inputs alone, for ``captum.metrics.sensitivity_max``.

    ``sensitivity_max`` wants a tuple back, which ``attribute`` gives only for several layers.

    Args:
        cam: A latent attribution.
        **options: Fixed arguments of ``attribute``.

    Returns:
        ``explain(inputs, **more_options) -> tuple of maps``.

    Example::

        >>> sensitivity_max(explanation_func(cam, rectifier="abs"), x, target=3)
    """
    if not isinstance(cam, LatentGradCAM):
        raise TypeError(f"cam is a {type(cam).__name__}; wanted a latent attribution")

    def explain(inputs: Any, **more_options: Any) -> tuple[Tensor, ...]:
        maps = cam.attribute(inputs, **{**options, **more_options})
        return maps if isinstance(maps, tuple) else (maps,)

    return explain


def input_attributions(maps: Tensor, inputs: Tensor) -> Tensor:
    """One map per image, resized and repeated over channels, for ``captum.metrics.infidelity``.

    Args:
        maps: (B, 1, *spatial).
        inputs: (B, C, *spatial of the input).

    Returns:
        The inputs' shape.

    Raises:
        ValueError: More than one map per image.
    """
    check_images("maps", maps)
    check_images("inputs", inputs)
    if not 3 <= maps.dim() <= 5 or maps.shape[1] != 1 or maps.dim() != inputs.dim():
        raise ValueError(
            f"maps has shape {tuple(maps.shape)}; wanted one map (B, 1, *spatial) per image for "
            f"inputs {tuple(inputs.shape)}: choose one latent dimension, or aggregate='mean'"
        )
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[maps.dim()]
    resized: Tensor = LatentGradCAM.interpolate(maps, tuple(inputs.shape[2:]), mode)
    return resized.expand_as(inputs).contiguous()
