"""UCSD Ped1 and Ped2 in their original layout, quirks included.

Mahadevan, Li, Bhalodia, Vasconcelos, "Anomaly Detection in Crowded Scenes", CVPR 2010.
"""

import re
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

_FOLDERS = {"ped1": "UCSDped1", "ped2": "UCSDped2"}
_RELEASE = "UCSD_Anomaly_Dataset.v1p2"


class UCSD(ImageFileDataset):
    """Frames of UCSD Ped1 or Ped2; the group of a frame is its clip.

    Training frames are normal, with an all-False mask. Masks of test frames are matched by frame
    number, whether they are called ``001.png`` or ``frame001.bmp``. Ped1 has masks for 10 of its
    36 test clips; frames of the others have an unknown mask (None), which is not "normal". The
    label is the frame flag in ``Test/*.m``; without that file, it is whether the mask has an
    anomalous pixel, and None without either.

    In the original Ped1, ``Test017/142.tif`` does not decode: pass on_error="skip".

    Args:
        root: the folder that holds ``UCSD_Anomaly_Dataset.v1p2``, or that folder, or the subset's.
        subset: "ped1" or "ped2".
        split: "train" or "test".
        image_size: see :class:`ImageFileDataset`, as the options below.
        image_channels: 1, 3 or "auto".
        mask_size: None keeps the masks untouched.
        on_error: "raise" or "skip" what does not decode.
        cache: "memory", "disk" or "none".
        cache_dir: folder of the disk cache.

    Raises:
        FileNotFoundError: for a missing folder.
        ValueError: for a split without frames, a mask without a frame or of another size, two
            masks of one frame, or frame flags that cannot be read.
    """

    def __init__(
        self,
        root: str | Path,
        subset: Literal["ped1", "ped2"] = "ped2",
        split: Literal["train", "test"] = "train",
        *,
        image_size: ImageSize = None,
        image_channels: ImageChannels = "auto",
        mask_size: ImageSize = None,
        on_error: OnError = "raise",
        cache: CacheKind = "memory",
        cache_dir: str | Path | None = None,
    ) -> None:
        """List the split's clips, pair the masks and read the frame flags."""
        if subset not in _FOLDERS:
            raise ValueError(f"subset is {subset!r}; wanted 'ped1' or 'ped2'")
        if split not in ("train", "test"):
            raise ValueError(f"split is {split!r}; wanted 'train' or 'test'")
        self.root = _subset_folder(Path(root), _FOLDERS[subset])
        folder = existing_folder(
            self.root / split.capitalize(), "split", f"the {split} clips of {_FOLDERS[subset]}"
        )
        files = _train_files(folder) if split == "train" else _test_files(folder)
        if not files:
            raise ValueError(f"no frames in the clips of {folder}")
        super().__init__(
            files,
            image_size=image_size,
            image_channels=image_channels,
            mask_size=mask_size,
            on_error=on_error,
            cache=cache,
            cache_dir=cache_dir,
        )


def read_frame_flags(path: Path) -> list[frozenset[int]]:
    """Read the anomalous frames of each test clip, in clip order, from UCSD's ``.m`` file.

    Its lines read ``TestVideoFile{end+1}.gt_frame = [5:90, 140:200];``; frames count from 1 and
    ranges include both ends.

    Raises:
        ValueError: for an entry that is neither a number nor a range.
    """
    text = re.sub(r"%.*", "", path.read_text(encoding="latin-1"))
    bodies = re.findall(r"gt_frame\s*=\s*(?:\[([^\]]*)\]|([^;\n]*))", text)
    entries = [re.sub(r"\s*:\s*", ":", " ".join(body)).replace(",", " ") for body in bodies]
    return [
        frozenset(frame for part in entry.split() for frame in _span(part, path))
        for entry in entries
    ]


def frame_number(path: Path) -> int:
    """Return the last number in a frame's or mask's name: 7 for ``007.tif`` and ``frame007.bmp``.

    Raises:
        ValueError: for a name without a number.
    """
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise ValueError(f"{path} has no frame number in its name; wanted one like 001.tif")
    return int(numbers[-1])


def _span(part: str, path: Path) -> range:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", part)
    if match is None:
        raise ValueError(f"cannot read the frame flags {part!r} in {path}; wanted 61 or 61:180")
    first, last = match.groups()
    return range(int(first), int(last or first) + 1)


def _subset_folder(root: Path, name: str) -> Path:
    existing_folder(root, "root", f"the folder that holds {_RELEASE} or {name}")
    for folder in (root / _RELEASE / name, root / name, root):
        if folder.name == name and folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"root: no {name} in {root} or {root / _RELEASE}; unpack the UCSD release there"
    )


def _train_files(folder: Path) -> list[ImageFile]:
    return [
        ImageFile(path, path.relative_to(folder.parent).as_posix(), clip.name, 0, EMPTY)
        for clip in subfolders(folder)
        for path in sorted(image_files(clip), key=frame_number)
    ]


def _test_files(folder: Path) -> list[ImageFile]:
    clips = [path for path in subfolders(folder) if not path.name.endswith("_gt")]
    names = {clip.name for clip in clips}
    for truth in subfolders(folder):
        if truth.name.endswith("_gt") and truth.name.removesuffix("_gt") not in names:
            raise ValueError(f"the masks in {truth} have no clip {truth.name.removesuffix('_gt')}")
    flags = _flags_of_clips(folder)
    files = []
    for clip in clips:
        frames = sorted(image_files(clip), key=frame_number)
        truth = clip.with_name(clip.name + "_gt")
        masks = image_files(truth) if truth.is_dir() else []
        mask_of = match_masks(_numbered(frames), _numbered(masks))
        anomalous = flags.get(clip.name)
        for path in frames:
            label = None if anomalous is None else int(frame_number(path) in anomalous)
            name = path.relative_to(folder.parent).as_posix()
            files.append(ImageFile(path, name, clip.name, label, mask_of.get(path, UNKNOWN)))
    return files


def _numbered(paths: list[Path]) -> list[tuple[str | int, Path]]:
    return [(frame_number(path), path) for path in paths]


def _flags_of_clips(folder: Path) -> dict[str, frozenset[int]]:
    """Map clip names to anomalous frames; the n-th entry of the file belongs to ``Test<n>``."""
    scripts = [path for path in sorted(folder.glob("*.m")) if not path.name.startswith(".")]
    flags = [clip for script in scripts for clip in read_frame_flags(script)]
    return {f"Test{number:03d}": frames for number, frames in enumerate(flags, start=1)}
