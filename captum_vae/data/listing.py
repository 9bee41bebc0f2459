"""Finding image files in folders: what is read, and what is passed over and why."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from captum_vae.files import reading

IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .tif .tiff .webp .gif .ppm .pgm .pbm .pnm .jp2 .tga "
    ".avif".split()
)


class PassedOver(NamedTuple):
    """A file or folder that a reader found and did not read.

    Attributes:
        path: The file or folder.
        reason: Why it was passed over, in a few words that serve for all of its kind.
    """

    path: Path
    reason: str


@dataclass
class Listing:
    """The images of a folder.

    Attributes:
        images: The image files, in natural order (2 before 10).
        passed_over: Everything else that lies there.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: list[PassedOver] = field(default_factory=list)


def list_images(folder: Path, *, skip: Path | None = None) -> Listing:
    """Find the images in a folder and its subfolders, links to folders included.

    A folder that several links lead to is read once, so that a loop of links ends. Passed over
    are hidden files and folders (``.DS_Store``, ``._001.tif``), files whose ending is that of no
    image format, links to nothing, and folders without any file.

    Args:
        folder: The folder to search.
        skip: A folder inside it to leave out, because it is read for another purpose.

    Raises:
        PermissionError: A folder may not be read.
    """
    found = Listing()
    left_out = set() if skip is None else {_identity(skip)}
    _search(folder, found, left_out)
    found.images = natural_sort(found.images)
    return found


def files_in(folder: Path) -> tuple[list[Path], list[PassedOver]]:
    """The images that lie directly in a folder, in natural order, and what else lies there.

    Folders are left aside, hidden ones excepted, which are passed over.
    """
    found = Listing()
    for entry in _entries(folder):
        if not entry.is_folder:
            _sort_in(entry, found)
    return natural_sort(found.images), found.passed_over


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder in natural order, links included, hidden ones passed over."""
    return natural_sort(entry.path for entry in _entries(folder) if entry.is_folder)


def natural_sort(paths: Iterable[Path]) -> list[Path]:
    """Sort paths so that numbers in names count as numbers."""
    named = [(path.as_posix(), path) for path in paths]
    if not named:
        return []
    # The folders that all of them lie in decide nothing, and would be taken apart for each.
    shared = os.path.commonprefix([min(named)[0], max(named)[0]]).rfind("/") + 1
    return [path for _, path in sorted(named, key=lambda it: (_natural_key(it[0][shared:]), it[0]))]


def as_path(argument: str, value: Any) -> Path:
    """A path that a user gave, with ``~`` for the home folder.

    Raises:
        TypeError: It is neither text nor a path; the message names the argument.
        ValueError: It holds a null byte, which no file name can.
    """
    if not isinstance(value, str | os.PathLike) or isinstance(os.fspath(value), bytes):
        raise TypeError(f"{argument} is {value!r}; wanted a path, as text or pathlib.Path")
    if "\0" in os.fspath(value):
        raise ValueError(f"{argument} is {value!r}, with a null byte, which no path can hold")
    return Path(value).expanduser()


def existing_folder(path: Any, argument: str, wanted: str) -> Path:
    """``path`` as a folder that is there.

    Args:
        path: What was given for the argument.
        argument: Name of the argument.
        wanted: What the folder should hold, for the message.

    Raises:
        FileNotFoundError: There is no folder of that name; the message says what lies there.
        TypeError: It is no path.
    """
    folder = as_path(argument, path)
    # os.path answers False where pathlib raises, such as at a name that is too long.
    if not os.path.isdir(folder):
        kind = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise FileNotFoundError(f"{argument}: {folder} {kind}; wanted {wanted}")
    return folder


def readable_name(path: Path) -> str:
    """A path as text that can be printed and stored, also where its bytes are not UTF-8."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def counted_reasons(passed_over: Sequence[PassedOver]) -> str:
    """Say how many files were passed over for each reason, with an example of each."""
    counts = Counter(entry.reason for entry in passed_over)
    example = {entry.reason: readable_name(Path(entry.path.name)) for entry in passed_over[::-1]}
    return ", ".join(f"{count} {reason} ({example[reason]})" for reason, count in counts.items())


class _Entry(NamedTuple):
    """What lies in a folder, told by the folder itself but for links.

    What is hidden is neither a folder to search nor a file to read.
    """

    path: Path
    is_hidden: bool
    is_link: bool
    is_folder: bool
    is_file: bool


def _search(folder: Path, found: Listing, visited: set[tuple[int, int]]) -> None:
    visited.add(_identity(folder))
    # Real folders before links, so that a linked folder that also lies here keeps its own place.
    entries = sorted(_entries(folder), key=lambda entry: (entry.is_link, entry.path.name))
    if not entries:
        found.passed_over.append(PassedOver(folder, "empty folder"))
    for entry in entries:
        if not entry.is_folder:
            _sort_in(entry, found)
        elif _identity(entry.path) not in visited:
            _search(entry.path, found, visited)
        elif entry.is_link:
            found.passed_over.append(PassedOver(entry.path, "link to a folder read elsewhere"))


def _sort_in(entry: _Entry, found: Listing) -> None:
    """Put a file where it belongs."""
    path = entry.path
    if entry.is_hidden:
        found.passed_over.append(PassedOver(path, "hidden"))
    elif entry.is_link and not path.exists():
        found.passed_over.append(PassedOver(path, "link to nothing"))
    elif path.suffix.lower() not in IMAGE_SUFFIXES or not entry.is_file:
        found.passed_over.append(PassedOver(path, "no image by its ending"))
    else:
        found.images.append(path)


def _entries(folder: Path) -> list[_Entry]:
    with reading(folder, "a folder that may be listed"), os.scandir(folder) as entries:
        found = list(entries)
    return [_entry(folder / entry.name, entry) for entry in found]


def _entry(path: Path, found: os.DirEntry[str]) -> _Entry:
    hidden, link = path.name.startswith("."), found.is_symlink()
    if hidden:
        return _Entry(path, hidden, link, False, False)
    # Of links pathlib answers False where os.DirEntry raises, such as at a loop of them.
    asked: Path | os.DirEntry[str] = path if link else found
    return _Entry(path, hidden, link, asked.is_dir(), asked.is_file())


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _natural_key(text: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() and len(part) < 1000 else (1, 0, part.lower())
        for part in re.split(r"(\d+)", text)
        if part
    ]
