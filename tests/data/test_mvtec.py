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


@pytest.fixture
def loco(root: Path, write_image: WriteImage) -> Path:
    """MVTec LOCO: the masks of an image lie in a folder of its name, a value per defect."""
    write_image(root / "nut" / "test" / "logical_anomalies" / "000.png")
    for number, value in enumerate((254, 251)):
        mask = np.zeros((8, 10), dtype=np.uint8)
        mask[2 * number] = value
        folder = root / "nut" / "ground_truth" / "logical_anomalies" / "000"
        write_image(folder / f"{number:03d}.png", mask)
    return root / "nut"


def test_several_masks_of_one_image_are_joined(loco: Path) -> None:
    data = MVTec(loco, split="test")
    sample = data[data.groups.index("logical_anomalies")]
    assert sample.mask is not None
    assert sample.mask.nonzero()[:, 0].unique().tolist() == [0, 2]


def test_an_anomalous_pixel_of_one_joined_mask_outweighs_an_ignored_one(loco: Path) -> None:
    told = {0: "normal", 254: "anomalous", 251: "ignore", 255: "anomalous"}
    data = MVTec(loco, split="test", mask_values=told)  # type: ignore[arg-type]
    sample = data[data.groups.index("logical_anomalies")]
    assert sample.mask is not None and sample.ignored is not None
    assert sample.mask.nonzero()[:, 0].unique().tolist() == [0]
    assert sample.ignored.nonzero()[:, 0].unique().tolist() == [2]


def test_images_one_level_down_are_read_with_their_masks(
    root: Path, write_image: WriteImage
) -> None:
    nut = root / "nut"
    write_image(nut / "train" / "good" / "rgb" / "5.png")
    write_image(nut / "test" / "cut" / "rgb" / "9.png")
    write_image(nut / "ground_truth" / "cut" / "rgb" / "9.png", np.ones((8, 10), dtype=np.uint8))
    assert "train/good/rgb/5.png" in MVTec(nut).names
    data = MVTec(nut, split="test")
    mask = data[data.names.index("test/cut/rgb/9.png")].mask
    assert mask is not None and mask.all()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("test/1.png", "1 images lie loose in .*test, first 1.png"),
        ("train/1.png", "1 images lie loose in .*train, first 1.png"),
        ("ground_truth/1.png", "1 masks lie loose in .*ground_truth"),
        ("test/cut/000_mask.png", "000_mask.png looks like the mask of .*000.JPG"),
        ("ground_truth/cut/0000_mask.png", "0000_mask.png matches no image"),
        ("ground_truth/cut/005/000.png", "005/000.png matches no image"),
        ("ground_truth/cut/000/000.png", "are both masks of .*000.JPG"),
        ("ground_truth/hole/deep/000.png", "hole have no images"),
        ("ground_truth/good/003.png", "003.png matches no image"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_masks_where_nothing_says_what_they_are_are_refused(
    root: Path, write_image: WriteImage, place: str, message: str, split: str
) -> None:
    write_image(root / "nut" / place)
    if place.startswith("train") == (split == "train"):
        with pytest.raises(ValueError, match=message):
            MVTec(root, "nut", split)  # type: ignore[arg-type]


@pytest.mark.parametrize("place", ["test", "ground_truth", "test/good", "ground_truth/cut"])
def test_a_file_where_a_folder_is_expected_is_no_silent_loss(root: Path, place: str) -> None:
    folder = root / "nut" / place
    folder.rename(root / "away")
    folder.write_bytes(b"")
    try:
        data = MVTec(root, "nut", "test")
    except (ValueError, FileNotFoundError) as error:
        assert folder.name in str(error)
    else:
        assert f"1 no image by its ending ({folder.name})" in data.summary


def test_an_empty_folder_of_masks_is_an_error(root: Path) -> None:
    for path in (root / "nut" / "ground_truth" / "cut").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="no masks in .*cut; remove the folder"):
        MVTec(root, "nut", "test")


def test_images_without_a_mask_beside_others_with_one_are_warned_of(root: Path) -> None:
    (root / "nut" / "ground_truth" / "cut" / "001_mask.png").unlink()
    with pytest.warns(UserWarning, match="1 of 2 images have no mask in .*cut, first .*001.JPG"):
        data = MVTec(root, "nut", "test")
    assert data.summary == "3 images; 1 with a mask; 1 known to be normal; 1 with an unknown mask"


def test_the_summary_counts_what_was_read_and_passed_over(root: Path) -> None:
    nut = root / "nut"
    (nut / "test" / "cut" / ".DS_Store").write_bytes(b"")
    (nut / "test" / "cut" / "notes.txt").write_bytes(b"")
    (nut / "test" / "hole").mkdir()
    data = MVTec(root, "nut", "test")
    assert data.summary == (
        "3 images; 2 with a mask; 1 known to be normal; passed over 1 hidden (.DS_Store), "
        "1 no image by its ending (notes.txt), 1 empty folder (hole)"
    )
    assert data.describe()["images"] == data.summary


def test_a_linked_kind_is_read(root: Path, write_image: WriteImage, tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "0.png")
    (root / "nut" / "test" / "hole").symlink_to(tmp_path / "elsewhere")
    assert MVTec(root, "nut", "test").groups.count("hole") == 1


def test_a_folder_of_masks_that_holds_none_of_any_defective_image_is_refused(root: Path) -> None:
    for number in range(2):
        (root / "nut" / "ground_truth" / "cut" / f"{number:03d}_mask.png").unlink()
    (root / "nut" / "ground_truth" / "cut").rmdir()
    with pytest.raises(ValueError, match="holds no mask of any of the 2 defective images"):
        MVTec(root, "nut", "test")
    (root / "nut" / "ground_truth").rmdir()
    assert all(sample.mask is None for sample in MVTec(root, "nut", "test") if sample.label)
