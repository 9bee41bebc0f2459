"""Where defects are painted: where normal images vary most, to a stated share."""

import numpy as np
import pytest
import torch

from captum_vae.data import Sample, SampleDataset, SyntheticDefects
from captum_vae.data.defect_places import outline, varying_places
from captum_vae.data.rendered_parts import RenderedParts


class OnAnObject(SampleDataset):
    """A grey square of varying brightness on a background that never changes."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng(index)
        image = torch.full((3, 64, 64), 0.2)
        image[:, 16:48, 16:48] = float(random.uniform(0.4, 0.8))
        return Sample(image, None, 0, str(index), "good")


def test_places_that_vary_are_those_of_the_object() -> None:
    images = torch.stack([OnAnObject()[index].image for index in range(24)])
    places = varying_places(images.split(5), share=0.25)
    assert places.double().mean() == pytest.approx(0.25, abs=0.02)
    assert places[18:46, 18:46].all()


def test_the_batches_change_no_place() -> None:
    images = torch.stack([RenderedParts(count=9, image_size=48)[index].image for index in range(9)])
    assert torch.equal(varying_places([images]), varying_places(images.split(2)))


@pytest.mark.parametrize("masks", ["changed", "outlined"])
@pytest.mark.parametrize("kind", ["perlin", "cutpaste", "scratch", "blob"])
def test_at_least_the_share_asked_for_of_every_defect_lies_in_the_places(kind, masks) -> None:
    places = torch.zeros(64, 64, dtype=torch.bool)
    places[20:44, 24:50] = True
    data = SyntheticDefects(OnAnObject(), (kind,), places=places, masks=masks, visibility="patchy")
    for index in range(len(data)):
        mask = data[index].mask
        assert mask is not None and mask.any()
        assert float((mask & places).sum() / mask.sum()) >= 0.8


def test_an_outline_has_no_holes_and_a_margin() -> None:
    ring = np.zeros((20, 20), dtype=bool)
    ring[6:13, 6:13] = True
    ring[8:11, 8:11] = False
    assert outline(ring)[4:15, 9].all()


def test_an_outline_at_the_border_equals_that_of_a_mask_far_from_it() -> None:
    spots = np.random.default_rng(0).random((30, 30)) < 0.02
    spots[12:18, 0] = True
    spots[14:16, 0] = False
    far = np.zeros((230, 230), dtype=bool)
    far[100:130, 100:130] = spots
    # Nothing is enclosed by a border, so both close and widen the same spots.
    assert np.array_equal(outline(spots), outline(far)[100:130, 100:130])
    assert not outline(np.zeros((5, 5), dtype=bool)).any()


@pytest.mark.parametrize("kind", ["perlin", "cutpaste", "blob"])
def test_a_defect_as_large_as_its_places_lies_in_them_and_keeps_its_size(kind) -> None:
    places = torch.zeros(64, 64, dtype=torch.bool)
    places[8:56, 8:56] = True
    data = SyntheticDefects(OnAnObject(), (kind,), places=places, area=(0.1, 0.1))
    shares = [float(data[index].mask.double().mean()) for index in range(len(data))]
    assert sum(shares) / len(shares) == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize(
    ("places", "error"),
    [
        (torch.zeros(4, 4, dtype=torch.bool), ValueError),
        (torch.ones(4, 4), TypeError),
        ([[True]], TypeError),
    ],
)
def test_places_that_are_none_are_refused(places, error) -> None:
    with pytest.raises(error, match="places"):
        SyntheticDefects(OnAnObject(), places=places)


@pytest.mark.parametrize("subject", ["part", "fabric"])
def test_rendered_parts_have_a_defect_on_every_second_test_image(subject) -> None:
    test = RenderedParts(subject, "test", count=16, image_size=64)
    for index in range(16):
        sample = test[index]
        assert sample.image.shape == (3, 64, 64)
        assert sample.label == index % 2 == int(sample.mask.any())
        assert sample.mask.double().mean() < 0.1
    assert len({test[index].group for index in range(16)}) == 5
    assert torch.equal(test[3].image, RenderedParts(subject, "test", image_size=64)[3].image)


def test_defects_of_a_rendered_part_lie_where_normal_ones_vary() -> None:
    normal = RenderedParts("part", count=30, image_size=64)
    places = varying_places([torch.stack([normal[index].image for index in range(30)])], 0.4)
    test = RenderedParts("part", "test", count=40, image_size=64)
    masks = torch.stack([test[index].mask for index in range(1, 40, 2)])
    assert float((masks & places).sum() / masks.sum()) > 0.8
