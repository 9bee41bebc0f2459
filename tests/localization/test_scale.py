"""The scale at each location that scorers learn from normal images."""

import sys

import pytest
import torch

from captum_vae.localization import (
    FeatureDifference,
    LatentAttention,
    MeanImageDifference,
    ReconstructionError,
)
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.scoring import fit_scorers
from tests.attr.toys import SIDE, ToyVAE, assert_equal


@pytest.fixture
def vae():
    return ToyVAE()


def test_maps_are_divided_by_the_normal_root_mean_square_softened_by_a_tenth_of_its_mean(vae):
    normal, images = vae.images(11, seed=1), vae.images(3, seed=2)
    plain = LatentAttention(vae, "conv2", rectifier="abs", baselines="mean_activation").fit(normal)
    spread = plain.score(normal).square().mean(0).sqrt()
    wanted = plain.score(images) / (spread + 0.1 * spread.mean())

    scaled = LatentAttention(
        vae, "conv2", rectifier="abs", baselines="mean_activation", scale="location"
    )
    assert_equal(scaled.fit(normal).score(images), wanted)


def test_shrunk_maps_are_divided_by_the_location_and_the_mean_over_all_in_equal_parts(vae):
    normal, images = vae.images(11, seed=1), vae.images(3, seed=2)
    plain = MeanImageDifference(vae).fit(normal)
    spread = plain.score(normal).square().mean(0).sqrt()
    wanted = plain.score(images) / (spread + spread.mean())
    assert_equal(MeanImageDifference(vae, scale="shrunk").fit(normal).score(images), wanted)


def test_scorers_fitted_together_equal_scorers_fitted_alone(vae):
    normal, images = vae.images(11, seed=1), vae.images(3, seed=2)

    def make():
        return [
            MeanImageDifference(vae, scale="location"),
            FeatureDifference(vae, "conv1", scale="location"),
            ReconstructionError(vae),
        ]

    together = make()
    fit_scorers(together, ImageBatches(list(normal.split(4)), "normal"), "fitting")
    for one, other in zip(together, make(), strict=True):
        assert_equal(one.score(images), other.fit(normal).score(images), 1e-12)


def test_maps_that_are_zero_on_all_normal_images_have_no_scale(vae):
    normal = torch.ones(3, 2, SIDE, SIDE, dtype=torch.float64)
    with pytest.raises(ValueError, match="no scale; choose scale='none'"):
        MeanImageDifference(vae, scale="location").fit(normal)


def test_another_scale_is_refused(vae):
    with pytest.raises(ValueError, match="scale='pixel'"):
        ReconstructionError(vae, scale="pixel")


def candidates_of(vae):
    return [
        LatentAttention(vae, layers, rectifier="abs", baselines=baselines, scale=scale)
        for layers in ("conv1", "conv2", ["conv1", "conv2"])
        for baselines in ("mean_activation", "reconstruction")
        for scale in ("none", "location", "shrunk")
    ]


def test_fused_and_scaled_scorers_fitted_together_equal_those_fitted_alone(vae):
    normal, images = vae.images(11, seed=1), vae.images(3, seed=2)
    together = candidates_of(vae)
    fit_scorers(together, ImageBatches(list(normal.split(4)), "normal"), "fitting")
    for one, other in zip(together, candidates_of(vae), strict=True):
        assert_equal(one.score(images), other.fit(list(normal.split(4))).score(images), 1e-12)


def test_candidates_share_three_passes_over_the_normal_images_and_one_of_channel_weights(
    vae, monkeypatch
):
    """Means, then the scales of layers, then those of the locations of fused maps."""
    batches = list(vae.images(8, seed=1).split(4))
    read, weighted = [], []
    channel_weights = sys.modules["captum_vae.attr.engine.channel_weights"]
    pooled = channel_weights._pooled_weights
    monkeypatch.setattr(
        channel_weights, "_pooled_weights", lambda *a: weighted.append(1) or pooled(*a)
    )

    class Counted(list):
        def __iter__(self):
            read.append(1)
            return super().__iter__()

    fit_scorers(candidates_of(vae), ImageBatches(Counted(batches), "normal"), "fitting")
    assert len(read) == 3
    assert len(weighted) == 2 * len(batches)  # one per layer and batch
