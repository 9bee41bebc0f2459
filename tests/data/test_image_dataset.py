import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from captum_vae.data import (
    ImageFile,
    ImageFileDataset,
    UndecidedMaskError,
    UnreadableImageError,
    collate_samples,
    image_dataset,
)
from captum_vae.data.cache import MemoryCache
from captum_vae.data.listing import list_images

from .conftest import WriteImage


@pytest.fixture
def folder(tmp_path: Path, write_image: WriteImage) -> Path:
    """Six noise images 0.png ... 5.png of 20 x 24 pixels."""
    random = np.random.default_rng(0)
    for number in range(6):
        noise = random.integers(0, 256, (20, 24), dtype=np.uint8)
        write_image(tmp_path / "images" / f"{number}.png", noise)
    return tmp_path / "images"


def dataset(folder: Path, **options: Any) -> ImageFileDataset:
    files = [ImageFile(path, path.name, "g", 0, "empty") for path in list_images(folder).images]
    return ImageFileDataset(files, **options)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Count the images decoded, in this process and in forked ones."""
    count = multiprocessing.get_context("fork").Value("i", 0)
    original = image_dataset.read_image

    def counted(*arguments: Any) -> Any:
        with count.get_lock():
            count.value += 1
        return original(*arguments)

    monkeypatch.setattr(image_dataset, "read_image", counted)
    return count


def test_images_are_resized_and_masks_are_not(folder: Path) -> None:
    sample = dataset(folder, image_size=(10, 12))[0]
    assert sample.image.shape == (1, 10, 12)
    assert sample.image.dtype == torch.float32
    assert sample.mask is not None
    assert sample.mask.shape == (20, 24)
    assert sample.mask.dtype == torch.bool


def test_white_is_one_and_black_is_zero(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "a.png", np.array([[0, 255]], dtype=np.uint8))
    assert dataset(tmp_path)[0].image.tolist() == [[[0.0, 1.0]]]


def test_masks_shrink_on_request(tmp_path: Path, write_image: WriteImage) -> None:
    image = write_image(tmp_path / "a.png", size=(4, 4))
    pixels = np.zeros((4, 4), dtype=np.uint8)
    pixels[:2, 0] = 255
    mask = write_image(tmp_path / "m" / "a.png", pixels)
    sample = ImageFileDataset([ImageFile(image, "a", "g", 1, mask)], mask_size=2)[0]
    assert sample.mask is not None
    assert sample.mask.tolist() == [[True, False], [False, False]]


def test_without_a_size_each_image_keeps_its_own(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "1.png", size=(4, 6))
    write_image(tmp_path / "2.png", size=(7, 5))
    data = dataset(tmp_path)
    assert [tuple(sample.image.shape) for sample in data] == [(1, 4, 6), (1, 7, 5)]
    assert data.image_shape is None
    with pytest.raises(ValueError, match="give the data set an image_size"):
        next(iter(DataLoader(data, batch_size=2, collate_fn=collate_samples)))


def test_grey_and_colour_mixed_is_an_error_naming_both(
    tmp_path: Path, write_image: WriteImage
) -> None:
    write_image(tmp_path / "grey.png")
    write_image(tmp_path / "red.png", np.full((8, 10, 3), 9, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"grey \(.*grey.png\) and colour \(.*red.png\).*channels"):
        dataset(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour_mixed_convert_on_request(
    tmp_path: Path, write_image: WriteImage, channels: int
) -> None:
    write_image(tmp_path / "grey.png")
    write_image(tmp_path / "red.png", np.full((8, 10, 3), 100, dtype=np.uint8))
    images = [sample.image for sample in dataset(tmp_path, image_channels=channels)]
    assert torch.equal(images[0], images[1])
    assert images[0].shape == (channels, 8, 10)


def test_a_mask_of_another_size_is_an_error_naming_both(
    tmp_path: Path, write_image: WriteImage
) -> None:
    image = write_image(tmp_path / "a.png", size=(8, 10))
    mask = write_image(tmp_path / "m.png", size=(10, 8))
    with pytest.raises(ValueError, match="m.png is 10 x 8 pixels and its image .*a.png is 8 x 10"):
        ImageFileDataset([ImageFile(image, "a", "g", 1, mask)])


def test_a_truncated_image_raises_on_access_naming_the_file(
    folder: Path, truncate: Callable[[Path], Path]
) -> None:
    truncate(folder / "3.png")
    data = dataset(folder)
    assert data[2].name == "2.png"
    with pytest.raises(UnreadableImageError, match="3.png"):
        data[3]


def test_the_name_of_a_truncated_image_survives_a_worker(
    folder: Path, truncate: Callable[[Path], Path]
) -> None:
    truncate(folder / "3.png")
    loader = DataLoader(dataset(folder), batch_size=6, num_workers=1, collate_fn=collate_samples)
    with pytest.raises(UnreadableImageError, match="3.png"):
        list(loader)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_skipping_leaves_out_counts_and_reports(
    folder: Path, truncate: Callable[[Path], Path], cache: str
) -> None:
    truncate(folder / "3.png")
    (folder / "4.png").write_bytes(b"no header")
    with pytest.warns(UserWarning, match="skipped 2 of 6 images"):
        data = dataset(folder, on_error="skip", cache=cache)
    assert len(data) == 4
    assert data.names == ["0.png", "1.png", "2.png", "5.png"]
    assert [sample.name for sample in data] == data.names
    assert sorted(skipped.path.name for skipped in data.skipped) == ["3.png", "4.png"]


def test_a_truncated_mask_is_skipped_with_its_image_and_named(
    tmp_path: Path, write_image: WriteImage, truncate: Callable[[Path], Path]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    images = [write_image(tmp_path / f"{number}.png", noise) for number in range(2)]
    specks = np.where(noise > 127, 255, 0).astype(np.uint8)
    masks = [write_image(tmp_path / "m" / f"{number}.png", specks) for number in range(2)]
    truncate(masks[0])
    files = [
        ImageFile(image, image.name, "g", 1, mask)
        for image, mask in zip(images, masks, strict=True)
    ]
    with pytest.warns(UserWarning, match="m/0.png"):
        data = ImageFileDataset(files, on_error="skip")
    assert data.names == ["1.png"]


def test_nothing_left_after_skipping_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"junk")
    with (
        pytest.warns(UserWarning, match="skipped 1 of 1"),
        pytest.raises(ValueError, match="none of the 1 images can be decoded"),
    ):
        dataset(tmp_path, on_error="skip")


@pytest.mark.parametrize(
    ("option", "value"), [("on_error", "ignore"), ("cache", "disk"), ("image_channels", 2)]
)
def test_an_option_out_of_range_is_named(folder: Path, option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        dataset(folder, **{option: value})


def test_the_cache_yields_what_decoding_yields(folder: Path) -> None:
    plain = dataset(folder, image_size=12, cache="none")
    memory = dataset(folder, image_size=12)
    for a, b in zip(plain, memory, strict=True):
        assert torch.equal(a.image, b.image)


def test_the_memory_cache_decodes_each_image_once(folder: Path, decodes: Any) -> None:
    data = dataset(folder)
    for _ in range(3):
        list(data)
    assert decodes.value == 6


def test_without_a_cache_every_access_decodes(folder: Path, decodes: Any) -> None:
    data = dataset(folder, cache="none")
    for _ in range(3):
        list(data)
    assert decodes.value == 18


def test_forked_workers_share_the_memory_cache(folder: Path, decodes: Any) -> None:
    data = dataset(folder)
    loader = DataLoader(
        data,
        batch_size=2,
        num_workers=2,
        collate_fn=collate_samples,
        multiprocessing_context="fork",
    )
    names = [[name for batch in loader for name in batch.name] for _ in range(3)]
    assert names == [data.names] * 3
    assert decodes.value == 6


def test_a_pickled_data_set_takes_its_decoded_images_along(folder: Path, decodes: Any) -> None:
    data = dataset(folder)
    data.preload()
    copy = pickle.loads(pickle.dumps(data))
    assert all(torch.equal(a.image, b.image) for a, b in zip(data, copy, strict=True))
    assert decodes.value == 6


def test_a_batch_keeps_unknown_masks_and_labels(tmp_path: Path, write_image: WriteImage) -> None:
    path = write_image(tmp_path / "a.png")
    files = [ImageFile(path, "a", "g", 0, "empty"), ImageFile(path, "b", "h", None, "unknown")]
    batch = next(
        iter(DataLoader(ImageFileDataset(files), batch_size=2, collate_fn=collate_samples))
    )
    assert batch.image.shape == (2, 1, 8, 10)
    assert batch.mask[0] is not None
    assert batch.mask[1] is None
    assert batch.label == [0, None]
    assert batch.group == ["g", "h"]


def changed(folder: Path, change: str, write_image: WriteImage) -> ImageFileDataset:
    if change == "a pixel":
        pixels = np.zeros((20, 24), dtype=np.uint8)
        pixels[0, 0] = 1
        write_image(folder / "3.png", pixels)
    if change == "a name":
        (folder / "3.png").rename(folder / "33.png")
    if change == "an image less":
        (folder / "5.png").unlink()
    options = {"a size": {"image_size": 8}, "a range": {"pixel_range": (0, 1)}}.get(change, {})
    return dataset(folder, **options)


@pytest.mark.parametrize(
    "change", ["a pixel", "a name", "an image less", "a size", "a range", "channels", "order"]
)
def test_the_digest_tells_other_samples_apart(
    folder: Path, change: str, write_image: WriteImage
) -> None:
    data = dataset(folder)
    before = data.digest
    assert before == dataset(folder).digest == data.digest
    if change == "channels":
        assert dataset(folder, image_channels=3).digest != before
    elif change == "order":
        assert ImageFileDataset(data.files[::-1]).digest != before
    else:
        assert changed(folder, change, write_image).digest != before


def test_the_digest_does_not_depend_on_where_the_images_lie(folder: Path, tmp_path: Path) -> None:
    before = dataset(folder).digest
    folder.rename(tmp_path / "elsewhere")
    assert dataset(tmp_path / "elsewhere").digest == before


def test_masks_count_for_the_digest(tmp_path: Path, write_image: WriteImage) -> None:
    image = write_image(tmp_path / "a.png")
    digests = set()
    for value in (0, 255):
        mask = write_image(tmp_path / "m.png", value)
        digests.add(ImageFileDataset([ImageFile(image, "a", "g", 1, mask)]).digest)
    digests.add(ImageFileDataset([ImageFile(image, "a", "g", 1, "empty")]).digest)
    digests.add(ImageFileDataset([ImageFile(image, "a", "g", 1, "unknown")]).digest)
    assert len(digests) == 4


def test_an_undecided_mask_names_itself_through_a_worker(
    tmp_path: Path, write_image: WriteImage
) -> None:
    image, mask = write_image(tmp_path / "a.png"), write_image(tmp_path / "m.png", 7)
    data = ImageFileDataset([ImageFile(image, "a", "g", 1, mask)])
    loader = DataLoader(data, num_workers=1, collate_fn=collate_samples)
    with pytest.raises(UndecidedMaskError, match="m.png holds only the value 7"):
        list(loader)


def test_an_undecided_mask_is_never_skipped(tmp_path: Path, write_image: WriteImage) -> None:
    image, mask = write_image(tmp_path / "a.png"), write_image(tmp_path / "m.png", 7)
    with pytest.raises(UndecidedMaskError, match="m.png"):
        ImageFileDataset([ImageFile(image, "a", "g", 1, mask)], on_error="skip")


def test_joined_masks_of_different_sizes_are_an_error(
    tmp_path: Path, write_image: WriteImage
) -> None:
    image = write_image(tmp_path / "a.png")
    masks = (write_image(tmp_path / "m.png"), write_image(tmp_path / "n.png", size=(4, 4)))
    with pytest.raises(ValueError, match=r"the masks of .*a\.png differ in size"):
        ImageFileDataset([ImageFile(image, "a", "g", 1, masks)])


def test_synthetic_data_tell_their_digest_from_what_they_are_made_of(folder: Path) -> None:
    from captum_vae.data import Augmented, MovingPedestrians, OneClassDigits, SyntheticDefects

    makers = [
        lambda: Augmented(dataset(folder)),
        lambda: Augmented(dataset(folder), rotation=10),
        lambda: Augmented(dataset(folder, image_size=9)),
        lambda: SyntheticDefects(dataset(folder)),
        lambda: SyntheticDefects(dataset(folder), seed=1),
        lambda: MovingPedestrians(clips=1, frames=1),
        lambda: MovingPedestrians(clips=1, frames=1, seed=1),
        lambda: OneClassDigits(digits=[1]),
        lambda: OneClassDigits(digits=[2]),
        lambda: OneClassDigits("test", digits=[1]),
    ]
    digests = [make().digest for make in makers]
    assert digests == [make().digest for make in makers]
    assert len(set(digests)) == len(makers) and None not in digests


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        (0, 255, "is labelled normal, and its mask marks anomalous pixels"),
        (1, 0, "is labelled anomalous, and its mask marks no pixel"),
    ],
)
def test_a_label_that_its_mask_contradicts_is_warned_of_once(
    tmp_path: Path, write_image: WriteImage, label: int, value: int, said: str
) -> None:
    image, mask = write_image(tmp_path / "a.png"), write_image(tmp_path / "m.png", value)
    data = ImageFileDataset([ImageFile(image, "a", "g", label, mask)] * 2)
    with pytest.warns(UserWarning, match=f"a.png {said}") as caught:
        assert [sample.label for sample in data] == [label] * 2
    assert len(caught) == 1


def test_images_beyond_the_memory_name_the_option_that_helps() -> None:
    with pytest.raises(ValueError, match='GiB of memory .*cache="none"'):
        MemoryCache([(3, 60_000, 60_000)] * 100_000)
