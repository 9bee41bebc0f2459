"""What an explorer is given, checked once: images, masks, and maps by kind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from captum_vae.report.color_scale import check_real

MapKey: TypeAlias = str | tuple[str, str]
"""A kind of map: its name, or (name, layer)."""


def name_and_layer(key: object) -> tuple[str, str]:
    """A kind of map as (name, layer); the layer is empty where none is said.

    Raises:
        TypeError: It is neither a string nor a pair of them.
    """
    pair = (key, "") if isinstance(key, str) else key
    if not (
        isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(word, str) for word in pair)
    ):
        raise TypeError(f"a kind of map is {key!r}; wanted its name, or (name, layer)")
    return pair


def check_image(argument: str, image: object) -> Tensor:
    """An image as (C, H, W).

    Raises:
        TypeError: It is no tensor of real numbers.
        ValueError: It has another shape, or is not finite.
    """
    plane = _real(argument, image)
    if plane.dim() == 2:
        plane = plane[None]
    if plane.dim() != 3 or not plane.numel():
        raise ValueError(
            f"{argument} has shape {tuple(plane.shape)}; wanted (C, H, W) or (H, W) in [0, 1]"
        )
    if not plane.isfinite().all():
        raise ValueError(f"{argument} holds NaN or infinite pixels; wanted values in [0, 1]")
    return plane


def check_plane(argument: str, plane: object, size: tuple[int, ...] | None = None) -> None:
    """Refuse anything but a mask (H, W) of bool, of a size if one is said, or None.

    Raises:
        TypeError: It is no tensor of bool.
        ValueError: It has another shape.
    """
    if plane is None:
        return
    if not isinstance(plane, Tensor) or plane.dtype != torch.bool:
        given = plane.dtype if isinstance(plane, Tensor) else type(plane).__name__
        raise TypeError(f"{argument} is {given}; wanted a torch.bool tensor (H, W)")
    if plane.dim() != 2 or (size is not None and tuple(plane.shape) != size):
        wanted = "(H, W)" if size is None else f"{size}, the size of the map"
        raise ValueError(f"{argument} has shape {tuple(plane.shape)}; wanted {wanted}")


def check_traversal(images: object) -> None:
    """Refuse anything but decoded images (D, S, C, H, W).

    Raises:
        TypeError: It is no tensor of real numbers.
        ValueError: It has another shape.
    """
    values = _real("traversal", images)
    if values.dim() != 5 or not values.numel():
        raise ValueError(
            f"traversal has shape {tuple(values.shape)}; wanted (D, S, C, H, W), S images per "
            "latent dimension"
        )


def checked_maps(
    maps: Mapping[MapKey, Tensor], kinds: Collection[tuple[str, str]], *, first: bool
) -> dict[tuple[str, str], Tensor]:
    """The maps by (name, layer), in the order of the first image.

    Args:
        maps: What was given.
        kinds: The kinds of the images before.
        first: Whether this is the first image.

    Raises:
        TypeError: A map is no tensor of real numbers.
        ValueError: A map has another shape, is not finite, or kinds are missing or new.
    """
    found = {name_and_layer(key): _map(key, plane) for key, plane in maps.items()}
    if first:
        return found
    if set(found) != set(kinds):
        raise ValueError(
            f"maps are {_words(found)}, those of the first image {_words(kinds)}; give every image "
            "the same kinds"
        )
    return {key: found[key] for key in kinds}


def _map(key: object, plane: object) -> Tensor:
    values = _real(f"the map {key!r}", plane)
    if values.dim() not in (2, 3) or not values.numel():
        raise ValueError(
            f"the map {key!r} has shape {tuple(values.shape)}; wanted (H, W), or (D, h, w) with "
            "one map per latent dimension"
        )
    if not values.isfinite().all():
        raise ValueError(f"the map {key!r} has values that are NaN or infinite")
    return values


def _real(argument: str, values: object) -> Tensor:
    check_real(argument, values)
    assert isinstance(values, Tensor)
    values = values.detach()
    return values if values.is_floating_point() else values.float()


def _words(kinds: Collection[tuple[str, str]]) -> str:
    return ", ".join(repr(" ".join(filter(None, key))) for key in kinds) or "none"
