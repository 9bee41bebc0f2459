"""The MVTec AD layout: train/good, test/<kind>, ground_truth/<kind> inside each category."""

from pathlib import Path
from typing import Literal

from typing_extensions import Unpack

from captum_vae.checks import check_choice
from captum_vae.data.companions import Companions, set_aside
from captum_vae.data.image_dataset import ImageFileDataset
from captum_vae.data.image_file import EMPTY, UNKNOWN, ImageFile
from captum_vae.data.listing import (
    PassedOver,
    as_path,
    counted_reasons,
    existing_folder,
    files_in,
    list_images,
    readable_name,
    subfolders,
)
from captum_vae.data.pairing import (
    match_masks,
    refuse_masks_among_images,
    warn_of_missing_masks,
    warn_of_same_names,
)
from captum_vae.data.reading_options import ReadingOptions


class MVTec(ImageFileDataset):
    """One category of a data set in the MVTec AD layout, of any image type and size.

    Images under ``train/good`` and ``test/good`` are normal, with an all-False mask. Every other
    folder of ``test`` is a kind of defect. The masks of ``test/<kind>/<image>.png`` are
    ``ground_truth/<kind>/<image>_mask.*`` or ``<image>.*``, or, as in MVTec LOCO, all those in
    ``ground_truth/<kind>/<image>/``, joined; a defective image without one has an unknown mask.
    Images in subfolders of a kind are read too; masks in a folder gt, mask or the like beside them,
    as in MVTec 3D-AD, are those of a kind that has no folder in ``ground_truth``. What is read and
    what is passed over is said by ``summary``.

    Args:
        root: The folder that holds the categories, or one category itself.
        category: The category's name; may be left out when ``root`` is a category.
        split: "train" or "test".
        **options: How images and masks are read, see
            :class:`~captum_vae.data.ReadingOptions`.

    Raises:
        FileNotFoundError: A folder is missing; the message lists the categories found.
        ValueError: A split has no images, images or masks lie where no kind is told, or a mask
            has no image or another size.
    """

    def __init__(
        self,
        root: str | Path,
        category: str | None = None,
        split: Literal["train", "test"] = "train",
        **options: Unpack[ReadingOptions],
    ) -> None:
        """List the split and pair its masks."""
        check_choice("split", split, ("train", "test"))
        if category is not None and not isinstance(category, str):
            raise TypeError(f"category is {category!r}; wanted the name of a folder in root")
        self.root = _category_folder(as_path("root", root), category)
        self.category = self.root.name
        passed_over: list[PassedOver] = []
        if split == "train":
            files = _train_files(self.root, passed_over)
        else:
            files = _test_files(self.root, passed_over)
        if not files:
            raise ValueError(f"no images in {self.root / split}")
        super().__init__(files, passed_over=passed_over, **options)


def mvtec_categories(root: str | Path) -> list[str]:
    """List the categories under ``root``: the folders that hold ``train/good``.

    Raises:
        FileNotFoundError: ``root`` is not a folder.
    """
    folder = existing_folder(root, "root", "a folder of categories in the MVTec layout")
    return [path.name for path in subfolders(folder) if _is_category(path)]


def _is_category(folder: Path) -> bool:
    return (folder / "train" / "good").is_dir()


def _category_folder(root: Path, category: str | None) -> Path:
    categories = mvtec_categories(root)
    folder = root if category is None else root / as_path("category", category)
    if not _is_category(folder):
        raise FileNotFoundError(
            f"{folder} is no category of the MVTec layout: it has no folder train/good. "
            f"Categories in {root}: {', '.join(categories) or 'none'}"
        )
    return folder.resolve() if category is None else folder


def _train_files(root: Path, passed_over: list[PassedOver]) -> list[ImageFile]:
    _refuse_loose(root / "train", "images", "move them to train/good", passed_over)
    for other in subfolders(root / "train"):
        if other.name != "good":
            passed_over.append(PassedOver(other, "folder beside train/good"))
    return [
        ImageFile(path, readable_name(path.relative_to(root)), "good", 0, EMPTY)
        for path in _images_of_kind(root / "train" / "good", passed_over).images
    ]


def _test_files(root: Path, passed_over: list[PassedOver]) -> list[ImageFile]:
    test = existing_folder(root / "test", "root", "test images beside train")
    truth = root / "ground_truth"
    remedy = "move them to test/good or the folder of their kind of defect"
    _refuse_loose(test, "images", remedy, passed_over)
    kinds = subfolders(test)
    if truth.exists():
        existing_folder(truth, "root", "masks in a folder ground_truth")
        _refuse_loose(truth, "masks", "move them to ground_truth/<kind>", passed_over)
        named = {path.name for path in kinds}
        for folder in subfolders(truth):
            if folder.name not in named and list_images(folder).images:
                raise ValueError(
                    f"the masks in {folder} have no images: there is no folder {test / folder.name}"
                )
    files: list[ImageFile] = []
    for kind in kinds:
        found = _images_of_kind(kind, passed_over)
        images = found.images
        mask_of = _masks_of_kind(kind, images, truth / kind.name, passed_over) or found.masks
        label, missing = (0, EMPTY) if kind.name == "good" else (1, UNKNOWN)
        group = readable_name(Path(kind.name))
        for path in images:
            name = readable_name(path.relative_to(root))
            files.append(ImageFile(path, name, group, label, mask_of.get(path, missing)))
    defective = [file for file in files if file.label == 1]
    if truth.exists() and defective and all(file.mask == UNKNOWN for file in defective):
        others = counted_reasons([e for e in passed_over if e.path.is_relative_to(truth)])
        raise ValueError(
            f"{truth} holds no mask of any of the {len(defective)} defective images in {test}"
            f"{f', only {others}' if others else ''}; "
            "wanted ground_truth/<kind>/<image>_mask.png, or no folder ground_truth where there "
            "are no masks"
        )
    return files


def _images_of_kind(folder: Path, passed_over: list[PassedOver]) -> Companions:
    found = set_aside(folder, list_images(folder))
    passed_over += found.passed_over
    named = [(_key(path, folder), path) for path in found.images]
    refuse_masks_among_images(named)
    warn_of_same_names(named)
    return found


def _masks_of_kind(
    kind: Path, images: list[Path], truth: Path, passed_over: list[PassedOver]
) -> dict[Path, tuple[Path, ...]]:
    if not truth.is_dir():
        return {}
    found = list_images(truth)
    passed_over += found.passed_over
    if images and not found.images and kind.name != "good":
        raise ValueError(f"no masks in {truth}; remove the folder if {kind.name} has none")
    mask_of = match_masks(
        [(_key(path, kind), path) for path in images],
        [(_key(path, truth), path) for path in found.images],
    )
    if kind.name != "good":
        warn_of_missing_masks(images, mask_of, truth)
    return mask_of


def _refuse_loose(folder: Path, what: str, remedy: str, passed_over: list[PassedOver]) -> None:
    loose, others = files_in(folder)
    passed_over += others
    if loose:
        raise ValueError(
            f"{len(loose)} {what} lie loose in {folder}, first {loose[0].name}, where nothing says "
            f"whether they are normal; {remedy}"
        )


def _key(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
