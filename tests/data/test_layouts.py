from pathlib import Path

import pytest
import torch

from captum_vae.data import (
    UCSD,
    MovingPedestrians,
    MVTec,
    OneClassDigits,
    SyntheticDefects,
)
from captum_vae.data.sample import Sample

from .layouts import write_mvtec, write_ucsd


def few(dataset: object, count: int) -> list[Sample]:
    return [dataset[index] for index in range(count)]  # type: ignore[index]


def test_a_written_mvtec_category_reads_back(tmp_path: Path) -> None:
    digits = OneClassDigits()
    test = few(SyntheticDefects(digits, ("blob", "scratch"), defect_rate=0.7), 9)
    folder = write_mvtec(tmp_path, "digits", few(digits, 5), test)
    assert len(MVTec(tmp_path, "digits")) == 5
    back = list(MVTec(folder, split="test"))
    assert len(back) == 9
    for kind in ("blob", "scratch", "good"):
        written = [sample for sample in test if sample.group == kind]
        read = [sample for sample in back if sample.group == kind]
        for a, b in zip(written, read, strict=True):
            torch.testing.assert_close(a.image, b.image, atol=0.5 / 255 + 1e-6, rtol=0)
            assert a.mask is not None
            assert b.mask is not None
            assert torch.equal(a.mask, b.mask)
            assert a.label == b.label


def test_a_written_ucsd_subset_reads_back(tmp_path: Path) -> None:
    train = MovingPedestrians(clips=2, frames=4)
    test = MovingPedestrians("test", clips=2, frames=12)
    write_ucsd(tmp_path, "ped2", train, test)
    assert UCSD(tmp_path, "ped2").groups == ["Train001"] * 4 + ["Train002"] * 4
    back = UCSD(tmp_path, "ped2", "test")
    assert back.labels == test.labels
    for a, b in zip(test, back, strict=True):
        assert a.mask is not None
        assert b.mask is not None
        assert torch.equal(a.mask, b.mask)
        assert a.group == b.group


def test_a_clip_without_masks_gets_no_folder_of_masks(tmp_path: Path) -> None:
    frames = [sample._replace(mask=None) for sample in MovingPedestrians("test", clips=1, frames=6)]
    folder = write_ucsd(tmp_path, "ped1", [], frames)
    assert not (folder / "Test" / "Test001_gt").exists()
    assert [sample.mask for sample in UCSD(tmp_path, "ped1", "test")] == [None] * 6


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    digits = few(OneClassDigits(), 1)
    write_mvtec(tmp_path, "digits", digits, [])
    with pytest.raises(FileExistsError):
        write_mvtec(tmp_path, "digits", digits, [])


def test_training_on_anomalies_is_refused(tmp_path: Path) -> None:
    anomalous = few(SyntheticDefects(OneClassDigits()), 1)
    with pytest.raises(ValueError, match="is anomalous"):
        write_mvtec(tmp_path, "digits", anomalous, [])
    with pytest.raises(ValueError, match="is anomalous"):
        write_ucsd(tmp_path, "ped1", anomalous, [])
