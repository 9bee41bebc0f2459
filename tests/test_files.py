"""Files are written whole or not at all, and errors name them."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from captum_vae.files import (
    DamagedFileError,
    check_writable,
    holding,
    reading,
    replacing,
    write_json,
    write_text,
)


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["maps.npz"]


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(OSError, match=r"report\.json.*No space left.*untouched") as raised:
        with replacing(path) as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert raised.value.errno == errno.ENOSPC
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 120, "$x$ %s {0}.json"])
def test_any_name_that_the_file_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / "new" / name, "text")
    assert (tmp_path / "new" / name).read_text() == "text"


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        EOFError(),
        IndexError("list index out of range"),
        zipfile.BadZipFile("File is not a zip file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        MemoryError(),
        OverflowError("too large"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_any_error_of_a_reader_names_file_wish_and_remedy(error: Exception) -> None:
    with pytest.raises(DamagedFileError, match=r"data\.npz cannot be read: \S") as raised:
        with reading("data.npz", "an array", remedy="download it again"):
            raise error
    assert "wanted an array; download it again" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent does not exist; wanted an array"):
        with reading(tmp_path / "absent", "an array"):
            np.load(tmp_path / "absent")
    with pytest.raises(DamagedFileError, match="it is a folder"):
        with reading(tmp_path, "an array"):
            open(tmp_path, "rb")


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def _hold(folder: Path) -> None:
    with holding(folder):
        time.sleep(60)


def test_two_runs_in_one_folder_are_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 20
    while not (tmp_path / ".holder.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        with pytest.raises(ValueError, match=f"process {process.pid} on"), holding(tmp_path):
            pass
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with holding(tmp_path):
        pass


def test_a_path_is_tried_before_the_work_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("thesis")
    check_writable(tmp_path / "new" / "deep" / "report.json", "report_json")
    check_writable(tmp_path / "new" / "maps", "out", folder=True)
    check_writable(tmp_path / "file", "report_json")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "thesis"


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [
        (".", False, "out is .*, a folder; wanted a file to write"),
        ("file", True, "which is a file, or lies below one; wanted a folder"),
        ("file/maps", True, "which is a file, or lies below one; wanted a folder"),
        ("file/maps.npz", False, "which lies below a file; wanted a file"),
        ("a\0b", False, "is no path to write to"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused(
    tmp_path: Path, name: str, folder: bool, words: str
) -> None:
    (tmp_path / "file").write_text("thesis")
    with pytest.raises(ValueError, match=words):
        check_writable(tmp_path / name, "out", folder=folder)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that root cannot write")
def test_a_disk_that_refuses_is_named() -> None:
    with pytest.raises(OSError, match="could not write /proc/maps"):
        check_writable("/proc/maps", "out", folder=True)
    with pytest.raises(OSError, match="could not write /proc/maps"), holding("/proc/maps"):
        raise AssertionError("held")
