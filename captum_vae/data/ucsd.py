"""UCSD Ped1 and Ped2 in their original layout, quirks included.

Mahadevan, Li, Bhalodia, Vasconcelos, "Anomaly Detection in Crowded Scenes", CVPR 2010.
"""

import re
from pathlib import Path
from typing import Literal

from typing_extensions import Unpack

from captum_vae.checks import check_choice
from captum_vae.data.frame_flags import read_frame_flags
from captum_vae.data.image_dataset import ImageFileDataset
from captum_vae.data.image_file import EMPTY, UNKNOWN, ImageFile, MaskState
from captum_vae.data.listing import (
    PassedOver,
    existing_folder,
    files_in,
    list_images,
    readable_name,
    subfolders,
)
from captum_vae.data.pairing import match_numbers, warn_of_missing_masks
from captum_vae.data.reading_options import ReadingOptions

_FOLDERS = {"ped1": "UCSDped1", "ped2": "UCSDped2"}
_RELEASE = "UCSD_Anomaly_Dataset.v1p2"


class UCSD(ImageFileDataset):
    """Frames of UCSD Ped1 or Ped2; the group of a frame is its clip.

    Training frames are normal, with an all-False mask. Masks of test frames are matched by frame
    number, whether they are called ``001.png`` or ``frame001.bmp``. Ped1 has masks for 10 of its
    36 test clips; frames of the others have an unknown mask (None), which is not "normal". The
    label is the frame flag in ``Test/*.m``, whose n-th clip is ``Test<n>``; without that file, or
    for a clip beyond those it flags, it is whether the mask has an anomalous pixel, and None
    without either.

    In the original Ped1, ``Test017/142.tif`` does not decode: pass on_error="skip".

    Args:
        root: The folder that holds ``UCSD_Anomaly_Dataset.v1p2``, or that folder, or the subset's.
        subset: "ped1" or "ped2".
        split: "train" or "test".
        **options: How images and masks are read, see
            :class:`~captum_vae.data.ReadingOptions`.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: A split has no frames, frames lie outside the clips, two frames of a clip have
            one number, a mask has no frame or another size, or frame flags cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        subset: Literal["ped1", "ped2"] = "ped2",
        split: Literal["train", "test"] = "train",
        **options: Unpack[ReadingOptions],
    ) -> None:
        """List the split's clips, pair the masks and read the frame flags."""
        check_choice("subset", subset, tuple(_FOLDERS))
        check_choice("split", split, ("train", "test"))
        self.root = _subset_folder(root, _FOLDERS[subset])
        folder = existing_folder(
            self.root / split.capitalize(), "split", f"the {split} clips of {_FOLDERS[subset]}"
        )
        loose, passed_over = files_in(folder)
        if loose:
            raise ValueError(
                f"{len(loose)} frames lie loose in {folder}, first {loose[0].name}; wanted them in "
                "the folders of their clips"
            )
        passed_over = [entry for entry in passed_over if entry.path.suffix != ".m"]
        if split == "train":
            files = _train_files(folder, passed_over)
        else:
            files = _test_files(folder, passed_over)
        if not files:
            raise ValueError(f"no frames in the clips of {folder}")
        super().__init__(files, passed_over=passed_over, **options)


def frame_number(path: Path) -> int:
    """The last number in a frame's or mask's name: 7 for ``007.tif`` and ``frame007.bmp``.

    Raises:
        ValueError: The name has no number.
    """
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise ValueError(f"{path} has no frame number in its name; wanted one like 001.tif")
    return int(numbers[-1][-18:])


def _subset_folder(root: str | Path, name: str) -> Path:
    above = existing_folder(root, "root", f"the folder that holds {_RELEASE} or {name}")
    for folder in (above / _RELEASE / name, above / name, above):
        if folder.name == name and folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"root: no {name} in {above} or {above / _RELEASE}; unpack the UCSD release there"
    )


def _train_files(folder: Path, passed_over: list[PassedOver]) -> list[ImageFile]:
    return [
        _frame(path, folder, clip, 0, EMPTY)
        for clip in subfolders(folder)
        for path in _frames(clip, passed_over)
    ]


def _test_files(folder: Path, passed_over: list[PassedOver]) -> list[ImageFile]:
    clips = [path for path in subfolders(folder) if not path.name.endswith("_gt")]
    names = {clip.name for clip in clips}
    for truth in subfolders(folder):
        if truth.name.endswith("_gt") and truth.name.removesuffix("_gt") not in names:
            raise ValueError(f"the masks in {truth} have no clip {truth.name.removesuffix('_gt')}")
    flags = _flags_by_number(folder)
    files = []
    for clip in clips:
        frames = _frames(clip, passed_over)
        truth = clip.with_name(clip.name + "_gt")
        masks = _frames(truth, passed_over) if truth.is_dir() else []
        if truth.is_dir() and not masks:
            raise ValueError(f"no masks in {truth}; remove the folder if {clip.name} has none")
        mask_of = match_numbers(_numbered(frames), _numbered(masks))
        warn_of_missing_masks(frames, mask_of, truth)
        anomalous = flags.get(frame_number(clip)) if flags else None
        for path in frames:
            label = None if anomalous is None else int(frame_number(path) in anomalous)
            files.append(_frame(path, folder, clip, label, mask_of.get(path, UNKNOWN)))
    return files


def _frame(
    path: Path, folder: Path, clip: Path, label: int | None, mask: tuple[Path, ...] | MaskState
) -> ImageFile:
    name = readable_name(path.relative_to(folder.parent))
    return ImageFile(path, name, readable_name(Path(clip.name)), label, mask)


def _frames(clip: Path, passed_over: list[PassedOver]) -> list[Path]:
    found = list_images(clip)
    passed_over += found.passed_over
    frames = sorted(found.images, key=frame_number)
    match_numbers(_numbered(frames), ())
    return frames


def _numbered(paths: list[Path]) -> list[tuple[int, Path]]:
    return [(frame_number(path), path) for path in paths]


def _flags_by_number(folder: Path) -> dict[int, frozenset[int]]:
    """The anomalous frames by clip number, empty without a script."""
    scripts = [path for path in sorted(folder.glob("*.m")) if not path.name.startswith(".")]
    if len(scripts) > 1:
        names = ", ".join(path.name for path in scripts)
        raise ValueError(f"{folder} has several files of frame flags: {names}; keep one")
    if not scripts:
        return {}
    return dict(enumerate(read_frame_flags(scripts[0]), start=1))
