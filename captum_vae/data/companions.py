"""What lies in folders such as ``masks`` or ``xyz`` among images: decided by what is in them.

MVTec 3D-AD keeps ``rgb/000.png``, ``gt/000.png`` (a mask) and ``xyz/000.tiff`` (coordinates) side
by side. There the folder's name says what it is, since its files bear the names of images beside
it. Photographs of masks in a folder ``masks`` are images like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from captum_vae.data.decode import read_image
from captum_vae.data.listing import Listing, PassedOver
from captum_vae.data.pairing import bare_names
from captum_vae.files import DamagedFileError

_MASKS = frozenset(("gt", "ground_truth", "mask", "masks", "label", "labels"))
_MEASURED = frozenset(("xyz", "depth"))


@dataclass
class Companions:
    """Images, and what lies beside them under their names.

    Attributes:
        images: The images.
        passed_over: What is none, with reasons.
        masks: Masks that lie beside images, by image.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)
    masks: dict[Path, tuple[Path, ...]] = field(default_factory=dict)


def set_aside(folder: Path, found: Listing) -> Companions:
    """Tell the images of a folder from masks and measurements that lie among them.

    A file in a folder called gt, ground_truth, mask(s), label(s), xyz or depth is none of the
    images if an image of its name lies beside that folder, or in a folder beside it. Where no
    file of such a folder has one, they are images, unless they look like masks.

    Args:
        folder: The folder.
        found: What it holds.

    Returns:
        The images in their order, and the rest.

    Raises:
        ValueError: Some files of such a folder have an image of their name and others do not, or
            they look like masks of no image.
    """
    named: dict[Path, list[tuple[Path, tuple[str, ...]]]] = {}
    others: dict[tuple[str, ...], list[Path]] = {}
    for path in found.images:
        parts = path.relative_to(folder).with_suffix("").parts
        place = _named_place(parts)
        if place is not None:
            inside = folder.joinpath(*parts[: place + 1])
            named.setdefault(inside, []).append((path, parts[:place] + parts[place + 1 :]))
            continue
        # Under its own name, and as one in a folder beside the one that is called gt.
        keys = {parts} | {parts[:at] + parts[at + 1 :] for at in range(len(parts) - 1)}
        for key in keys:
            others.setdefault(key, []).append(path)
    told = Companions(passed_over=list(found.passed_over))
    left_out: set[Path] = set()
    for inside, files in named.items():
        beside = {path: _beside(key, others) for path, key in files}
        alone = [path for path in beside if not beside[path]]
        if len(alone) == len(files):
            if others and _looks_like_a_mask(alone[0]):
                raise ValueError(
                    f"{alone[0]} lies in a folder {inside.name!r} among the images of {folder}, "
                    "looks like a mask, and bears the name of no image beside it; move that "
                    "folder out, or restore the image"
                )
            continue
        if alone:
            raise ValueError(
                f"{inside} holds {len(files) - len(alone)} files that bear the names of images "
                f"beside it, and {len(alone)} that do not, first {alone[0].name}, so that nothing "
                "says whether they are images; move that folder out, or the images among them"
            )
        left_out.update(beside)
        for path, images in beside.items():
            told.passed_over.append(PassedOver(path, f"in {inside.name}, named as an image beside"))
            if inside.name.lower() in _MASKS:
                for image in images:
                    told.masks[image] = (*told.masks.get(image, ()), path)
    told.images = [path for path in found.images if path not in left_out]
    return told


def _named_place(parts: Sequence[str]) -> int | None:
    """Where a file's path goes through a folder whose name says that it holds no images."""
    for place, part in enumerate(parts[:-1]):
        if part.lower() in _MASKS | _MEASURED:
            return place
    return None


def _beside(key: tuple[str, ...], others: dict[tuple[str, ...], list[Path]]) -> list[Path]:
    """The images that bear the name of a file, or that name without _mask or the like."""
    for name in (key[-1], *bare_names(key[-1])):
        if found := others.get((*key[:-1], name)):
            return found
    return []


def _looks_like_a_mask(path: Path) -> bool:
    """Whether a file has two values at most, as no photograph has."""
    try:
        return len(np.unique(read_image(path, 1, None).pixels)) <= 2
    except DamagedFileError:
        return False
