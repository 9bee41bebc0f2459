"""Pairing images with the masks that bear their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from captum_vae.checks import warn_caller

_ENDINGS = ("_mask", "_gt", "_label")
"""What stands after an image's name in the name of its mask, or nothing."""


def match_masks(
    images: Sequence[tuple[str, Path]], masks: Sequence[tuple[str, Path]]
) -> dict[Path, tuple[Path, ...]]:
    """Give each image its masks by name.

    The mask of ``a/7.jpg`` is ``a/7.png``, or with ``_mask``, ``_gt`` or ``_label`` after the 7,
    or all the masks in the folder ``a/7``, which are then joined (as in MVTec LOCO).

    Args:
        images: Images and their names, relative to the folder of images, without ending.
        masks: Masks and their names, relative to the folder of masks, without ending.

    Returns:
        The masks of each image that has any.

    Raises:
        ValueError: A mask matches no image or several, or an image has two masks that do not lie
            in a folder of its name.
    """
    images_of: dict[str, list[Path]] = {}
    for name, image in images:
        images_of.setdefault(name, []).append(image)
    alone: dict[Path, Path] = {}
    joined: dict[Path, list[Path]] = {}
    for name, mask in masks:
        owners = images_of.get(name, [])
        owners = owners or [path for bare in bare_names(name) for path in images_of.get(bare, [])]
        in_folder = not owners
        if in_folder:
            owners = images_of.get(name.rpartition("/")[0], [])
        _require_one(mask, owners)
        if owners[0] in alone or (not in_folder and owners[0] in joined):
            other = alone.get(owners[0]) or joined[owners[0]][0]
            raise ValueError(f"{other} and {mask} are both masks of {owners[0]}; remove one")
        if in_folder:
            joined.setdefault(owners[0], []).append(mask)
        else:
            alone[owners[0]] = mask
    paired = {image: (mask,) for image, mask in alone.items()}
    return paired | {image: tuple(found) for image, found in joined.items()}


def match_numbers(
    images: Sequence[tuple[int, Path]], masks: Sequence[tuple[int, Path]]
) -> dict[Path, tuple[Path, ...]]:
    """Give each frame the mask of its number; frames may go without.

    Raises:
        ValueError: Two frames or two masks of one number, or a mask without a frame.
    """
    image_of = _unique(images)
    mask_of = _unique(masks)
    for number, mask in mask_of.items():
        _require_one(mask, [image_of[number]] if number in image_of else [])
    return {image: (mask_of[n],) for n, image in image_of.items() if n in mask_of}


def refuse_masks_among_images(names: Sequence[tuple[str, Path]]) -> None:
    """Refuse a folder of images that also holds masks, which would count as images.

    Args:
        names: Images and their names without ending.

    Raises:
        ValueError: A file is called like another with ``_mask``, ``_gt`` or ``_label`` after it.
    """
    image_of = dict(names)
    for name, path in names:
        for bare in bare_names(name):
            if bare in image_of:
                raise ValueError(
                    f"{path} looks like the mask of {image_of[bare]} and lies among the images; "
                    "move masks to a folder of their own"
                )


def warn_of_same_names(names: Sequence[tuple[str, Path]]) -> None:
    """Warn of images that bear the same name but for the ending: one picture saved twice?

    Args:
        names: Images and their names without ending.
    """
    first: dict[str, Path] = {}
    again = [(first[name], path) for name, path in names if first.setdefault(name, path) != path]
    if again:
        one, other = again[0]
        warn_caller(
            f"{len(again)} images are called like another but for the ending, {other} beside "
            f"{one.name}; all of them are read, so remove one if they show the same"
        )


def warn_of_missing_masks(images: Iterable[Path], masked: Iterable[Path], where: Path) -> None:
    """Warn when only a part of a folder's images has masks: the rest counts as unknown."""
    images, with_mask = list(images), set(masked)
    without = [path for path in images if path not in with_mask]
    if with_mask and without:
        warn_caller(
            f"{len(without)} of {len(images)} images have no mask in {where}, first {without[0]}; "
            "their masks are unknown, so no evaluation counts their pixels"
        )


def bare_names(name: str) -> list[str]:
    """What a mask's name may be that of an image with ``_mask`` or the like after it."""
    return [name.removesuffix(ending) for ending in _ENDINGS if name.endswith(ending)]


def _require_one(mask: Path, owners: Sequence[Path]) -> None:
    if len(owners) != 1:
        found = " and ".join(str(path) for path in owners) or "no image"
        raise ValueError(
            f"the mask {mask} matches {found}; wanted exactly one image of that name, so remove "
            "the mask or restore its image"
        )


def _unique(numbered: Sequence[tuple[int, Path]]) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for number, path in numbered:
        if number in found:
            raise ValueError(
                f"{found[number]} and {path} both have the number {number}; remove one"
            )
        found[number] = path
    return found
