from pathlib import Path

import numpy as np
import pytest

from captum_vae.data import ImageFolder

from .conftest import WriteImage


@pytest.fixture
def root(tmp_path: Path, write_image: WriteImage) -> Path:
    write_image(tmp_path / "ok" / "2.png")
    write_image(tmp_path / "ok" / "deep" / "10.bmp")
    write_image(tmp_path / "bad" / "a" / "7.jpg")
    write_image(tmp_path / "bad" / "b" / "7.jpg")
    mask = np.zeros((8, 10), dtype=np.uint8)
    mask[3, 4] = 1
    write_image(tmp_path / "truth" / "a" / "7_mask.png", mask)
    return tmp_path


def test_normal_images_alone_make_a_training_set(root: Path) -> None:
    data = ImageFolder(root / "ok")
    assert data.names == ["ok/2.png", "ok/deep/10.bmp"]
    assert data.labels == [0, 0]
    assert all(sample.mask is not None and not sample.mask.any() for sample in data)


def test_the_working_folder_is_a_group_like_any_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / "ok")
    data = ImageFolder(".")
    assert data.names == ["2.png", "deep/10.bmp"]
    assert data.groups == [".", "deep"]


def test_abnormal_images_get_the_masks_of_their_subfolder(root: Path) -> None:
    data = ImageFolder(root / "ok", root / "bad", root / "truth")
    assert data.labels == [0, 0, 1, 1]
    masked, unmasked = data[2], data[3]
    assert (masked.name, unmasked.name) == ("bad/a/7.jpg", "bad/b/7.jpg")
    assert masked.mask is not None
    assert masked.mask.nonzero().tolist() == [[3, 4]]
    assert unmasked.mask is None


def test_masks_inside_the_abnormal_folder_are_not_images(
    root: Path, write_image: WriteImage
) -> None:
    write_image(root / "bad" / "masks" / "b" / "7.png", np.ones((8, 10), dtype=np.uint8))
    data = ImageFolder(None, root / "bad", root / "bad" / "masks")
    assert data.names == ["bad/a/7.jpg", "bad/b/7.jpg"]
    assert [sample.mask is None for sample in data] == [True, False]


def test_a_mask_without_an_image_is_an_error(root: Path, write_image: WriteImage) -> None:
    write_image(root / "truth" / "9.png")
    with pytest.raises(ValueError, match="9.png matches no image"):
        ImageFolder(root / "ok", root / "bad", root / "truth")


def test_a_missing_folder_is_named_with_its_argument(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="abnormal: .*nowhere does not exist"):
        ImageFolder(root / "ok", root / "nowhere")


def test_a_file_in_place_of_a_folder_is_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="2.png is not a folder"):
        ImageFolder(root / "ok" / "2.png")


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images in"):
        ImageFolder(tmp_path)


def test_masks_need_their_images(root: Path) -> None:
    with pytest.raises(ValueError, match="without abnormal"):
        ImageFolder(root / "ok", masks=root / "truth")


def test_no_folder_at_all_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one folder"):
        ImageFolder(None)


def test_several_masks_of_one_image_are_joined(root: Path, write_image: WriteImage) -> None:
    for number in (1, 2):
        mask = np.zeros((8, 10), dtype=np.uint8)
        mask[number] = 255
        write_image(root / "truth" / "b" / "7" / f"{number}.png", mask)
    sample = ImageFolder(None, root / "bad", root / "truth")[1]
    assert sample.mask is not None
    assert sample.mask.nonzero()[:, 0].unique().tolist() == [1, 2]


@pytest.mark.parametrize(
    ("normal", "abnormal", "masks", "message"),
    [
        (".", "bad", None, "abnormal .* lies in normal"),
        ("bad/a", "bad", None, "normal .* lies in abnormal"),
        ("bad", "bad", None, "lies in"),
        (".", "bad", "truth", "lies in normal"),
        ("ok", "bad", "bad", "lies in"),
        ("ok", "bad", "ok/deep", "masks .* lies in normal"),
    ],
)
def test_folders_that_would_be_read_twice_are_refused(
    root: Path, normal: str, abnormal: str, masks: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolder(root / normal, root / abnormal, None if masks is None else root / masks)


def test_a_folder_of_masks_that_matches_nothing_is_an_error(
    root: Path, write_image: WriteImage
) -> None:
    write_image(root / "other" / "x.png")
    with pytest.raises(ValueError, match="x.png matches no image"):
        ImageFolder(root / "ok", root / "bad", root / "other")
    (root / "other" / "x.png").unlink()
    with pytest.raises(ValueError, match="no images in .*other"):
        ImageFolder(root / "ok", root / "bad", root / "other")


def test_masks_beside_their_images_are_refused(root: Path, write_image: WriteImage) -> None:
    write_image(root / "bad" / "a" / "7_mask.png")
    with pytest.raises(ValueError, match="7_mask.png looks like the mask of .*7.jpg"):
        ImageFolder(root / "ok", root / "bad")
