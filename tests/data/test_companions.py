"""Folders such as gt, xyz and masks among images: what is in them says what they are."""

from pathlib import Path

import numpy as np
import pytest

from captum_vae.data import ImageFolder, MVTec
from captum_vae.data.arrays import read_images
from captum_vae.data.sources import ImageSources
from tests.data.conftest import WriteImage

MASK = np.zeros((8, 10), dtype=np.uint8)
MASK[2:4, 3:6] = 255


@pytest.fixture
def category(tmp_path: Path, write_image: WriteImage) -> Path:
    """A category as MVTec 3D-AD has it."""
    root = tmp_path / "bagel"
    for kind in ("train/good", "test/good", "test/crack"):
        for name in ("000", "001"):
            write_image(root / kind / "rgb" / f"{name}.png")
            write_image(root / kind / "gt" / f"{name}.png", MASK * (kind == "test/crack"))
            write_image(root / kind / "xyz" / f"{name}.tiff", np.full((8, 10), 7.5, np.float32))
    return root


def test_coordinates_are_passed_over_and_masks_beside_images_are_theirs(category: Path) -> None:
    train = MVTec(category)
    assert train.names == ["train/good/rgb/000.png", "train/good/rgb/001.png"]
    assert "named as an image beside" in train.summary
    test = MVTec(category, split="test")
    assert [name.rpartition("/")[0] for name in test.names] == ["test/crack/rgb"] * 2 + [
        "test/good/rgb"
    ] * 2
    masks = [sample.mask for sample in test]
    assert [mask is not None and mask.numpy().tolist() for mask in masks[:2]] == [
        (MASK > 0).tolist()
    ] * 2
    assert not any(mask is None or mask.any() for mask in masks[2:])


def test_other_readers_pass_them_over_too(category: Path) -> None:
    good = category / "train" / "good"
    expected = ["rgb/000.png", "rgb/001.png"]
    assert list(ImageSources(good).names) == expected
    assert [sample.name for sample in read_images(good)] == expected
    assert ImageFolder(good).names == [f"good/{name}" for name in expected]


@pytest.mark.parametrize("folder", ["masks", "gt", "xyz", "label", "shop/mask"])
def test_images_in_a_folder_of_such_a_name_are_images(
    tmp_path: Path, write_image: WriteImage, folder: str
) -> None:
    pixels = np.arange(80, dtype=np.uint8).reshape(8, 10)
    for name in ("a", "b"):
        write_image(tmp_path / "good" / folder / f"{name}.png", pixels)
    assert len(ImageSources(tmp_path / "good")) == len(ImageFolder(tmp_path / "good")) == 2
    write_image(tmp_path / "good" / "hats" / "c.png")
    assert len(ImageSources(tmp_path / "good")) == 3
    # Black and white ones as well, where there are no others whose masks they could be.
    write_image(tmp_path / "white" / folder / "a.png", MASK)
    assert len(ImageSources(tmp_path / "white")) == 1


def test_what_cannot_be_decided_is_refused_with_the_remedy(
    category: Path, write_image: WriteImage
) -> None:
    good = category / "train" / "good"
    write_image(good / "gt" / "007.png", MASK)
    with pytest.raises(ValueError, match="gt holds 2 files .* and 1 that do not, first 0"):
        MVTec(category)
    for name in ("000", "001"):
        (good / "gt" / f"{name}.png").unlink()
    with pytest.raises(ValueError, match="looks like a mask, .* move that folder out, or restore"):
        ImageSources(good)


def test_masks_may_bear_an_ending_and_lie_in_a_folder_of_the_images(
    tmp_path: Path, write_image: WriteImage
) -> None:
    write_image(tmp_path / "new" / "7.jpg")
    write_image(tmp_path / "new" / "masks" / "7_mask.png", MASK)
    assert list(ImageSources(tmp_path / "new").names) == ["7.jpg"]
