"""Batches are functions of seed and step: not of workers, history or process count."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from captum_vae.data.sample import Sample
from captum_vae.training.batches import BatchOrder, SeededImages, image_of, load_batches
from captum_vae.training.random_state import (
    isolated_randomness,
    random_state,
    seed_everything,
    set_random_state,
)

CPU = torch.device("cpu")


class Chance(Dataset[torch.Tensor]):
    """Item i is (i, and a draw of each generator)."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        draws = [random.random(), np.random.rand(), float(torch.rand(()))]  # noqa: NPY002
        return torch.tensor([float(index), *draws]).reshape(1, 1, 4)


def batches(start: int, *, workers: int = 0, stop: int = 8) -> list[torch.Tensor]:
    order = BatchOrder(10, batch_size=4, seed=1, start=start, stop=stop)
    return list(load_batches(SeededImages(Chance(), seed=1), order, workers=workers, device=CPU))


def test_every_epoch_shows_every_image_once_in_a_new_order() -> None:
    order = BatchOrder(10, batch_size=4, seed=0, start=0, stop=5)
    indices = [index for batch in order for _, index in batch]
    assert Counter(indices[:10]) == Counter(indices[10:]) == Counter(range(10))
    assert indices[:10] != indices[10:]


def test_batch_larger_than_the_data_set_is_full() -> None:
    (batch,) = BatchOrder(3, batch_size=8, seed=0, start=0, stop=1)
    assert sorted(Counter(index for _, index in batch).values()) == [2, 3, 3]


def test_processes_share_the_batch_of_one() -> None:
    (whole,) = BatchOrder(10, batch_size=4, seed=0, start=3, stop=4)
    shares = [
        next(iter(BatchOrder(10, batch_size=4, seed=0, start=3, stop=4, rank=r, world_size=2)))
        for r in range(2)
    ]
    assert sorted(shares[0] + shares[1]) == sorted(whole)


def test_later_start_gives_the_same_batches() -> None:
    for a, b in zip(batches(0)[5:], batches(5), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_workers_do_not_change_the_batches() -> None:
    for a, b in zip(batches(2), batches(2, workers=2), strict=True):
        assert torch.equal(a, b)


def test_steps_draw_different_numbers() -> None:
    draws = torch.stack(batches(0))[:, :, 0, 0, 1:]
    assert len(draws.flatten().unique()) == draws.numel()


def test_reading_leaves_the_global_generators_alone() -> None:
    seed_everything(5)
    expected = (random.random(), np.random.rand(), float(torch.rand(())))  # noqa: NPY002
    seed_everything(5)
    batches(0)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected  # noqa: NPY002


def test_random_state_is_restored_by_value(tmp_path: Path) -> None:
    np.random.randn()  # noqa: NPY002 - leaves a cached Gaussian behind
    torch.save(random_state(CPU), tmp_path / "state.pt")
    first = (random.random(), np.random.randn(3).tolist(), torch.rand(3).tolist())  # noqa: NPY002
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True), CPU)
    second = (random.random(), np.random.randn(3).tolist(), torch.rand(3).tolist())  # noqa: NPY002
    assert first == second


def test_isolated_randomness_depends_on_its_entropy_alone() -> None:
    draws = []
    for entropy in ((1, 2), (1, 2), (2, 1)):
        torch.rand(3)
        with isolated_randomness(*entropy):
            draws.append(float(torch.rand(())))
    assert draws[0] == draws[1] != draws[2]


IMAGE = torch.zeros(1, 2, 2)


@pytest.mark.parametrize(
    "item",
    [IMAGE, (IMAGE, 3), [IMAGE], {"image": IMAGE}, Sample(IMAGE, None, 0, "name", "group")],
    ids=["tensor", "tuple", "list", "mapping", "sample"],
)
def test_image_is_found(item: Any) -> None:
    assert image_of(item) is IMAGE


def test_integer_image_is_refused_with_the_fix() -> None:
    with pytest.raises(TypeError, match="divide by 255"):
        image_of(torch.zeros(1, 2, 2, dtype=torch.uint8))


def test_item_without_an_image_is_refused() -> None:
    with pytest.raises(TypeError, match="got dict"):
        image_of({"pixels": IMAGE})


class TwoSizes(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(1, 2 + index, 2)


def test_images_of_different_sizes_are_refused_with_the_fix() -> None:
    order = BatchOrder(2, batch_size=2, seed=0, start=0, stop=1)
    loader = load_batches(SeededImages(TwoSizes(), seed=0), order, workers=0, device=CPU)
    with pytest.raises(ValueError, match="image_size"):
        next(iter(loader))
