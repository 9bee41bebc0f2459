"""The readers on real data, against the counts published with it."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae.data import MNIST, UCSD, MVTec, Sample, mvtec_categories, resize_mask
from captum_vae.data.image_dataset import ImageFileDataset


def stored_mask(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int) > 0


def contrast(image: torch.Tensor, normal: torch.Tensor, mask: torch.Tensor) -> float:
    """How much more an image differs from the mean normal image inside its mask than outside."""
    difference = (image - normal).abs().mean(0)
    inside = resize_mask(mask, (image.shape[1], image.shape[2]))
    if not inside.any() or inside.all():
        return 0.0
    return float(difference[inside].mean() - difference[~inside].mean())


def assert_masks_lie_on_the_anomalies(
    train: ImageFileDataset, test: ImageFileDataset, step: int = 1
) -> None:
    """Own masks must show a higher contrast than the masks of other images of the set."""
    some = range(0, len(train), max(1, len(train) // 100))
    normal = torch.stack([train[index].image for index in some]).mean(0)
    samples = [test[index] for index in range(0, len(test), step)]
    masked: list[tuple[Sample, torch.Tensor]] = [
        (sample, sample.mask) for sample in samples if sample.mask is not None and sample.mask.any()
    ]
    half = len(masked) // 2
    swapped = masked[half:] + masked[:half]
    own = sum(contrast(sample.image, normal, mask) for sample, mask in masked)
    others = sum(
        contrast(sample.image, normal, mask)
        for (sample, _), (_, mask) in zip(masked, swapped, strict=True)
    )
    assert own > 0
    assert own > 1.3 * others


def test_ped2_training_has_16_clips_of_2550_frames(data_root: Path) -> None:
    data = UCSD(data_root / "ucsd", "ped2", image_size=100)
    assert (len(set(data.groups)), len(data)) == (16, 2550)
    assert data.names == sorted(data.names)
    assert data.image_shape == tuple(data[0].image.shape) == (1, 100, 100)


@pytest.mark.filterwarnings("error")
def test_ped2_test_has_12_clips_of_2010_frames_with_masks_that_match_the_flags(
    data_root: Path,
) -> None:
    data = UCSD(data_root / "ucsd", "ped2", "test", image_size=24)
    assert (len(set(data.groups)), len(data)) == (12, 2010)
    for sample in data:
        assert sample.mask is not None
        assert sample.mask.shape == (120, 180)
        assert sample.label == int(sample.mask.any())


@pytest.mark.parametrize(
    ("clip", "pattern"), [("Test002", "{:03d}.png"), ("Test006", "frame{:03d}.png")]
)
def test_ped2_masks_belong_to_their_frames(data_root: Path, clip: str, pattern: str) -> None:
    data = UCSD(data_root / "ucsd", "ped2", "test")
    first = data.groups.index(clip)
    for frame in (1, 100, 180):
        sample = data[first + frame - 1]
        assert sample.name == f"Test/{clip}/{frame:03d}.jpg"
        truth = data.root / "Test" / f"{clip}_gt" / pattern.format(frame)
        assert sample.mask is not None
        assert np.array_equal(sample.mask.numpy(), stored_mask(truth))


def test_ped2_masks_lie_on_the_anomalies(data_root: Path) -> None:
    train = UCSD(data_root / "ucsd", "ped2")
    assert_masks_lie_on_the_anomalies(train, UCSD(data_root / "ucsd", "ped2", "test"), 20)


def test_the_original_format_slice_of_ped1(data_root: Path) -> None:
    data = UCSD(data_root / "ucsd", "ped1", "test")
    assert data.groups == ["Test003"] * 12 + ["Test004"] * 12
    assert [Path(name).suffix for name in data.names] == [".tif"] * 24
    # By eye: the anomaly enters Test003 after frame 81 and has left Test004 by frame 171.
    assert data.labels == [0] * 3 + [1] * 9 + [1] * 11 + [0]
    for sample in data:
        assert sample.image.shape == (1, 158, 238)
        assert sample.mask is not None
        frame = data.root / sample.name
        truth = frame.parent.with_name(sample.group + "_gt") / f"{frame.stem}.bmp"
        assert np.array_equal(sample.mask.numpy(), stored_mask(truth))
    assert_masks_lie_on_the_anomalies(data, data)


@pytest.mark.parametrize(
    ("category", "train", "test", "masks"),
    [("bottle", 209, 83, 63), ("hazelnut", 50, 10, 8), ("transistor", 50, 10, 8)],
)
@pytest.mark.filterwarnings("error")
def test_mvtec_counts_and_masks(
    data_root: Path, category: str, train: int, test: int, masks: int
) -> None:
    normal = MVTec(data_root / "mvtec_ad", category, image_size=128)
    data = MVTec(data_root / "mvtec_ad", category, "test", image_size=128)
    assert (len(normal), len(data)) == (train, test)
    assert normal.image_shape == (3, 128, 128)
    found = 0
    for sample in data:
        assert sample.mask is not None
        assert sample.mask.shape == (256, 256)
        assert bool(sample.mask.any()) == (sample.label == 1) == (sample.group != "good")
        if sample.label:
            found += 1
            name = f"{Path(sample.name).stem}_mask.png"
            truth = data.root / "ground_truth" / sample.group / name
            assert np.array_equal(sample.mask.numpy(), stored_mask(truth))
    assert found == masks
    assert_masks_lie_on_the_anomalies(normal, data)


def test_mvtec_categories_are_all_found(data_root: Path) -> None:
    assert mvtec_categories(data_root / "mvtec_ad") == ["bottle", "hazelnut", "transistor"]


@pytest.mark.filterwarnings("error")
def test_magnetic_tile_counts_and_masks_of_sizes_that_vary(data_root: Path) -> None:
    root = data_root / "magnetic_tile"
    train, data = MVTec(root, "mt", image_size=128), MVTec(root, "mt", "test")
    assert (len(train), len(data)) == (500, 488)
    assert data.image_shape is None
    assert (data.labels.count(0), data.labels.count(1)) == (100, 388)
    assert len(set(data.groups) - {"good"}) == 5
    for sample in data:
        assert sample.image.shape[0] == 1
        assert sample.mask is not None
        assert sample.mask.shape == sample.image.shape[1:]
        assert bool(sample.mask.any()) == (sample.label == 1)
    assert_masks_lie_on_the_anomalies(train, MVTec(root, "mt", "test", image_size=128))


def test_area_resizing_keeps_the_area_of_ped2_masks_that_published_code_lost(
    data_root: Path,
) -> None:
    data = UCSD(data_root / "ucsd", "ped2", "test", image_size=24)
    masks = [data[index].mask for index in range(60, len(data), 25)]
    area = published = ours = 0.0
    for mask in masks:
        assert mask is not None
        area += float(mask.double().mean())
        shrunk = Image.fromarray(mask.numpy().astype(np.float32)).resize(
            (100, 100), Image.Resampling.BILINEAR
        )
        published += float(np.asarray(shrunk).astype(np.uint8).mean())
        ours += float(resize_mask(mask, 100).double().mean())
    assert published / area < 0.8
    assert ours / area == pytest.approx(1, abs=0.03)


def test_mnist_has_60000_and_10000_digits(data_root: Path) -> None:
    train, test = MNIST(data_root / "mnist"), MNIST(data_root / "mnist", "test")
    assert (len(train), len(test)) == (60000, 10000)
    # The published class counts: 6,742 ones to train on, 1,135 to test on.
    assert len(MNIST(data_root / "mnist", digits=[1])) == 6742
    assert MNIST(data_root / "mnist", "test", normal_digits=[1]).labels.count(0) == 1135
    assert train[0].group == "5"
    assert train[0].image.shape == (1, 28, 28)


def test_mnist_pixels_are_those_torchvision_reads(data_root: Path, tmp_path: Path) -> None:
    from torchvision.datasets.mnist import read_image_file

    packed = data_root / "mnist" / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    (tmp_path / "images").write_bytes(gzip.decompress(packed.read_bytes()))
    expected = read_image_file(str(tmp_path / "images"))
    data = MNIST(data_root / "mnist", "test")
    for index in (0, 1234, 9999):
        torch.testing.assert_close(data[index].image[0], expected[index].float() / 255)
