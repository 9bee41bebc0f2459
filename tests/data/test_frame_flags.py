"""UCSD's frame flags, and scripts that are none."""

import time
from pathlib import Path

import pytest

from captum_vae.data import read_frame_flags


def flags(folder: Path, text: str) -> list[frozenset[int]]:
    (folder / "a.m").write_text(text)
    return read_frame_flags(folder / "a.m")


def test_several_ranges_and_single_frames_are_flags(tmp_path: Path) -> None:
    text = "V{end+1}.gt_frame = [1:3 7, 9:10];\nV{2}.gt_frame = [];\nV{3}.gt_frame = 5;"
    assert flags(tmp_path, text) == [{1, 2, 3, 7, 9, 10}, set(), {5}]


@pytest.mark.parametrize(
    "text",
    [
        "V{2}.gt_frame = [1:2];\nV{1}.gt_frame = [3:4];",
        "V{ 2 }.gt_frame=[1,2];V{ 1 }.gt_frame=[3,4]",
        "V(2).gt_frame = [1 2];\nV(1).gt_frame = [3 4];",
        "V = {};\nV{1}.gt_frame = [3:4];\nV{end+1}.gt_frame = [1:2];",
        "V{end + 1}.gt_frame = [3:4];\nV{end + 1}.gt_frame = [1:2];",
        "V{1}.gt_frame = [ 3 : 4 ]; % V{1}.gt_frame = [9];\nV{2}.gt_frame = [1 : 2];",
    ],
)
def test_flags_belong_to_the_clip_that_is_named(tmp_path: Path, text: str) -> None:
    assert flags(tmp_path, text) == [{3, 4}, {1, 2}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("V{end+1}.gt_frame = [first:last];", "'first:last'"),
        ("V{end+1}.gt_frame = [5:1];", "'5:1' run backwards"),
        ("V{end+1}.gt_frame = [0:9];", "from 0"),
        ("V{end+1}.gt_frame = [-3:9];", "'-3:9'"),
        ("V{end+1}.gt_frame = [1.5];", "'1.5'"),
        ("V{end+1}.gt_frame = [1:999999999];", "more than 1000000 frames"),
        ("V{end+1}.gt_frame = [1:900000 1:900000];", "more than 1000000 frames"),
        ("V{end+1}.gt_frame = [1:99999999999999999999];", "99999999999999999999"),
        ("V{1}.gt_frame = [1];\nV{1}.gt_frame = [2];", "clip 1 twice"),
        ("V{1}.gt_frame = [1];\nV{3}.gt_frame = [2];", r"clips \[1, 3\] and leaves out"),
        ("V{0}.gt_frame = [1];", "leaves out"),
        ("V{999999999}.gt_frame = [1];", "leaves out"),
        ("", "no frame flags"),
        ("<html>404</html>", "no frame flags"),
        ("TestVideoFile = {};", "no frame flags"),
        ("gt_frame = [" * 50_000, "cannot be read"),
        ("x" * (2**20 + 1), "1048577 bytes"),
    ],
)
def test_flags_that_cannot_be_read_are_named_at_once(
    tmp_path: Path, text: str, message: str
) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=rf"a\.m cannot be read: .*{message}|a\.m {message}"):
        flags(tmp_path, text)
    assert time.process_time() - start < 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="gone.m"):
        read_frame_flags(tmp_path / "gone.m")
