from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from captum_vae.data import UCSD, UnreadableImageError

from .conftest import WriteImage


@pytest.fixture
def root(tmp_path: Path, write_image: WriteImage) -> Path:
    """Ped1 as released: two clips with masks of two naming habits, one without, junk, flags."""
    ped1 = tmp_path / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped1"
    anomalous = np.zeros((8, 10), dtype=np.uint8)
    anomalous[2:4, 5] = 255
    for clip in (1, 2, 3):
        for frame in (1, 2, 10):
            write_image(ped1 / "Test" / f"Test{clip:03d}" / f"{frame:03d}.tif")
            write_image(ped1 / "Train" / f"Train{clip:03d}" / f"{frame:03d}.tif")
    for frame in (1, 2, 10):
        mask = anomalous if frame == 2 else np.zeros_like(anomalous)
        write_image(ped1 / "Test" / "Test001_gt" / f"{frame:03d}.png", mask)
        write_image(ped1 / "Test" / "Test003_gt" / f"frame{frame:03d}.bmp", mask)
    for folder in (ped1 / "Test", ped1 / "Test" / "Test001", ped1 / "Test" / "Test001_gt"):
        (folder / ".DS_Store").write_bytes(b"junk")
        (folder / "._001.tif").write_bytes(b"junk")
    write_image(ped1 / "Test" / ".AppleDouble" / "001.tif")
    (ped1 / "Test" / "UCSDped1.m").write_text(
        "% ground truth\n"
        "TestVideoFile = {};\n"
        "TestVideoFile{end+1}.gt_frame = [2:2];\n"
        "TestVideoFile{end+1}.gt_frame = [1, 8:20];\n"
        "TestVideoFile{end+1}.gt_frame = [ 2 : 9 ]; % a cart\n"
    )
    return tmp_path


def clips_of(root: Path) -> Path:
    return root / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped1" / "Test"


def test_junk_is_passed_over_and_frames_come_in_order(root: Path) -> None:
    data = UCSD(root, "ped1", "test")
    assert data.groups == ["Test001"] * 3 + ["Test002"] * 3 + ["Test003"] * 3
    assert data.names[:3] == [
        "Test/Test001/001.tif",
        "Test/Test001/002.tif",
        "Test/Test001/010.tif",
    ]


def test_masks_are_matched_whatever_their_names(root: Path) -> None:
    data = UCSD(root, "ped1", "test")
    for first in (0, 6):
        masks = [data[first + number].mask for number in range(3)]
        assert [mask is not None and bool(mask.any()) for mask in masks] == [False, True, False]


def test_clips_without_masks_are_unknown_not_normal(root: Path) -> None:
    data = UCSD(root, "ped1", "test")
    assert [data[index].mask for index in (3, 4, 5)] == [None, None, None]
    assert data.labels[3:6] == [1, 0, 1]


def test_labels_are_the_frame_flags_of_the_clip(root: Path) -> None:
    assert UCSD(root, "ped1", "test").labels == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_flags_follow_the_clips_number_in_a_slice_of_the_release(root: Path) -> None:
    for frame in (1, 2, 10):
        (clips_of(root) / "Test002" / f"{frame:03d}.tif").unlink()
    (clips_of(root) / "Test002").rmdir()
    assert UCSD(root, "ped1", "test").labels == [0, 1, 0, 0, 1, 0]


def test_without_flags_the_mask_decides_and_no_mask_leaves_it_unknown(root: Path) -> None:
    (clips_of(root) / "UCSDped1.m").unlink()
    data = UCSD(root, "ped1", "test")
    assert data.labels == [0, 1, 0, None, None, None, 0, 1, 0]
    assert [sample.label for sample in data] == data.labels


def test_training_frames_are_normal_everywhere(root: Path) -> None:
    data = UCSD(root, "ped1")
    assert len(data) == 9
    assert set(data.labels) == {0}
    assert all(sample.mask is not None and not sample.mask.any() for sample in data)


@pytest.mark.parametrize("below", ["", "UCSD_Anomaly_Dataset.v1p2", "*/UCSDped1"])
def test_root_may_be_any_of_the_three_levels(root: Path, below: str) -> None:
    folder = next(root.glob(below)) if "*" in below else root / below
    assert len(UCSD(folder, "ped1")) == 9


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_an_undecodable_frame_is_named(root: Path, truncate: Callable[[Path], Path]) -> None:
    truncate(clips_of(root) / "Test002" / "002.tif")
    with pytest.raises(UnreadableImageError, match=r"Test002.002\.tif"):
        list(UCSD(root, "ped1", "test"))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_an_undecodable_frame_can_be_skipped(root: Path, truncate: Callable[[Path], Path]) -> None:
    truncate(clips_of(root) / "Test002" / "002.tif")
    with pytest.warns(UserWarning, match=r"skipped 1 of 9 images.*002\.tif"):
        data = UCSD(root, "ped1", "test", on_error="skip")
    assert len(list(data)) == 8
    assert data.labels == [0, 1, 0, 1, 1, 0, 1, 0]


def test_a_mask_without_a_frame_is_an_error(root: Path) -> None:
    (clips_of(root) / "Test003" / "002.tif").unlink()
    with pytest.raises(ValueError, match=r"frame002\.bmp matches no image"):
        UCSD(root, "ped1", "test")


def test_masks_without_a_clip_are_an_error(root: Path) -> None:
    (clips_of(root) / "Test001").rename(clips_of(root) / ".hidden")
    with pytest.raises(ValueError, match="Test001_gt have no clip Test001"):
        UCSD(root, "ped1", "test")


def test_a_missing_subset_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no UCSDped2 in"):
        UCSD(root, "ped2")


def test_a_split_without_frames_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "UCSDped2" / "Train" / "Train001").mkdir(parents=True)
    with pytest.raises(ValueError, match="no frames in the clips"):
        UCSD(tmp_path, "ped2")


def test_frames_where_no_clip_is_told_are_refused(root: Path, write_image: WriteImage) -> None:
    write_image(clips_of(root) / "004.tif")
    with pytest.raises(ValueError, match=r"1 frames lie loose in .*Test, first 004\.tif"):
        UCSD(root, "ped1", "test")


def test_two_frames_of_one_number_are_refused(root: Path, write_image: WriteImage) -> None:
    write_image(clips_of(root) / "Test001" / "frame001.tif")
    with pytest.raises(ValueError, match="both have the number 1"):
        UCSD(root, "ped1", "test")


def test_frames_one_level_down_and_linked_clips_are_read(
    root: Path, write_image: WriteImage, tmp_path: Path
) -> None:
    write_image(tmp_path / "elsewhere" / "frames" / "001.tif")
    (clips_of(root) / "Test007").symlink_to(tmp_path / "elsewhere")
    data = UCSD(root, "ped1", "test")
    assert data.names[-1] == "Test/Test007/frames/001.tif"
    assert data.labels[-1] is None  # the file flags three clips


def test_an_empty_folder_of_masks_is_an_error(root: Path) -> None:
    (clips_of(root) / "Test002_gt").mkdir()
    with pytest.raises(ValueError, match="no masks in .*Test002_gt"):
        UCSD(root, "ped1", "test")


def test_masks_of_a_part_of_a_clip_are_warned_of(root: Path) -> None:
    (clips_of(root) / "Test003_gt" / "frame010.bmp").unlink()
    with pytest.warns(UserWarning, match="1 of 3 images have no mask in .*Test003_gt"):
        data = UCSD(root, "ped1", "test")
    assert data[8].mask is None


def test_two_files_of_flags_are_refused(root: Path) -> None:
    script = clips_of(root) / "UCSDped1.m"
    (clips_of(root) / "copy.m").write_bytes(script.read_bytes())
    with pytest.raises(ValueError, match="several files of frame flags: UCSDped1.m, copy.m|copy.m"):
        UCSD(root, "ped1", "test")
