"""Taking away what a map calls important, and watching its latent dimension leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from captum_vae.checks import check_choice, checked_seed, floating_tensor, whole_number
from captum_vae.metrics.faithfulness.curves import Direction, RemovalCurves
from captum_vae.metrics.faithfulness.imputation import noisy_linear_imputation
from captum_vae.posterior import PosteriorAdapter

Fill = Literal["mean", "blur", "noisy_linear"] | float | Tensor
"""What stands where a pixel is removed: the image's own mean, a blurred copy of it, the means of
its neighbours (ROAD), a number, or images of the same shape, such as reconstructions."""

_NAMES = ("mean", "blur", "noisy_linear")


@torch.no_grad()
def removal_curves(
    codes_of: PosteriorAdapter | Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    dims: Sequence[int] | None = None,
    *,
    direction: Direction = "deletion",
    fill: Fill = "blur",
    steps: int = 10,
    batch_size: int = 64,
    seed: int = 0,
) -> RemovalCurves:
    """Deletion and insertion curves of maps against the latent dimensions that they explain.

    The pixels of every image are ranked by every map, ties by chance. In ``steps`` steps they are
    deleted, the most important first, or inserted into the image without any (Petsiuk et al., RISE,
    BMVC 2018); after each the model encodes what is there, and its posterior mean is compared with
    that of the image.

    Args:
        codes_of: From images (B, C, H, W) to posterior means (B, D): ``cam.posterior``, or a
            function. The model should be in eval mode.
        images: (B, C, H, W).
        maps: (B, T, H, W), the larger the more important; ``attribute(images, size="input")``.
        dims: The T latent dimensions of the maps; None where they are all D, in order.
        direction: "deletion" or "insertion".
        fill: What stands where a pixel is removed, see ``Fill``.
        steps: How many times as many pixels more are removed.
        batch_size: Images in one call of the model.
        seed: Seed of what decides between equal values, and of the noise of "noisy_linear".

    Returns:
        The curves, on the images' device.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: Shapes do not fit, a word is unknown, or maps hold NaN.

    Example::

        cam = LatentGradCAM(vae, "encoder.conv2")
        maps = cam.attribute(images, size="input")
        print(removal_curves(cam.posterior, images, maps).area())
    """
    check_choice("direction", direction, ("deletion", "insertion"))
    steps = whole_number("steps", steps, least=1)
    batch_size = whole_number("batch_size", batch_size, least=1)
    _check_images(images, maps)
    seed = checked_seed(seed)
    mean_of = _mean_of(codes_of)
    whole = mean_of(images)
    wanted = _checked_dims(dims, maps.shape[1], whole.shape[1])
    ranks = _ranks(maps, seed)
    filled = _filled(images, fill)
    pixels = ranks.shape[2]
    kept: list[Tensor] = []
    for step in range(steps + 1):
        first = round(step * pixels / steps)
        chosen = (ranks < first).reshape(maps.shape)  # (B, T, H, W)
        removed = chosen if direction == "deletion" else ~chosen
        kept.append(_means(mean_of, images, removed, filled, batch_size, seed))
    moved = torch.stack(kept, 2) - whole[:, None, None]  # (B, T, S + 1, D)
    places = torch.tensor(wanted, device=moved.device)[None, :, None, None]
    own = moved.gather(3, places.expand(len(moved), -1, steps + 1, 1))[..., 0]
    return RemovalCurves(
        fractions=torch.linspace(0, 1, steps + 1, device=moved.device),
        dimension=own.abs(),
        latent=moved.norm(dim=3),
        direction=direction,
    )


def _means(
    mean_of: Callable[[Tensor], Tensor],
    images: Tensor,
    removed: Tensor,
    filled: Tensor | None,
    batch_size: int,
    seed: int,
) -> Tensor:
    """(B, T, D) posterior means of the images with those pixels (B, T, H, W) removed."""
    dims = removed.shape[1]
    masks = removed.flatten(0, 1)
    found = []
    for start in range(0, len(masks), batch_size):
        mask = masks[start : start + batch_size]
        which = torch.arange(start, start + len(mask), device=images.device) // dims
        if filled is None:
            changed = noisy_linear_imputation(images[which], mask, seed=seed)
        else:
            changed = torch.where(mask[:, None], filled[which], images[which])
        found.append(mean_of(changed))
    return torch.cat(found).reshape(len(images), dims, -1)


def _mean_of(codes_of: Any) -> Callable[[Tensor], Tensor]:
    if not callable(codes_of):
        raise TypeError(
            f"codes_of is a {type(codes_of).__name__}; wanted cam.posterior, or a function from "
            "images to posterior means (B, D)"
        )

    def mean_of(images: Tensor) -> Tensor:
        found = codes_of(images)
        mean = found if isinstance(found, Tensor) else getattr(found, "mean", None)
        if not isinstance(mean, Tensor) or mean.dim() != 2 or len(mean) != len(images):
            given = tuple(mean.shape) if isinstance(mean, Tensor) else type(found).__name__
            raise ValueError(f"codes_of gave {given} for {len(images)} images; wanted (B, D)")
        return mean.detach()

    return mean_of


def _ranks(maps: Tensor, seed: int) -> Tensor:
    """(B, T, H * W): the place of each pixel, 0 for the most important one, ties by chance."""
    flat = maps.detach().flatten(2)
    shuffled = torch.randperm(flat.shape[2], generator=torch.Generator().manual_seed(seed))
    shuffled = shuffled.to(flat.device)
    order = flat[..., shuffled].argsort(dim=2, descending=True, stable=True)
    ranks = torch.empty_like(order)
    places = torch.arange(flat.shape[2], device=flat.device).expand_as(order)
    ranks.scatter_(2, shuffled[order], places)
    return ranks


def _filled(images: Tensor, fill: Any) -> Tensor | None:
    """What stands where a pixel is removed; None where that depends on the mask."""
    if isinstance(fill, str):
        check_choice("fill", fill, _NAMES)
    if isinstance(fill, str) and fill == "noisy_linear":
        return None
    if isinstance(fill, str) and fill == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images)
    if isinstance(fill, str):
        sigma = max(images.shape[2:]) / 8
        side = [min(2 * round(2 * sigma) + 1, 2 * size - 1) for size in images.shape[2:]]
        blurred: Tensor = gaussian_blur(images, side[::-1], [sigma, sigma])
        return blurred
    if isinstance(fill, Tensor):
        if fill.shape != images.shape:
            raise ValueError(
                f"fill has shape {tuple(fill.shape)}; wanted the images' {tuple(images.shape)}"
            )
        return fill.to(images)
    if isinstance(fill, (int, float)) and not isinstance(fill, bool):
        return torch.full_like(images, float(fill))
    raise TypeError(
        f"fill is a {type(fill).__name__}; wanted {', '.join(_NAMES)}, a number or images"
    )


def _checked_dims(dims: Sequence[int] | None, maps: int, latent: int) -> list[int]:
    if dims is None:
        if maps != latent:
            raise ValueError(
                f"there are {maps} maps an image and {latent} latent dimensions; say in dims= which"
            )
        return list(range(latent))
    found = [whole_number("dims", dim, least=0, most=latent - 1) for dim in dims]
    if len(found) != maps:
        raise ValueError(f"dims has {len(found)} dimensions for {maps} maps; wanted one each")
    return found


def _check_images(images: Any, maps: Any) -> None:
    floating_tensor("images", images)
    floating_tensor("maps", maps)
    fits = images.dim() == 4 and maps.dim() == 4
    if not fits or (len(maps), *maps.shape[2:]) != (len(images), *images.shape[2:]):
        raise ValueError(
            f"images has shape {tuple(images.shape)} and maps {tuple(maps.shape)}; wanted "
            "(B, C, H, W) and (B, T, H, W): attribute(images, size='input')"
        )
    if not bool(maps.isfinite().all()):
        raise ValueError("maps has values that are NaN or infinite, which rank no pixel")
