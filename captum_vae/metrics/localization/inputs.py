"""What the localization metrics take: one rule for shapes, types and values of maps and masks."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Maps: TypeAlias = Tensor | Sequence[Tensor]
"""(B, H, W) or (B, 1, H, W) floats, or B maps (H, W) or (1, H, W) of any sizes."""

Masks: TypeAlias = Tensor | Sequence[Tensor | None]
"""(B, H, W) or (B, 1, H, W) bool, or B masks (H, W) or (1, H, W); None where it is unknown."""


def maps_of_images(maps: Maps) -> list[Tensor]:
    """The maps of B images, (H, W) each, which may differ in size.

    Args:
        maps: (B, H, W) or (B, 1, H, W) floats, or a sequence of B maps (H, W) or (1, H, W).

    Raises:
        TypeError: A map is no tensor of floats.
        ValueError: There is no map, a shape is none of these, or a value is not finite.
    """
    planes = _planes("maps", maps)
    for index, scores in enumerate(planes):
        check_scores(scores, f"maps[{index}]")
    return planes


def masks_of_images(
    masks: Masks, maps: Sequence[Tensor], name: str = "masks"
) -> list[Tensor | None]:
    """The masks of the maps' images, (H, W) each; None where the truth is unknown.

    Args:
        masks: (B, H, W) or (B, 1, H, W) bool, or a sequence of B masks (H, W) or (1, H, W), each
            of its map's size, or None.
        maps: B maps (H, W).
        name: The argument, for the message.

    Raises:
        TypeError: A mask is no tensor of bool.
        ValueError: Number or sizes are not those of the maps.
    """
    planes = _planes(name, masks, unknown=True)
    if len(planes) != len(maps):
        raise ValueError(f"{len(maps)} maps and {len(planes)} {name}; wanted one per map")
    for index, (scores, mask) in enumerate(zip(maps, planes, strict=True)):
        if mask is not None:
            check_mask(mask, scores, f"{name}[{index}]", f"maps[{index}]")
    return planes


def check_scores(scores: Tensor, name: str = "scores") -> None:
    """Refuse scores that have no exact place in an order.

    Args:
        scores: Scores, a tensor of any shape.
        name: The argument, for the message.

    Raises:
        TypeError: They are no tensor of floats.
        ValueError: A value is NaN or infinite.
    """
    if not isinstance(scores, Tensor):
        raise TypeError(f"{name} is a {type(scores).__name__}; wanted a tensor of floats")
    if not scores.is_floating_point():
        raise TypeError(f"{name} has dtype {scores.dtype}; wanted floats, higher is more anomalous")
    if scores.layout != torch.strided:
        raise TypeError(f"{name} is sparse; wanted a dense tensor, as {name}.to_dense() gives")
    finite = scores.isfinite()
    if not finite.all():
        raise ValueError(
            f"{name} has {int((~finite).sum())} of {scores.numel()} values that are NaN or "
            "infinite, which a broken model or an overflow gives; repair the map before"
        )


def check_mask(mask: Tensor, scores: Tensor, name: str = "mask", of: str = "scores") -> None:
    """Refuse a mask that does not say of every score whether it is anomalous.

    Args:
        mask: Labels of the scores' shape.
        scores: Scores, a tensor of any shape.
        name: The argument, for the message.
        of: The argument that holds the scores, for the message.

    Raises:
        TypeError: It is no tensor of bool.
        ValueError: Its shape is not that of the scores.
    """
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} is a {type(mask).__name__}; wanted a tensor of bool")
    if mask.dtype != torch.bool:
        raise TypeError(
            f"{name} has dtype {mask.dtype}; wanted torch.bool, which says what counts as "
            "anomalous, as in mask > 0.5"
        )
    if scores.shape != mask.shape:
        raise ValueError(
            f"{of} has shape {tuple(scores.shape)} and {name} {tuple(mask.shape)}; wanted the "
            "same: resize the map up to the mask, as Protocol.prepare does by default"
        )


def _planes(name: str, batch: Maps | Masks, *, unknown: bool = False) -> list[Any]:
    """The (H, W) tensors of a batch, without a channel axis of size 1."""
    if not isinstance(batch, (Tensor, list, tuple)):
        raise TypeError(
            f"{name} is a {type(batch).__name__}; wanted a tensor (B, H, W) or (B, 1, H, W), or a "
            "list of tensors (H, W)"
        )
    if isinstance(batch, Tensor) and not (
        batch.dim() == 3 or (batch.dim() == 4 and batch.shape[1] == 1)
    ):
        raise ValueError(
            f"{name} has shape {tuple(batch.shape)}; wanted (B, H, W) or (B, 1, H, W), one per "
            "image"
        )
    if len(batch) == 0:
        raise ValueError(f"{name} is empty; wanted at least one image")
    planes: list[Tensor | None] = []
    for index, item in enumerate(batch):
        if item is None and unknown:
            planes.append(None)
            continue
        if not isinstance(item, Tensor):
            raise TypeError(f"{name}[{index}] is a {type(item).__name__}; wanted a tensor (H, W)")
        plane = item[0] if item.dim() == 3 and item.shape[0] == 1 else item
        if plane.dim() != 2 or not plane.numel():
            raise ValueError(
                f"{name}[{index}] has shape {tuple(item.shape)}; wanted (H, W) or (1, H, W) with "
                "pixels"
            )
        planes.append(plane)
    return planes
