"""The MVTec AD layout: train/good, test/<kind>, ground_truth/<kind> inside each category."""

from pathlib import Path
from typing import Literal

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
    subfolders,
)
from captum_vae.data.resize import ImageSize


class MVTec(ImageFileDataset):
    """One category of a data set in the MVTec AD layout, of any image type and size.

    Images under ``train/good`` and ``test/good`` are normal, with an all-False mask. Every other
    folder of ``test`` is a kind of defect, whose masks ``ground_truth/<kind>/<stem>_mask.*`` (or
    ``<stem>.*``) are matched by name; a defective image without one has an unknown mask.

    Args:
        root: the folder that holds the categories, or one category itself.
        category: the category's name; may be left out when ``root`` is a category.
        split: "train" or "test".
        image_size: see :class:`ImageFileDataset`, as the options below.
        image_channels: 1, 3 or "auto".
        mask_size: None keeps the masks untouched.
        on_error: "raise" or "skip" what does not decode.
        cache: "memory", "disk" or "none".
        cache_dir: folder of the disk cache.

    Raises:
        FileNotFoundError: for a missing folder, listing the categories found.
        ValueError: for a split without images, a mask without an image or of another size.
    """

    def __init__(
        self,
        root: str | Path,
        category: str | None = None,
        split: Literal["train", "test"] = "train",
        *,
        image_size: ImageSize = None,
        image_channels: ImageChannels = "auto",
        mask_size: ImageSize = None,
        on_error: OnError = "raise",
        cache: CacheKind = "memory",
        cache_dir: str | Path | None = None,
    ) -> None:
        """List the split and pair its masks."""
        if split not in ("train", "test"):
            raise ValueError(f"split is {split!r}; wanted 'train' or 'test'")
        self.root = _category_folder(Path(root), category)
        self.category = self.root.name
        files = _train_files(self.root) if split == "train" else _test_files(self.root)
        if not files:
            raise ValueError(f"no images in {self.root / split}")
        super().__init__(
            files,
            image_size=image_size,
            image_channels=image_channels,
            mask_size=mask_size,
            on_error=on_error,
            cache=cache,
            cache_dir=cache_dir,
        )


def mvtec_categories(root: str | Path) -> list[str]:
    """List the categories under ``root``: the folders that hold ``train/good``.

    Raises:
        FileNotFoundError: when ``root`` is not a folder.
    """
    folder = existing_folder(root, "root", "a folder of categories in the MVTec layout")
    return [path.name for path in subfolders(folder) if _is_category(path)]


def _is_category(folder: Path) -> bool:
    return (folder / "train" / "good").is_dir()


def _category_folder(root: Path, category: str | None) -> Path:
    categories = mvtec_categories(root)
    folder = root if category is None else root / category
    if not _is_category(folder):
        raise FileNotFoundError(
            f"{folder} is no category of the MVTec layout: it has no folder train/good. "
            f"Categories in {root}: {', '.join(categories) or 'none'}"
        )
    return folder.resolve() if category is None else folder


def _train_files(root: Path) -> list[ImageFile]:
    return [
        ImageFile(path, path.relative_to(root).as_posix(), "good", 0, EMPTY)
        for path in image_files(root / "train" / "good")
    ]


def _test_files(root: Path) -> list[ImageFile]:
    test = existing_folder(root / "test", "root", "test images beside train")
    truth = root / "ground_truth"
    kinds = subfolders(test)
    stray = {path.name for path in subfolders(truth)} if truth.is_dir() else set()
    for name in sorted(stray - {path.name for path in kinds}):
        if image_files(truth / name):
            raise ValueError(
                f"the masks in {truth / name} have no images: there is no folder {test / name}"
            )
    files = []
    for kind in kinds:
        images = image_files(kind)
        folder = truth / kind.name
        masks = image_files(folder) if folder.is_dir() else []
        mask_of = match_masks(
            [(path.stem, path) for path in images],
            [(path.stem.removesuffix("_mask"), path) for path in masks],
        )
        label, missing = (0, EMPTY) if kind.name == "good" else (1, UNKNOWN)
        for path in images:
            mask = mask_of.get(path, missing)
            files.append(ImageFile(path, path.relative_to(root).as_posix(), kind.name, label, mask))
    return files
