"""The label-free choice: held-out images, candidates, and what the synthetic defects decide."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from captum_vae.data import Sample, SampleDataset, collate_samples
from captum_vae.localization import Candidates, Choice, Protocol, candidate_scorers, choose
from captum_vae.localization.choice import Margin
from captum_vae.localization.choosing import _reach, split_held_out
from captum_vae.localization.counting import ScoredBatch
from captum_vae.localization.entries import Entry
from captum_vae.localization.painted_areas import PaintedCounter
from captum_vae.localization.samples import evenly_spaced
from captum_vae.models import ConvVAE, LinearFeatureVAE


class Recorded(SampleDataset):
    """Normal images of faint noise that remember which of them were read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read: set[int] = set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        self.read.add(index)
        image = 0.3 + 0.05 * torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(index))
        return Sample(image, torch.zeros(32, 32, dtype=torch.bool), 0, f"{index}", "good")


@pytest.fixture
def vae():
    return ConvVAE(4, image_size=16, channels=(4, 6), hidden=8).eval()


def chosen(vae, candidates: Candidates, normal: SampleDataset) -> Choice:
    variants = candidate_scorers(candidates, vae)
    return choose(variants, normal, candidates, batch_size=8, progress="off")


def test_every_combination_of_attention_is_a_candidate_and_smoothing_shares_the_scorer(vae):
    candidates = Candidates(
        layers=["encoder.conv1", "encoder.conv2"],
        fused=True,
        families=["latent_attention"],
        weightings=["pooled", "elementwise"],
        scales=["none", "location"],
        smoothing=[0.0, 2.0],
    )
    variants = candidate_scorers(candidates, vae)
    # With both scales comes the one between them.
    assert len(variants) == 3 * 2 * 2 * 3 * 2
    assert len({id(scorer) for scorer, _ in variants.values()}) == len(variants) / 2
    assert {protocol.smoothing for _, protocol in variants.values()} == {0.0, 2.0}


def test_candidates_are_of_every_family_and_the_explained_residual_comes_first(vae):
    variants = candidate_scorers(Candidates(["encoder.conv1"], smoothing=[0.0, 2.0, 9.0]), vae)
    kinds = {type(scorer).__name__ for scorer, _ in variants.values()}
    assert kinds == {
        "FeatureDifference",
        "Mahalanobis",
        "LatentAttention",
        "MeanImageDifference",
        "ReconstructionError",
    }
    assert next(iter(variants)) == "explained residual l2_or_mahalanobis, encoder.conv1, sigma 2"


def test_without_the_explained_residual_the_default_is_shrunk_and_follows_what_moves(vae):
    layers = ["encoder.conv1", "encoder.conv2"]
    attention = Candidates(layers, families=["latent_attention"])
    first = next(iter(candidate_scorers(attention, vae)))
    assert first == "encoder.conv1, abs, pooled, reconstruction, scale shrunk, sigma 4"
    families = ["reconstruction_error", "latent_attention", "mean_image"]
    both = Candidates(layers, families=families, scales=["none", "location"], smoothing=[0.0])
    names = list(candidate_scorers(both, vae))
    assert names[0] == "reconstruction error, scale shrunk, sigma 0"
    assert len(names) == 3 * (1 + 2 * 2 + 1) and "mean image, scale location, sigma 0" in names


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ({}, ["none"]),
        ({"scales": ["none", "location"]}, ["none", "location"]),
        ({"families": ["latent_attention"]}, ["shrunk", "none"]),
        ({"families": ["latent_attention"], "scales": ["none"]}, ["none"]),
        (
            {"families": ["latent_attention"], "scales": ["location", "none"]},
            ["shrunk", "none", "location"],
        ),
        (
            {"families": ["latent_attention"], "scales": ["none", "location"], "varying": 1.0},
            ["none", "location"],
        ),
    ],
)
def test_maps_are_shrunk_where_painted_defects_would_have_to_judge_the_scale(options, scales):
    assert Candidates(["encoder.conv1"], **options).offered_scales == scales


def test_a_vae_of_features_is_not_asked_for_reconstructed_images():
    encoder = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, stride=2)).eval()
    images = torch.rand(6, 1, 16, 16)
    features = LinearFeatureVAE.fit(
        encoder, images, 2, layers=["0"], image_size=16, in_channels=1, progress="off"
    )
    names = candidate_scorers(Candidates(["features"], smoothing=[0.0]), features)
    assert not [name for name in names if "reconstruction" in name]


class Brightness:
    """A third party's scorer: the image itself, or its negative."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def fit(self, normal):
        return self

    def score(self, images):
        return self.sign * images.mean(1)


class Bright(Recorded):
    """Dark images that vary in their upper half alone."""

    def __getitem__(self, index: int) -> Sample:
        image = torch.full((1, 32, 32), 0.05)
        image[:, :16] += 0.02 * (index % 5)
        return Sample(image, torch.zeros(32, 32, dtype=torch.bool), 0, f"{index}", "good")


def test_a_candidate_that_is_better_by_more_than_margin_and_noise_is_chosen():
    protocol = Protocol(threshold="oracle")
    variants = {"worst": (Brightness(-1.0), protocol), "best": (Brightness(), protocol)}
    candidates = Candidates(["unused"], images=8, area=(0.01, 0.05))
    found = choose(variants, Bright(40), candidates, progress="off")
    assert (found.default, found.name) == ("worst", "best")
    assert found.margin.low > 0.02 and found.sure == 1
    values = list(found.synthetic.values())
    assert values == sorted(values, reverse=True)
    assert "It beats the default, worst" in " ".join(found.lines())


def test_the_default_stays_where_the_others_are_no_better_than_noise():
    protocol = Protocol(threshold="oracle")
    variants = {
        "default": (Brightness(), protocol),
        "the same": (Brightness(2.0), protocol),
        "worse": (Brightness(-1.0), protocol),
    }
    found = choose(variants, Bright(40), Candidates(["unused"], images=8), progress="off")
    assert found.name == "default"
    assert not found.margin.enough
    assert "It is the default" in " ".join(found.lines())


def test_a_single_painted_image_leaves_the_default_and_says_that_it_tells_little():
    protocol = Protocol(threshold="oracle")
    variants = {"worst": (Brightness(-1.0), protocol), "best": (Brightness(), protocol)}
    candidates = Candidates(["unused"], images=1, area=(0.01, 0.05))
    found = choose(variants, Bright(40), candidates, progress="off")
    assert found.name == "worst" and found.margin.difference > 0.02
    assert found.to_dict()["margin"]["low"] is None
    assert "too few normal images (1)" in " ".join(found.lines())


def test_the_interval_of_the_best_holds_for_all_candidates_at_once():
    normal = torch.randn(20, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone, of_many = _reach(normal[:1], 10**6), _reach(normal, 10**6)
    # Two-sided quantiles of the largest of 1 and of 20 independent normal variables.
    assert alone == pytest.approx(norm.ppf(0.975), rel=0.05)
    assert of_many == pytest.approx(norm.ppf((1 + 0.95 ** (1 / 20)) / 2), rel=0.05)
    few = math.sqrt(5 / 4) * t.ppf(0.975, 4) / norm.ppf(0.975)
    assert _reach(normal, 5) == pytest.approx(few * of_many, rel=1e-3)
    assert math.isnan(_reach(normal, 1)) and _reach(torch.zeros(2, 9), 3) == 0


def test_a_choice_that_other_images_would_have_made_otherwise_says_so():
    margin = Margin("other", 0.05, -0.01, 0.11, 0.02)
    found = Choice("default", {"other": 0.9, "default": 0.85}, 6, "default", margin, sure=0.55)
    assert "This choice is unsure: only 55%" in found.warnings[0]
    assert found.warnings[0] in found.lines() and found.to_dict()["warnings"] == found.warnings


def test_areas_of_painted_images_equal_scikit_learns_on_all_and_on_resamples():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 16, 16, generator=generator)
    masks = torch.rand(6, 16, 16, generator=generator) < 0.2
    maps += 0.2 * masks

    counter = PaintedCounter(Entry("a", Brightness(), Protocol(threshold="oracle")), 3)
    batch = collate_samples(
        [
            Sample(m[None], k, 1, str(i), "")
            for i, (m, k) in enumerate(zip(maps, masks, strict=True))
        ]
    )
    counter.add(maps, ScoredBatch(range(6), batch, (16, 16), {}))
    weights = torch.tensor([[2.0, 1.0, 0.0]])
    area, drawn = counter.areas(weights)
    assert area == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-4)
    # Image 0 stands at the places 0 and 3, image 1 at 1 and 4.
    places = [0, 3, 0, 3, 1, 4]
    wanted = roc_auc_score(masks[places].ravel(), maps[places].ravel())
    assert float(drawn[0]) == pytest.approx(wanted, abs=1e-4)


def test_defects_painted_where_images_vary_compare_maps_of_one_scale(vae):
    candidates = Candidates(
        ["encoder.conv1"],
        families=["latent_attention"],
        scales=["none", "location"],
        smoothing=[0.0],
        images=4,
    )
    found = chosen(vae, candidates, Recorded(20))
    assert len(found.left_out) == 4 and not any("shrunk" in name for name in found.left_out)
    assert all("scale shrunk" in name for name in found.synthetic)
    assert "4 candidates of other scales were not chosen among" in " ".join(found.lines())
    beside = replace(candidates, families=["explained_residual", "latent_attention"])
    found = chosen(vae, beside, Recorded(20))
    assert len(found.left_out) == 2 and all("scale location" in name for name in found.left_out)
    anywhere = chosen(vae, replace(candidates, varying=1.0), Recorded(20))
    assert not anywhere.left_out and len(anywhere.synthetic) == 4
    with pytest.raises(ValueError, match="every candidate is scaled by location"):
        chosen(vae, replace(candidates, scales=["location"]), Recorded(20))


def test_defects_are_painted_on_images_that_nothing_was_fitted_on():
    kept, held_out = split_held_out(10, 0.2)
    assert held_out == [2, 7]
    assert kept == [0, 1, 3, 4, 5, 6, 8, 9]


def test_only_as_many_images_as_asked_for_are_read(vae):
    normal = Recorded(40)
    candidates = Candidates(layers=["encoder.conv2"], smoothing=[0.0], images=3)
    variants = candidate_scorers(candidates, vae)
    found = choose(variants, normal, candidates, normal_images=5, progress="off")
    assert found.painted == 3 * candidates.seeds
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
