"""Batches of whatever holds the images, and their shares among processes."""

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from captum_vae.data import collate_samples
from captum_vae.localization.image_batches import ImageBatches
from tests.localization.spots import Spots

SET = Spots(7, defects=True)
IMAGES = torch.stack([sample.image for sample in SET])
MASKS = torch.stack([sample.mask for sample in SET])

HOLDERS = {
    "data set": SET,
    "loader": DataLoader(SET, batch_size=2, collate_fn=collate_samples),
    "loader of pairs": DataLoader(TensorDataset(IMAGES, MASKS), batch_size=3),
    "list": [(IMAGES[:3], MASKS[:3]), (IMAGES[3:], MASKS[3:])],
    "tensors": (IMAGES, MASKS),
    "one image a batch": [(IMAGES[i : i + 1], MASKS[i : i + 1]) for i in range(7)],
}


def read(data, **options):
    """Places, images and masks of all batches."""
    places, images, masks = [], [], []
    for numbers, batch in ImageBatches(data, "test", batch_size=2, **options).numbered(""):
        places += numbers
        images.append(batch.image)
        masks += batch.mask
    return places, images, masks


@pytest.fixture
def process(monkeypatch):
    """Pretend to be one process of several."""

    def become(rank: int, processes: int) -> None:
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda: processes)

    return become


@pytest.mark.parametrize("holder", HOLDERS)
def test_every_image_comes_once_with_its_mask_and_place(holder):
    places, images, masks = read(HOLDERS[holder])
    assert places == list(range(7))
    assert torch.equal(torch.cat(images), IMAGES)
    assert torch.equal(torch.stack(masks), MASKS)


@pytest.mark.parametrize("processes", [2, 3, 5, 9])
@pytest.mark.parametrize("holder", HOLDERS)
def test_the_shares_of_all_processes_are_the_whole_without_repeats(holder, processes, process):
    found = []
    for rank in range(processes):
        process(rank, processes)
        places, images, _ = read(HOLDERS[holder], shared=True)
        if places:
            assert torch.equal(torch.cat(images), IMAGES[places])
        found += places
    assert sorted(found) == list(range(7))


def test_normal_images_are_read_whole_by_every_process(process):
    process(1, 3)
    assert read(SET)[0] == list(range(7))


def test_a_loader_that_shares_by_itself_is_refused(process):
    process(0, 2)
    sampler = DistributedSampler(SET, num_replicas=2, rank=0)
    loader = DataLoader(SET, sampler=sampler, collate_fn=collate_samples)
    with pytest.raises(ValueError, match="repeats images to fill up; pass the data set itself"):
        ImageBatches(loader, "test", shared=True)


def test_a_loader_that_shuffles_for_itself_is_refused(process):
    process(0, 2)
    loader = DataLoader(SET, shuffle=True, collate_fn=collate_samples)
    with pytest.raises(ValueError, match="in another order in every process"):
        ImageBatches(loader, "test", shared=True)


def test_batches_can_be_gone_through_again():
    batches = ImageBatches(SET, "normal", batch_size=4)
    assert [len(list(batches.images(""))) for _ in range(2)] == [2, 2]
