"""Whether maps are faithful, beside random ones and the gradient times the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from captum_vae.metrics.faithfulness import compare_areas, removal_curves
from captum_vae.metrics.faithfulness.curves import Direction

OURS = "these maps"
OTHERS = ("gradient times input", "random")
_FILL: Literal["blur"] = "blur"


def measure_faithfulness(
    mean_of: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    dims: Sequence[int],
    *,
    batch_size: int = 16,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Deletion and insertion areas of maps, and how far they are from those of others.

    Args:
        mean_of: From images (B, C, H, W) to posterior means (B, D), with gradients.
        images: (B, C, H, W) as the model wants them.
        maps: (B, T, h, w), at any size.
        dims: The T latent dimensions.
        batch_size: Images per pass.
        seed: Seed of the random maps and of what decides between equal values.

    Returns:
        A row per direction and kind of map: ``map``, ``direction``, ``area``, and ``difference``
        of these maps' area minus that one's, each with a 95% interval over the images. Removed
        pixels are those of a blurred copy.
    """
    side = images.shape[2:]
    ours = interpolate(maps.to(images), side, mode="bilinear", align_corners=False)
    drawn = torch.rand(ours.shape, generator=torch.Generator().manual_seed(seed)).to(images)
    kinds = {OURS: ours, OTHERS[0]: _gradient_times_input(mean_of, images, dims), OTHERS[1]: drawn}
    rows: list[dict[str, Any]] = []
    for direction in get_args(Direction):
        curves = {
            name: removal_curves(
                mean_of,
                images,
                found,
                dims,
                direction=direction,
                fill=_FILL,
                batch_size=batch_size,
                seed=seed,
            )
            for name, found in kinds.items()
        }
        for name, curve in curves.items():
            difference = None if name == OURS else compare_areas(curves[OURS], curve).to_dict()
            rows.append(
                {
                    "map": name,
                    "direction": direction,
                    "area": curve.area().to_dict(),
                    "difference": difference,
                }
            )
    return rows


def _gradient_times_input(
    mean_of: Callable[[Tensor], Tensor], images: Tensor, dims: Sequence[int]
) -> Tensor:
    """(B, T, H, W): absolute gradient of each dimension times the pixel, summed over channels."""
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_()
        mean = mean_of(x)
        found = []
        for place, dim in enumerate(dims):
            (gradient,) = torch.autograd.grad(
                mean[:, dim].sum(), x, retain_graph=place + 1 < len(dims)
            )
            found.append((gradient * x.detach()).sum(1).abs())
    return torch.stack(found, 1)
