"""Factor order and values, the data set, its sampler and the files it reads."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from captum_vae.data.dsprites import DSprites
from captum_vae.data.dsprites_factors import (
    FACTOR_NAMES,
    FACTOR_SIZES,
    IMAGE_COUNT,
    classes_of_index,
    classes_of_values,
    factor_values,
    index_of_classes,
    sample_classes,
)

GRID = "dsprites/dsprites_grid_sh3sc6or10x16y16_64x64.npz"


def write_npz(path: Path, classes: torch.Tensor, *, colour: bool) -> Path:
    values = factor_values(classes).numpy()
    if colour:
        values = np.concatenate([np.ones((len(values), 1)), values], axis=1)
    images = np.zeros((len(values), 64, 64), np.uint8)
    images[:, 0, 0] = np.arange(len(values)) % 2
    np.savez(path, imgs=images, latents_values=values)
    return path


def test_the_original_order_is_that_of_numpy_with_posy_fastest() -> None:
    indices = torch.randint(0, IMAGE_COUNT, (1000,))
    expected = np.stack(np.unravel_index(indices.numpy(), FACTOR_SIZES), axis=1)
    assert np.array_equal(classes_of_index(indices).numpy(), expected)
    assert torch.equal(index_of_classes(torch.from_numpy(expected)), indices)


def test_values_run_over_both_ends_of_every_factor() -> None:
    ends = factor_values(torch.tensor([[0] * 5, [size - 1 for size in FACTOR_SIZES]]))
    assert ends.tolist() == [[1, 0.5, 0, 0, 0], [3, 1, 2 * math.pi, 1, 1]]


def test_classes_come_back_from_their_values() -> None:
    classes = sample_classes(200)
    assert torch.equal(classes_of_values(factor_values(classes)), classes)


def test_order_and_values_equal_those_of_the_original_file(data_root: Path) -> None:
    archive = np.load(data_root / GRID)
    classes = classes_of_index(torch.from_numpy(archive["original_indices"]))
    assert np.allclose(factor_values(classes).numpy(), archive["latents_values"], atol=1e-9)


def test_a_part_of_the_original_is_read_by_value_not_by_its_own_class_numbers(
    data_root: Path,
) -> None:
    # The grid file numbers the 16 positions it kept from 0 to 15; in the original they are even.
    data = DSprites.from_npz(data_root / GRID)
    indices = np.load(data_root / GRID)["original_indices"]
    assert np.array_equal(index_of_classes(data.classes).numpy(), indices)


@pytest.mark.parametrize("colour", [True, False])
def test_the_colour_column_of_the_original_is_dropped(tmp_path: Path, colour: bool) -> None:
    classes = sample_classes(6)
    data = DSprites.from_npz(write_npz(tmp_path / "part.npz", classes, colour=colour))
    assert torch.equal(data.classes, classes)


def test_stored_images_are_returned_as_they_are(tmp_path: Path) -> None:
    data = DSprites.from_npz(write_npz(tmp_path / "part.npz", sample_classes(4), colour=True))
    assert [float(data[i].image.sum()) for i in range(4)] == [0, 1, 0, 1]
    assert data[1].image.shape == (1, 64, 64) and data[1].image.dtype == torch.float32


def test_the_whole_data_set_has_the_length_of_the_original() -> None:
    data = DSprites()
    assert len(data) == 737_280
    assert data[-1].classes.tolist() == [2, 5, 39, 31, 31]
    with pytest.raises(IndexError, match="737280"):
        data[737_280]


def test_a_loader_batch_equals_the_images_drawn_one_by_one() -> None:
    data = DSprites(torch.tensor([5, 300_000, 700_000]))
    batch = next(iter(DataLoader(data, batch_size=3)))
    assert torch.equal(batch.image, torch.stack([data[i].image for i in range(3)]))
    assert torch.equal(index_of_classes(batch.classes), torch.tensor([5, 300_000, 700_000]))


@pytest.mark.parametrize("name", FACTOR_NAMES)
def test_the_sampler_holds_the_fixed_factor_and_spreads_the_others(name: str) -> None:
    classes = sample_classes(4000, fixed={name: 1})
    for factor, size in enumerate(FACTOR_SIZES):
        counts = torch.bincount(classes[:, factor], minlength=size)
        if FACTOR_NAMES[factor] == name:
            assert counts[1] == 4000
        else:  # five standard deviations of a binomial
            share = 4000 / size
            assert (counts - share).abs().max() < 5 * share**0.5


def test_the_same_seed_draws_the_same_factors() -> None:
    draws = [sample_classes(50, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_bad_factors_are_refused_with_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'colour'.*posY"):
        sample_classes(1, fixed={"colour": 0})
    with pytest.raises(ValueError, match="scale to class 6; wanted 0 to 5"):
        sample_classes(1, fixed={"scale": 6})
    with pytest.raises(ValueError, match=r"\(2, 6\).*colour"):
        factor_values(torch.zeros((2, 6), dtype=torch.int64))
    with pytest.raises(TypeError, match="float32; wanted integers"):
        factor_values(torch.zeros((2, 5)))
    with pytest.raises(ValueError, match="posX has class 32; wanted 0 to 31"):
        factor_values(torch.tensor([[0, 0, 0, 32, 0]]))
    with pytest.raises(ValueError, match="shape has the value 0"):
        classes_of_values(torch.zeros((1, 5)))
    with pytest.raises(ValueError, match="wanted 0 to 737279"):
        DSprites(torch.tensor([737_280]))


def test_a_file_without_the_keys_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", imgs=np.zeros((1, 64, 64)))
    with pytest.raises(ValueError, match="latents_values"):
        DSprites.from_npz(tmp_path / "other.npz")
    np.savez(tmp_path / "short.npz", imgs=np.zeros((1, 64, 64)), latents_values=np.ones((2, 5)))
    with pytest.raises(ValueError, match=r"short.npz .*not \(2, 64, 64\)"):
        DSprites.from_npz(tmp_path / "short.npz")
