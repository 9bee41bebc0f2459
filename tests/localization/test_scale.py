"""The scale at each location that scorers learn from normal images."""

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
