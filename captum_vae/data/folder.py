"""A plain folder of normal images, with or without abnormal ones and their masks."""

import sys
from pathlib import Path

from typing_extensions import Unpack

from captum_vae.data.companions import set_aside
from captum_vae.data.image_dataset import ImageFileDataset
from captum_vae.data.image_file import EMPTY, UNKNOWN, ImageFile
from captum_vae.data.listing import (
    Listing,
    counted_reasons,
    existing_folder,
    list_images,
    readable_name,
)
from captum_vae.data.pairing import (
    match_masks,
    refuse_masks_among_images,
    warn_of_missing_masks,
    warn_of_same_names,
)
from captum_vae.data.reading_options import ReadingOptions


class ImageFolder(ImageFileDataset):
    """Images of your own: a folder of normal ones, and perhaps abnormal ones with masks.

    Folders are searched with their subfolders, linked ones included. Normal images get an
    all-False mask. The mask of ``abnormal/a/7.jpg`` is ``masks/a/7.png`` or ``masks/a/7_mask.png``
    (or ``_gt``, ``_label``), of any image type, or all the masks in ``masks/a/7/``, joined; without
    one, the mask is unknown.

    Args:
        normal: Folder of normal images; None to read abnormal ones alone.
        abnormal: Folder of abnormal images.
        masks: Folder that mirrors ``abnormal``.
        **options: How images and masks are read, see
            :class:`~captum_vae.data.ReadingOptions`.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: There are no images, one folder lies in another in which it would be read
            twice, masks come without ``abnormal``, or a mask has no image or another size.
    """

    def __init__(
        self,
        normal: str | Path | None,
        abnormal: str | Path | None = None,
        masks: str | Path | None = None,
        **options: Unpack[ReadingOptions],
    ) -> None:
        """List the folders and pair the masks."""
        if normal is None and abnormal is None:
            raise ValueError("normal and abnormal are both None; wanted at least one folder")
        if masks is not None and abnormal is None:
            raise ValueError(f"masks is {masks!r} without abnormal; wanted the images as well")
        good = bad = truth = None
        if normal is not None:
            good = existing_folder(normal, "normal", "a folder of images")
        if abnormal is not None:
            bad = existing_folder(abnormal, "abnormal", "a folder of images")
        if masks is not None:
            truth = existing_folder(masks, "masks", "a folder of masks")
        _refuse_overlap(good, bad, truth)
        files: list[ImageFile] = []
        listings: list[Listing] = []
        if good is not None:
            listings.append(_listed(good))
            files += _normal_files(good, listings[-1])
        if bad is not None:
            listings.append(_listed(bad, skip=truth))
            found = Listing() if truth is None else _listed(truth, masks=True)
            files += _abnormal_files(bad, listings[-1], truth, found)
            listings.append(found)
        passed_over = [entry for listing in listings for entry in listing.passed_over]
        super().__init__(files, passed_over=passed_over, **options)


def _refuse_overlap(normal: Path | None, abnormal: Path | None, masks: Path | None) -> None:
    """Refuse folders that contain one another: abnormal images would also be read as normal."""
    named = {"normal": normal, "abnormal": abnormal, "masks": masks}
    folders = {name: path.resolve() for name, path in named.items() if path is not None}
    for outer, outside in folders.items():
        for inner, inside in folders.items():
            allowed = (outer, inner) == ("abnormal", "masks") and outside != inside
            if outer != inner and not allowed and inside.is_relative_to(outside):
                raise ValueError(
                    f"{inner} ({inside}) lies in {outer} ({outside}), whose subfolders are read "
                    "too; give folders that lie beside each other"
                )


def _listed(folder: Path, *, skip: Path | None = None, masks: bool = False) -> Listing:
    found = list_images(folder, skip=skip)
    if not found.images:
        others = counted_reasons(found.passed_over)
        raise ValueError(
            f"no images in {folder} or its subfolders{f', only {others}' if others else ''}"
        )
    if not masks:
        told = set_aside(folder, found)
        found = Listing(told.images, told.passed_over)
    named = [(_key(path, folder), path) for path in found.images]
    refuse_masks_among_images(named)
    if not masks:
        warn_of_same_names(named)
    return found


def _normal_files(folder: Path, found: Listing) -> list[ImageFile]:
    return [ImageFile(path, *_name_and_group(path, folder), 0, EMPTY) for path in found.images]


def _abnormal_files(
    folder: Path, found: Listing, truth: Path | None, masks: Listing
) -> list[ImageFile]:
    mask_of = match_masks(
        [(_key(path, folder), path) for path in found.images],
        [(_key(path, truth or folder), path) for path in masks.images],
    )
    if truth is not None:
        warn_of_missing_masks(found.images, mask_of, truth)
    return [
        ImageFile(path, *_name_and_group(path, folder), 1, mask_of.get(path, UNKNOWN))
        for path in found.images
    ]


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _name_and_group(path: Path, folder: Path) -> tuple[str, str]:
    name = readable_name(path.relative_to(folder.parent))
    return name, sys.intern(name.rpartition("/")[0] or ".")
