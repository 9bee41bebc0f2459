import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from captum_vae.data import (
    Augmented,
    Sample,
    SampleDataset,
    collate_samples,
    rotate_image,
    rotate_mask,
)
from captum_vae.data.augment import PADDINGS


class Noise(SampleDataset):
    """Five noise images with masks."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(index))
        return Sample(image, image[0] > 0.5, 1, str(index), "g")


def point(angle: float, radius: float = 20.0, size: int = 65) -> torch.Tensor:
    """A soft spot at an angle (degrees, counter-clockwise from the right) about the centre."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    row = size // 2 - radius * math.sin(math.radians(angle))
    column = size // 2 + radius * math.cos(math.radians(angle))
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)[None]


def angle_of(image: torch.Tensor) -> float:
    """The angle of the centre of mass about the image's centre, in degrees."""
    weights = image[0].double().numpy()
    rows, columns = np.mgrid[: weights.shape[0], : weights.shape[1]]
    y = (weights * rows).sum() / weights.sum() - weights.shape[0] // 2
    x = (weights * columns).sum() / weights.sum() - weights.shape[1] // 2
    return math.degrees(math.atan2(-y, x))


@pytest.mark.parametrize("degrees", [-30.0, 10.0, 30.0])
def test_rotation_is_in_degrees_not_radians(degrees: float) -> None:
    rotated = rotate_image(point(20), degrees)
    assert angle_of(rotated) == pytest.approx(20 + degrees, abs=0.1)


def test_drawn_angles_fill_plus_minus_thirty_degrees() -> None:
    data = Augmented(Noise(), 2000, rotation=30)
    angles = np.array([data.augmentation(index).degrees for index in range(2000)])
    assert -30 <= angles.min() < -29
    assert 29 < angles.max() <= 30
    # The standard deviation of a uniform variable on [-30, 30] is 30 / sqrt(3) = 17.3.
    assert angles.std() == pytest.approx(30 / math.sqrt(3), abs=0.7)


def test_half_of_the_images_are_mirrored() -> None:
    data = Augmented(Noise(), 2000, mirror=0.5)
    share = np.mean([data.augmentation(index).mirrored for index in range(2000)])
    assert share == pytest.approx(0.5, abs=0.04)


def test_a_quarter_turn_is_exact() -> None:
    image = torch.rand(3, 12, 12)
    torch.testing.assert_close(rotate_image(image, 90), image.rot90(1, (1, 2)), atol=1e-5, rtol=0)
    mask = image[0] > 0.5
    assert torch.equal(rotate_mask(mask, 90), mask.rot90())


def test_rotation_is_rigid_in_images_that_are_not_square() -> None:
    wide = torch.zeros(1, 65, 129)
    wide[:, :, 32:97] = point(0)
    rotated = rotate_image(wide, 90)
    assert angle_of(rotated) == pytest.approx(90, abs=0.1)
    row, column = divmod(int(rotated[0].argmax()), 129)
    assert (row, column) == (12, 64)


def test_mask_and_image_turn_together() -> None:
    spot = point(10) > 0.5
    turned = rotate_mask(spot[0], 25)
    assert angle_of(turned[None].float()) == pytest.approx(35, abs=1)


def test_black_padding_fills_corners_with_zero() -> None:
    rotated = rotate_image(torch.full((3, 20, 20), 0.7), 30, padding="black")
    assert rotated[:, 0, 0].tolist() == [0.0, 0.0, 0.0]
    assert rotated[0, 10, 10].item() == pytest.approx(0.7)


def test_corner_padding_fills_corners_with_the_corners_colour() -> None:
    image = torch.zeros(3, 20, 20)
    image[:, 0, 0] = torch.tensor([0.2, 0.4, 0.6])
    rotated = rotate_image(image, 30, padding="corner")
    for row, column in ((0, 0), (0, 19), (19, 0), (19, 19)):
        torch.testing.assert_close(rotated[:, row, column], image[:, 0, 0])


@pytest.mark.parametrize("padding", ["corner", "reflect", "edge"])
def test_a_flat_image_stays_flat_without_black(padding: str) -> None:
    image = torch.full((1, 20, 31), 0.6)
    torch.testing.assert_close(rotate_image(image, 17, padding=padding), image)  # type: ignore[arg-type]


def test_edge_padding_repeats_the_nearest_edge() -> None:
    image = torch.zeros(1, 21, 21)
    image[:, :, 0] = 1
    rotated = rotate_image(image, 45, padding="edge")
    assert rotated[0, 20, 0].item() == pytest.approx(1)
    assert rotated[0, 0, 20].item() == pytest.approx(0)


@pytest.mark.parametrize("padding", PADDINGS)
def test_values_stay_between_zero_and_one(padding: str) -> None:
    rotated = rotate_image(torch.rand(3, 15, 22), 33, padding=padding)  # type: ignore[arg-type]
    assert rotated.min() >= 0
    assert rotated.max() <= 1


def test_mirroring_alone_flips_image_and_mask() -> None:
    sample = Augmented(Noise(), rotation=0, mirror=1)[2]
    assert torch.equal(sample.image, Noise()[2].image.flip(-1))
    assert sample.mask is not None
    assert torch.equal(sample.mask, sample.image[0] > 0.5)


def test_length_repeats_the_data_set() -> None:
    data = Augmented(Noise(), 12)
    assert len(data) == 12
    assert [sample.name for sample in data] == [str(index % 5) for index in range(12)]
    assert not torch.equal(data[0].image, data[5].image)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_samples_do_not_depend_on_workers_or_global_randomness(workers: int) -> None:
    expected = [Augmented(Noise(), 12, seed=3)[index].image for index in range(12)]
    torch.manual_seed(workers)
    loader = DataLoader(
        Augmented(Noise(), 12, seed=3), 4, num_workers=workers, collate_fn=collate_samples
    )
    assert torch.equal(torch.cat([batch.image for batch in loader]), torch.stack(expected))


def test_epochs_and_seeds_draw_anew_and_repeat() -> None:
    data = Augmented(Noise(), 3)
    first = [data.augmentation(index) for index in range(3)]
    data.set_epoch(1)
    second = [data.augmentation(index) for index in range(3)]
    data.set_epoch(0)
    assert [data.augmentation(index) for index in range(3)] == first
    assert second != first
    assert Augmented(Noise(), 3, seed=1).augmentation(0) != first[0]


def test_persistent_workers_see_the_epoch_change() -> None:
    data = Augmented(Noise(), 4)
    loader = DataLoader(data, 4, num_workers=1, persistent_workers=True, collate_fn=collate_samples)

    def epochs() -> Iterator[torch.Tensor]:
        for epoch in (0, 1, 0):
            data.set_epoch(epoch)
            yield from (batch.image for batch in loader)

    first, second, again = epochs()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("length", 0),
        ("rotation", -1),
        ("rotation", 200),
        ("mirror", 1.5),
        ("padding", "white"),
        ("seed", -1),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{option}"):
        Augmented(Noise(), **{option: value})  # type: ignore[arg-type]
