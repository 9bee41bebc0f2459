"""Images wherever they are: folders, files, patterns, lists, arrays and videos, read one by one."""

from __future__ import annotations

import bisect
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vae.checks import warn_caller, whole_number
from captum_vae.data.array_files import array_names, read_npz
from captum_vae.data.companions import set_aside
from captum_vae.data.decode import probe_image, read_image
from captum_vae.data.image_bytes import as_image_bytes, channels_last, fitted_bytes
from captum_vae.data.listing import (
    IMAGE_SUFFIXES,
    PassedOver,
    as_path,
    counted_reasons,
    list_images,
    natural_sort,
    readable_name,
)
from captum_vae.data.resize import ImageSize, height_width
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.data.video import VIDEO_SUFFIXES, VideoFile
from captum_vae.files import reading

_LIST_SUFFIXES = (".txt", ".lst")
_WANTED = (
    "a folder, an image, a pattern such as 'photos/*.png', a list of paths (.txt), an array (.npy, "
    ".npz) or a video"
)


class ReadImage(NamedTuple):
    """An image as a model takes it, and how large it was.

    Attributes:
        pixels: (C, h, w) bytes.
        size: (H, W) before any resizing.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]


@dataclass(frozen=True)
class _Many:
    """A file that holds several images: an array or a video.

    Attributes:
        path: The file.
        name: What its images are named after.
        count: How many images it holds.
        every: Every how many-th of them is taken.
    """

    path: Path
    name: str
    count: int
    every: int


class ImageSources(SampleDataset):
    """Images that a person points at, without labels, none decoded before it is asked for.

    An image's name is its path in the folder that was given, or in the last folder of a pattern
    that has no ``*``, so that it stays when more folders match; with several folders each name
    begins with its folder's. Images of an array or a video are named ``NAME/000012``. Files in a
    folder that are no images are passed over; arrays and videos in it are read.

    Args:
        sources: A path or several: folders (searched with their subfolders), image files, patterns
            with ``*``, text files with a path a line (relative to the text file), arrays in .npy or
            .npz (the array ``images``, or the only one; bytes, or numbers from 0 to 1), or videos.
        image_size: (h, w) to resize to, or one number for a square; None keeps each one's own.
        channels: 1 for grey, 3 for colour; None takes what the files have, colour if any has.
        every: Every how many-th frame of a video is read.

    Attributes:
        names: The images' names, without repeats.
        passed_over: Files that were found and are not read, with reasons.
        groups_are_clips: Whether there are frames of videos, whose group is their video.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: There are no images.
        ImportError: There is a video, and PyAV is not installed.
    """

    def __init__(
        self,
        sources: str | Path | Sequence[str | Path],
        *,
        image_size: ImageSize = None,
        channels: int | None = None,
        every: int = 1,
    ) -> None:
        """List what there is."""
        given = [sources] if isinstance(sources, str | os.PathLike) else list(sources)
        if not given:
            raise ValueError(f"images is empty; wanted {_WANTED}")
        self._size = height_width(image_size)
        self._every = whole_number("every", every, least=1)
        self.passed_over: list[PassedOver] = []
        self._files: list[Path] = []
        self._file_names: list[str] = []
        self._many: list[_Many] = []
        self._open: dict[Path, Any] = {}
        self._seen: set[Path] = set()
        for source in given:
            self._list(as_path("images", source), several=len(given) > 1)
        self._ends = np.cumsum([-(-many.count // many.every) for many in self._many]).tolist()
        if not len(self):
            others = counted_reasons(self.passed_over)
            shown = ", ".join(map(str, given[:3]))
            raise ValueError(f"no images in {shown}{f', only {others}' if others else ''}")
        self._file_names = _told_apart(self._file_names)
        self.groups_are_clips = any(
            many.path.suffix.lower() in VIDEO_SUFFIXES for many in self._many
        )
        if channels is not None:
            channels = whole_number("channels", channels, least=1)
            if channels not in (1, 3):
                raise ValueError(f"channels={channels} must be 1 or 3")
        self.channels = channels or self._own_channels()

    def __len__(self) -> int:
        """Count the images."""
        return len(self._files) + (self._ends[-1] if self._ends else 0)

    def __getitem__(self, index: int) -> Sample:
        """Read an image: (C, h, w) in [0, 1], without mask and label."""
        index = range(len(self))[index]
        image = torch.from_numpy(self.read(index).pixels.astype(np.float32)).div_(255)
        return Sample(image, None, None, self.name(index), self.group(index))

    def __getstate__(self) -> dict[str, Any]:
        """Everything but open files, which each process opens for itself."""
        return self.__dict__ | {"_open": {}}

    @property
    def names(self) -> Sequence[str]:
        """The images' names, in order."""
        return [self.name(index) for index in range(len(self))]

    @property
    def groups(self) -> list[str]:
        """The folder, array or video of every image, in order."""
        return [self.group(index) for index in range(len(self))]

    def name(self, index: int) -> str:
        """The name of an image."""
        if index < len(self._files):
            return self._file_names[index]
        many, number = self._place(index)
        return f"{many.name}/{number:06d}"

    def group(self, index: int) -> str:
        """The folder, array or video of an image."""
        if index < len(self._files):
            parent = Path(self._file_names[index]).parent.as_posix()
            return "" if parent == "." else parent
        return self._place(index)[0].name

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self._files[index] if index < len(self._files) else self._place(index)[0].path

    def read(self, index: int) -> ReadImage:
        """Decode an image.

        Raises:
            UnreadableImageError: It does not decode; the message names the file.
            DamagedFileError: The array or video that holds it is damaged.
        """
        if index < len(self._files):
            path = self._files[index]
            header = probe_image(path)
            decoded = read_image(path, self.channels, self._size)
            return ReadImage(decoded.pixels, (header.height, header.width))
        many, number = self._place(index)
        source = self._opened(many.path)
        with reading(many.path, "an array of images, or a video"):
            image = source.read(number) if isinstance(source, VideoFile) else source[number]
            return _as_bytes(image, self.channels, self._size)

    def describe(self) -> dict[str, str]:
        """How many images there are, and what was passed over."""
        said = f"{len(self)} images"
        if self.passed_over:
            said += f"; passed over {counted_reasons(self.passed_over)}"
        return {"images": said}

    def _place(self, index: int) -> tuple[_Many, int]:
        index -= len(self._files)
        which = bisect.bisect_right(self._ends, index)
        first = self._ends[which - 1] if which else 0
        many = self._many[which]
        return many, (index - first) * many.every

    def _opened(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = VideoFile(path) if _is_video(path) else _open_array(path)
        return self._open[path]

    def _list(self, source: Path, *, several: bool) -> None:
        if source.is_dir():
            found = set_aside(source, list_images(source))
            self.passed_over += [
                entry for entry in found.passed_over if not _holds_several(entry.path)
            ]
            prefix = source if not several else source.parent
            inside = [entry.path for entry in found.passed_over if _holds_several(entry.path)]
            for path in found.images + natural_sort(inside):
                self._add(path, readable_name(path.relative_to(prefix)))
        elif any(sign in str(source) for sign in "*?[") and not source.exists():
            paths = [Path(path) for path in glob.glob(str(source), recursive=True)]
            if not paths:
                raise FileNotFoundError(f"images: nothing matches the pattern {str(source)!r}")
            paths = natural_sort(path for path in paths if path.is_file())
            self._add_all(paths, _fixed_beginning(source))
        elif source.suffix.lower() in _LIST_SUFFIXES and source.is_file():
            paths = list(_listed(source))
            self._add_all(paths, paths and os.path.commonpath([path.parent for path in paths]))
        elif source.is_file():
            if source.suffix.lower() not in IMAGE_SUFFIXES and not _holds_several(source):
                raise ValueError(f"images: {source} is no image by its ending; wanted {_WANTED}")
            self._add(source, readable_name(Path(source.name)))
        else:
            raise FileNotFoundError(f"images: {source} does not exist; wanted {_WANTED}")

    def _add_all(self, paths: Sequence[Path], root: Any) -> None:
        for path in paths:
            if path.suffix.lower() in IMAGE_SUFFIXES or _holds_several(path):
                self._add(path, readable_name(path.relative_to(root)))
            else:
                self.passed_over.append(PassedOver(path, "no image by its ending"))

    def _add(self, path: Path, name: str) -> None:
        """Take a file, unless it was taken already."""
        known = Path(os.path.abspath(path))
        if known in self._seen:
            return
        self._seen.add(known)
        if not _holds_several(path):
            self._files.append(path)
            self._file_names.append(name)
            return
        opened = VideoFile(path) if _is_video(path) else _open_array(path)
        count = opened.frames if isinstance(opened, VideoFile) else len(opened)
        if not count:
            self.passed_over.append(PassedOver(path, "without any image"))
            return
        self._open[path] = opened
        self._many.append(_Many(path, name, count, self._every if _is_video(path) else 1))

    def _own_channels(self) -> int:
        for path in self._files:
            if probe_image(path).channels == 3:
                return 3
        for many in self._many:
            opened = self._opened(many.path)
            if isinstance(opened, VideoFile) or channels_last(opened[0]).shape[2] == 3:
                return 3
        return 1


def _fixed_beginning(pattern: Path) -> Path:
    """The folder that a pattern names before its first ``*``."""
    parts = pattern.parts
    first = next(place for place, part in enumerate(parts) if any(sign in part for sign in "*?["))
    return Path(*parts[:first])


def _told_apart(names: list[str]) -> list[str]:
    """The names, those that occur again with a number."""
    seen: dict[str, int] = {}
    told = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        path = Path(name)
        again = path.with_name(f"{path.stem}~{seen[name]}{path.suffix}").as_posix()
        told.append(name if seen[name] == 1 else again)
    if len(seen) < len(names):
        warn_caller(
            f"{len(names) - len(seen)} images have the name of another one; they are named with a "
            "number, as a~2.png"
        )
    return told


def _listed(source: Path) -> Iterator[Path]:
    """The paths in a text file, a line each; relative ones start at the text file."""
    with reading(source, "a text file with a path a line"):
        lines = source.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        path = Path(os.path.abspath(source.parent / Path(words).expanduser()))
        if not path.is_file():
            raise FileNotFoundError(f"images: line {number} of {source} names {path}, no file")
        yield path


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES


def _holds_several(path: Path) -> bool:
    known = _is_video(path) or path.suffix.lower() in (".npy", ".npz")
    return known and not path.name.startswith(".") and path.is_file()


def _open_array(path: Path) -> NDArray[Any]:
    """(N, ...) images of an array file; .npy stays on disk until an image is asked for."""
    wanted = "an array (N, h, w), (N, h, w, C) or (N, C, h, w) of bytes or of numbers from 0 to 1"
    with reading(path, wanted):
        if path.suffix.lower() == ".npz":
            names = array_names(path)
            if "images" not in names and len(names) != 1:
                raise ValueError(f"it holds {', '.join(names)}, none of them named images")
            array = read_npz(path, ["images" if "images" in names else names[0]])[0]
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.ndim not in (3, 4) or 0 in array.shape[1:] or array.dtype.kind not in "buf":
            raise ValueError(f"it holds {array.dtype} of shape {array.shape}")
        return np.asanyarray(array)


def _as_bytes(image: NDArray[Any], channels: int, size: tuple[int, int] | None) -> ReadImage:
    pixels = as_image_bytes(image)
    return ReadImage(fitted_bytes(pixels, channels, size), (pixels.shape[0], pixels.shape[1]))
