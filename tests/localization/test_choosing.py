"""The label-free choice: held-out images, candidates, and what the synthetic defects decide."""

import pytest
import torch

from captum_vae.data import Sample, SampleDataset
from captum_vae.localization import Candidates, Choice, candidate_scorers, choose
from captum_vae.localization.choosing import split_held_out
from captum_vae.localization.samples import evenly_spaced
from captum_vae.models import ConvVAE


class Recorded(SampleDataset):
    """Smooth normal images that remember which of them were read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: set[int] = set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.read.add(index)
        image = torch.full((1, 16, 16), 0.3 + 0.01 * (index % 5))
        return Sample(image, torch.zeros(32, 32, dtype=torch.bool), 0, f"{index}", "good")


@pytest.fixture
def vae():
    return ConvVAE(4, image_size=16, channels=(4, 6), hidden=8).eval()


def chosen(vae, candidates: Candidates, normal: SampleDataset) -> Choice:
    variants = candidate_scorers(candidates, vae)
    return choose(variants, normal, candidates, batch_size=8, progress="off")


def test_every_combination_is_a_candidate_and_smoothing_shares_the_scorer(vae):
    candidates = Candidates(
        layers=["encoder.conv1", "encoder.conv2"],
        fused=True,
        weightings=["pooled", "elementwise"],
        scales=["none", "location"],
        smoothing=[0.0, 2.0],
    )
    variants = candidate_scorers(candidates, vae)
    assert len(variants) == 3 * 2 * 2 * 2 * 2
    assert len({id(scorer) for scorer, _ in variants.values()}) == len(variants) / 2
    assert {protocol.smoothing for _, protocol in variants.values()} == {0.0, 2.0}


def test_the_best_on_the_synthetic_defects_is_chosen_and_all_are_ranked(vae):
    candidates = Candidates(layers=["encoder.conv1"], smoothing=[0.0, 30.0], images=6)
    found = chosen(vae, candidates, Recorded(20))
    values = list(found.synthetic.values())
    assert values == sorted(values, reverse=True)
    assert found.synthetic[found.name] == values[0]
    # A Gaussian as wide as the image blurs every defect away.
    assert found.name.endswith("sigma 0")


def test_defects_are_painted_on_images_that_nothing_was_fitted_on():
    kept, held_out = split_held_out(10, 0.2)
    assert held_out == [2, 7]
    assert kept == [0, 1, 3, 4, 5, 6, 8, 9]


def test_only_as_many_images_as_asked_for_are_read(vae):
    normal = Recorded(40)
    candidates = Candidates(layers=["encoder.conv2"], smoothing=[0.0], images=3)
    variants = candidate_scorers(candidates, vae)
    found = choose(variants, normal, candidates, normal_images=5, progress="off")
    assert found.painted == 3
    assert len(normal.read - {0}) <= 3 + 5


def test_the_same_seed_chooses_the_same(vae):
    candidates = Candidates(layers=["encoder.conv1", "encoder.conv2"], images=5, seed=3)
    assert chosen(vae, candidates, Recorded(15)) == chosen(vae, candidates, Recorded(15))


def test_evenly_spaced_indices_cover_the_range_without_repeats():
    assert evenly_spaced(range(10), 3) == [1, 5, 8]
    assert evenly_spaced([4, 5], 3) == [4, 5]
    assert len(set(evenly_spaced(range(2550), 500))) == 500


def test_too_few_images_to_hold_some_out_are_refused(vae):
    with pytest.raises(ValueError, match="2 normal images with held_out=0.2 leave 2"):
        chosen(vae, Candidates(layers=["encoder.conv1"]), Recorded(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, "choose_among.layers is empty"),
        ({"layers": ["a"], "smoothing": []}, "choose_among.smoothing is empty"),
        ({"layers": ["a"], "held_out": 1.0}, "held_out is 1.0"),
        ({"layers": ["a"], "images": 0}, "choose_among.images=0 must be at least 1"),
    ],
)
def test_nothing_to_choose_from_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Candidates(**options)
