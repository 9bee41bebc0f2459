"""A plain folder of normal images, with or without abnormal ones and their masks."""

from pathlib import Path

from captum_vae.data.cache import CacheKind
from captum_vae.data.files import (
    EMPTY,
    UNKNOWN,
    ImageChannels,
    ImageFile,
    ImageFileDataset,
    OnError,
    existing_folder,
    image_files,
    match_masks,
)
from captum_vae.data.resize import ImageSize


class ImageFolder(ImageFileDataset):
    """Images of your own: a folder of normal ones, and perhaps abnormal ones with masks.

    Folders are searched with their subfolders. Normal images get an all-False mask. The mask of
    ``abnormal/a/7.jpg`` is ``masks/a/7.png`` or ``masks/a/7_mask.png``, of any image type; without
    one, the mask is unknown.

    Args:
        normal: folder of normal images; None to read abnormal ones alone.
        abnormal: folder of abnormal images.
        masks: folder that mirrors ``abnormal``.
        image_size: see :class:`ImageFileDataset`, as the options below.
        image_channels: 1, 3 or "auto".
        mask_size: None keeps the masks untouched.
        on_error: "raise" or "skip" what does not decode.
        cache: "memory", "disk" or "none".
        cache_dir: folder of the disk cache.

    Raises:
        FileNotFoundError: for a folder that does not exist.
        ValueError: for no images, masks without ``abnormal``, a mask without an image or of
            another size.
    """

    def __init__(
        self,
        normal: str | Path | None,
        abnormal: str | Path | None = None,
        masks: str | Path | None = None,
        *,
        image_size: ImageSize = None,
        image_channels: ImageChannels = "auto",
        mask_size: ImageSize = None,
        on_error: OnError = "raise",
        cache: CacheKind = "memory",
        cache_dir: str | Path | None = None,
    ) -> None:
        """List the folders and pair the masks."""
        if normal is None and abnormal is None:
            raise ValueError("normal and abnormal are both None; wanted at least one folder")
        if masks is not None and abnormal is None:
            raise ValueError(f"masks is {masks!r} without abnormal; wanted the images as well")
        files = []
        if normal is not None:
            files += _normal_files(existing_folder(normal, "normal", "a folder of images"))
        if abnormal is not None:
            files += _abnormal_files(
                existing_folder(abnormal, "abnormal", "a folder of images"),
                None if masks is None else existing_folder(masks, "masks", "a folder of masks"),
            )
        super().__init__(
            files,
            image_size=image_size,
            image_channels=image_channels,
            mask_size=mask_size,
            on_error=on_error,
            cache=cache,
            cache_dir=cache_dir,
        )


def _normal_files(folder: Path) -> list[ImageFile]:
    return [
        ImageFile(path, _name(path, folder), _group(path, folder), 0, EMPTY)
        for path in _images(folder)
    ]


def _abnormal_files(folder: Path, masks: Path | None) -> list[ImageFile]:
    found = [] if masks is None else image_files(masks, recursive=True)
    within = set(found)
    images = [path for path in _images(folder) if path not in within]
    mask_of = match_masks(
        [(_key(path, folder), path) for path in images],
        [(_key(path, masks or folder).removesuffix("_mask"), path) for path in found],
    )
    return [
        ImageFile(path, _name(path, folder), _group(path, folder), 1, mask_of.get(path, UNKNOWN))
        for path in images
    ]


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _images(folder: Path) -> list[Path]:
    images = image_files(folder, recursive=True)
    if not images:
        raise ValueError(f"no images in {folder} or its subfolders")
    return images


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder.parent).as_posix()


def _group(path: Path, folder: Path) -> str:
    return path.parent.relative_to(folder.parent).as_posix()
