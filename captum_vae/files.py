"""The boundary to the file system: files written whole or not at all, errors that name the file.

Everything that the package reads is opened inside :func:`reading`, everything that it writes goes
through :func:`replacing`, or :func:`replacing_folder` where thousands of files belong together, and
a run that fills a folder holds it by :func:`holding`. What is written after long work is tried
before it by :func:`check_writable`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from captum_vae.provenance import command


class DamagedFileError(ValueError):
    """A file that is there and does not hold what was wanted.

    Attributes:
        path: The file.
        reason: What is wrong with it, in one line.
    """

    def __init__(self, path: str | Path, reason: str, wanted: str, remedy: str = "") -> None:
        """Say which file, what is wrong, what was wanted and what to do."""
        self.path = Path(path)
        self.reason = reason
        ending = f"; {remedy}" if remedy else ""
        super().__init__(f"{path} cannot be read: {reason}; wanted {wanted}{ending}")


@contextmanager
def reading(path: str | Path, wanted: str, *, remedy: str = "") -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one error that names it.

    Readers of file formats raise anything at all on junk (KeyError, struct.error, EOFError,
    zipfile's, pickle's and zlib's errors); a person needs the file, the reason and the remedy.

    Args:
        path: The file that the block reads.
        wanted: What it should hold, for the message: "an IDX file of images".
        remedy: What to do about damage, for the message: "download it again".

    Raises:
        FileNotFoundError: There is no such file.
        PermissionError: It may not be read.
        DamagedFileError: It is a folder, ends too early, or holds something else.
    """
    try:
        yield
    except DamagedFileError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist; wanted {wanted}") from error
    except PermissionError as error:
        raise PermissionError(f"{path} may not be read; wanted {wanted}") from error
    except IsADirectoryError as error:
        raise DamagedFileError(path, "it is a folder", wanted, remedy) from error
    # Each reader has its own words for damage; a MemoryError comes of a header that lies.
    except Exception as error:
        raise DamagedFileError(path, _one_line(error), wanted, remedy) from error


@contextmanager
def replacing(path: str | Path, mode: Literal["wb", "w"] = "wb") -> Iterator[IO[Any]]:
    """Open a file that takes the place of ``path`` when the block ends without an error.

    The old file stays as it was until then, and for good if anything raises: a full disk or a
    killed process leaves the old content or the new, never half of it.

    Args:
        path: The file to write; its folder is created.
        mode: "wb" for bytes, "w" for text in UTF-8, with what UTF-8 cannot hold, such as parts of
            a file name in another encoding, as escapes.

    Raises:
        ValueError: The path is empty or holds a null byte.
        OSError: The disk is full or refuses; the message names ``path``.
    """
    path = _writable(path)
    beside = _beside(path, "tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        encoding, errors = (None, None) if mode == "wb" else ("utf-8", "backslashreplace")
        with open(beside, mode, encoding=encoding, errors=errors) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except BaseException as error:
        # Where the folder is no folder there is nothing to remove, and that is an error too.
        with suppress(OSError):
            beside.unlink()
        _blame(path, error)
        raise


@contextmanager
def replacing_folder(path: str | Path, *, marker: str) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of ``path`` when the block ends without error.

    The old folder stays as it was until then, and for good if anything raises. Files in it are
    not flushed one by one, so that thousands of small ones are written quickly.

    Args:
        path: The folder to replace; its parent is created.
        marker: A file that the block writes, by which a later call knows the folder for its own.

    Raises:
        ValueError: ``path`` is there and holds files, but not the marker: it is somebody else's.
        OSError: The disk is full or refuses; the message names ``path``.
    """
    path = _writable(path)
    if path.exists() and not (
        path.is_dir() and ((path / marker).is_file() or not any(path.iterdir()))
    ):
        raise ValueError(
            f"{path} is there and was not written by this command (it has no {marker}); move it "
            "away or choose another folder"
        )
    beside, old = _beside(path, "tmp"), _beside(path, "old")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            os.replace(path, old)
        os.replace(beside, path)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        _blame(path, error)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all; see :func:`replacing`."""
    with replacing(path, "w") as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all; see :func:`replacing`."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def check_writable(path: str | Path, argument: str, *, folder: bool = False) -> None:
    """Refuse a path that cannot be written, before the work whose result goes there.

    Nothing is left behind: folders that had to be made to find out are removed again.

    Args:
        path: The file that will be written, or the folder.
        argument: What the user gave it as, for messages.
        folder: Whether it is a folder that will be written to.

    Raises:
        ValueError: The path is empty, is a folder where a file is wanted or the reverse, or lies
            below a file.
        OSError: The disk refuses; the message names the path.
    """
    path = _writable(path)
    if not folder and path.is_dir():
        raise ValueError(f"{argument} is {path}, a folder; wanted a file to write")
    place = path if folder else path.parent
    made = [parent for parent in (place, *place.parents) if not parent.exists()]
    tried = place / f".{os.getpid()}.try"
    try:
        place.mkdir(parents=True, exist_ok=True)
        tried.touch()
        tried.unlink()
    except (FileExistsError, NotADirectoryError):
        wanted = "a folder to write to" if folder else "a file to write"
        below = "is a file, or lies below one" if folder else "lies below a file"
        raise ValueError(f"{argument} is {path}, which {below}; wanted {wanted}") from None
    except OSError as error:
        _blame(path, error)
        raise
    finally:
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def holding(folder: str | Path) -> Iterator[None]:
    """Keep other runs out of a folder for as long as the block runs.

    The operating system holds the lock for the process, so a crash releases it.

    Args:
        folder: The folder that this run writes to; it is created.

    Raises:
        ValueError: Another run writes there, and the message says which; or it is no folder, or
            cannot be one.
    """
    from filelock import FileLock, Timeout

    folder = _writable(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(
            f"{folder} is a file, or lies below one; wanted a folder to write to"
        ) from None
    except OSError as error:
        _blame(folder, error)
        raise
    holder = folder / ".holder.json"
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{folder} is being written by {_described(holder)}; wait for it to end, stop it, or "
            "choose another folder"
        ) from None
    except OSError as error:
        _blame(folder, error)
        raise
    try:
        write_json(
            holder, {"process": os.getpid(), "machine": socket.gethostname(), "command": command()}
        )
        yield
    finally:
        # A signal's handler may raise here, and the lock must go all the same.
        try:
            holder.unlink(missing_ok=True)
        finally:
            lock.release()


def _writable(path: str | Path) -> Path:
    """The path, unless it is one that no file or folder can have."""
    if not str(path).strip() or "\0" in str(path):
        raise ValueError(f"{str(path)!r} is no path to write to; it is empty or has a null byte")
    return Path(path)


def _beside(path: Path, ending: str) -> Path:
    """A hidden name next to a target, for what will take its place or stood there.

    One short name per target: what a killed process left behind is overwritten by the next.
    """
    name = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.parent / f".{name}.{ending}"


def _blame(path: Path, error: BaseException) -> None:
    """Raise an error of the disk again as one that names the target; leave others to the caller."""
    if isinstance(error, OSError) and error.errno is not None:
        reason = f"could not write {path} ({os.strerror(error.errno)})"
        raise OSError(error.errno, f"{reason}; what was there before is untouched") from error


def _described(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {found['process']} on {found['machine']} ({found['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"


def _one_line(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return words if words and " " in words else f"{type(error).__name__} {words}".strip()


def _sync_folder(folder: Path) -> None:
    # The new name must survive a power cut too; Windows cannot open folders and need not.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
