from pathlib import Path

import numpy as np
import pytest

from captum_vae.data import MVTec, mvtec_categories

from .conftest import WriteImage


@pytest.fixture
def root(tmp_path: Path, write_image: WriteImage) -> Path:
    """Category "nut" with images of different types and sizes."""
    nut = tmp_path / "nut"
    write_image(nut / "train" / "good" / "000.png", size=(8, 10))
    write_image(nut / "train" / "good" / "001.bmp", size=(12, 6))
    write_image(nut / "test" / "good" / "000.tif")
    for number in range(2):
        write_image(nut / "test" / "cut" / f"{number:03d}.JPG")
        mask = np.zeros((8, 10), dtype=np.uint8)
        mask[number] = 255
        write_image(nut / "ground_truth" / "cut" / f"{number:03d}_mask.png", mask)
    return tmp_path


def test_training_images_are_normal_everywhere(root: Path) -> None:
    samples = list(MVTec(root, "nut"))
    assert [sample.name for sample in samples] == ["train/good/000.png", "train/good/001.bmp"]
    assert [sample.label for sample in samples] == [0, 0]
    assert all(sample.mask is not None and not sample.mask.any() for sample in samples)
    assert [tuple(sample.mask.shape) for sample in samples] == [(8, 10), (12, 6)]


def test_test_images_get_their_masks_and_kinds(root: Path) -> None:
    data = MVTec(root, "nut", "test")
    assert data.groups == ["cut", "cut", "good"]
    assert data.labels == [1, 1, 0]
    for number in range(2):
        mask = data[number].mask
        assert mask is not None
        assert mask.nonzero()[:, 0].unique().tolist() == [number]


def test_masks_may_go_by_the_images_name(root: Path) -> None:
    truth = root / "nut" / "ground_truth" / "cut"
    (truth / "000_mask.png").rename(truth / "000.png")
    assert MVTec(root, "nut", "test")[0].mask is not None


def test_a_defect_without_a_mask_is_unknown_not_normal(root: Path) -> None:
    (root / "nut" / "ground_truth" / "cut" / "001_mask.png").unlink()
    sample = MVTec(root, "nut", "test")[1]
    assert sample.mask is None
    assert sample.label == 1


def test_root_may_be_the_category_itself(root: Path) -> None:
    assert MVTec(root / "nut", split="test").names == MVTec(root, "nut", "test").names


def test_every_category_is_found(root: Path, write_image: WriteImage) -> None:
    write_image(root / "bolt" / "train" / "good" / "a.png")
    (root / "licence").mkdir()
    assert mvtec_categories(root) == ["bolt", "nut"]


def test_an_unknown_category_lists_those_found(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="screw is no category.*: nut"):
        MVTec(root, "screw")


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="root: .*nowhere does not exist"):
        MVTec(tmp_path / "nowhere", "nut")


def test_a_category_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "nut" / "train" / "good").mkdir(parents=True)
    with pytest.raises(ValueError, match="no images in .*train"):
        MVTec(tmp_path, "nut")


def test_a_missing_test_folder_is_named(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "nut" / "train" / "good" / "a.png")
    with pytest.raises(FileNotFoundError, match="test does not exist"):
        MVTec(tmp_path, "nut", "test")


def test_a_mask_without_an_image_is_an_error(root: Path, write_image: WriteImage) -> None:
    write_image(root / "nut" / "ground_truth" / "cut" / "007_mask.png")
    with pytest.raises(ValueError, match="007_mask.png matches no image"):
        MVTec(root, "nut", "test")


def test_a_folder_of_masks_without_images_is_an_error(root: Path, write_image: WriteImage) -> None:
    write_image(root / "nut" / "ground_truth" / "hole" / "000_mask.png")
    with pytest.raises(ValueError, match="hole have no images"):
        MVTec(root, "nut", "test")


def test_two_masks_of_one_image_are_an_error(root: Path, write_image: WriteImage) -> None:
    write_image(root / "nut" / "ground_truth" / "cut" / "000.png")
    with pytest.raises(ValueError, match="both masks of .*000.JPG"):
        MVTec(root, "nut", "test")


def test_an_unknown_split_is_named(root: Path) -> None:
    with pytest.raises(ValueError, match="split='val'"):
        MVTec(root, "nut", "val")  # type: ignore[arg-type]
