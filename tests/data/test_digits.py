import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_vae.data import MNIST, OneClassDigits


@pytest.fixture
def idx_files() -> dict[str, bytes]:
    """Four 2 x 3 images of the digits 7, 1, 7, 3."""
    pixels = np.arange(24, dtype=np.uint8)
    return {
        "train-images-idx3-ubyte": struct.pack(">IIII", 0x803, 4, 2, 3) + pixels.tobytes(),
        "train-labels-idx1-ubyte": struct.pack(">II", 0x801, 4) + bytes([7, 1, 7, 3]),
    }


def write(folder: Path, files: dict[str, bytes], ending: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (name + ending)).write_bytes(gzip.compress(content) if ending else content)


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_found_plain_and_gzipped(
    tmp_path: Path, idx_files: dict[str, bytes], below: str, ending: str
) -> None:
    write(tmp_path / below, idx_files, ending)
    data = MNIST(tmp_path)
    assert [sample.group for sample in data] == ["7", "1", "7", "3"]
    assert torch.equal(data[1].image * 255, torch.arange(6.0, 12.0).reshape(1, 2, 3))


def test_one_class_keeps_the_digits_asked_for(tmp_path: Path, idx_files: dict[str, bytes]) -> None:
    write(tmp_path, idx_files)
    data = MNIST(tmp_path, digits=[7])
    assert [sample.name for sample in data] == ["train/0", "train/2"]
    assert data.labels == [0, 0]


def test_other_digits_are_anomalous_with_an_unknown_mask(
    tmp_path: Path, idx_files: dict[str, bytes]
) -> None:
    write(tmp_path, idx_files)
    data = MNIST(tmp_path, normal_digits=[7])
    assert data.labels == [0, 1, 0, 1]
    assert [sample.label for sample in data] == data.labels
    assert data[1].mask is None


def test_missing_files_are_named_with_the_folders_searched(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train-images-idx3-ubyte.*raw"):
        MNIST(tmp_path)


def test_a_truncated_file_is_named(tmp_path: Path, idx_files: dict[str, bytes]) -> None:
    idx_files["train-images-idx3-ubyte"] = idx_files["train-images-idx3-ubyte"][:-5]
    write(tmp_path, idx_files)
    with pytest.raises(ValueError, match=r"images-idx3-ubyte .*truncated.*\(4, 2, 3\).*download"):
        MNIST(tmp_path)


def test_a_damaged_gzip_is_named(tmp_path: Path, idx_files: dict[str, bytes]) -> None:
    write(tmp_path, idx_files, ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="images-idx3-ubyte.gz cannot be read.*download it again"):
        MNIST(tmp_path)


def test_a_file_of_another_format_is_named(tmp_path: Path, idx_files: dict[str, bytes]) -> None:
    idx_files["train-labels-idx1-ubyte"] = b"<html>"
    write(tmp_path, idx_files)
    with pytest.raises(ValueError, match="labels-idx1-ubyte cannot be read: it starts b'<htm'"):
        MNIST(tmp_path)


@pytest.mark.parametrize("option", ["digits", "normal_digits"])
def test_an_impossible_digit_is_named(
    tmp_path: Path, idx_files: dict[str, bytes], option: str
) -> None:
    write(tmp_path, idx_files)
    with pytest.raises(ValueError, match=f"^{option}=12 .*digits from 0 to 9"):
        MNIST(tmp_path, **{option: [12]})  # type: ignore[arg-type]


def test_bundled_digits_split_without_overlap() -> None:
    train, test = OneClassDigits(), OneClassDigits("test")
    assert len(train) + len(test) == 1797
    assert train.image_shape == tuple(train[0].image.shape) == (1, 28, 28)


def test_bundled_digits_keep_scikit_learns_pixels_and_targets() -> None:
    from sklearn.datasets import load_digits

    bundle = load_digits()
    test = OneClassDigits("test", image_size=None)
    assert test[3].group == str(bundle.target[19])
    expected = torch.from_numpy(bundle.images[19] / 16).float()
    torch.testing.assert_close(test[3].image[0], expected, atol=1 / 255, rtol=0)


def test_grey_repeats_in_three_channels() -> None:
    image = OneClassDigits(image_channels=3)[0].image
    assert image.shape == (3, 28, 28)
    assert torch.equal(image[0], image[2])


@pytest.mark.parametrize("labels", [bytes([7, 1, 7]), bytes([7, 1, 7, 3, 3]), bytes([7, 1, 7, 10])])
def test_labels_that_do_not_fit_the_images_name_their_file(
    tmp_path: Path, idx_files: dict[str, bytes], labels: bytes
) -> None:
    idx_files["train-labels-idx1-ubyte"] = struct.pack(">II", 0x801, len(labels)) + labels
    write(tmp_path, idx_files)
    with pytest.raises(ValueError, match="train-labels-idx1-ubyte cannot be read.*download both"):
        MNIST(tmp_path)
