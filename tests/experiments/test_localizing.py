"""What an experiment measures of its VAEs, against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from captum_vae.data.sample import Sample, collate_samples
from captum_vae.experiments.localizing import explained, explained_variance, unlearned


class Shrinks:
    """Reconstructs an image as a multiple of itself."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def reconstruct(self, images: Tensor) -> Tensor:
        return images * self.factor


def batches(*values: float) -> list[object]:
    """Grey images of two pixels, in batches of two."""
    samples = [
        Sample(torch.full((1, 1, 2), value), None, 0, str(value), "good") for value in values
    ]
    return [collate_samples(samples[start : start + 2]) for start in range(0, len(samples), 2)]


@pytest.mark.parametrize(
    ("factor", "share"),
    [
        (1.0, 1.0),
        # 0, 1, 2 lie 1 + 0 + 1 around their mean; halved, each is off by half of itself.
        (0.5, 1 - (0.25 + 1) / 2),
        (0.0, 1 - (1 + 4) / 2),
    ],
)
def test_explained_variance_compares_with_the_mean_image(factor: float, share: float) -> None:
    found = explained_variance(Shrinks(factor), batches(0, 1, 2), torch.device("cpu"))
    assert found == pytest.approx(share)


def test_it_is_undefined_without_spread_and_then_tests_nothing() -> None:
    found = explained_variance(Shrinks(1.0), batches(1, 1), torch.device("cpu"))
    assert math.isnan(found)
    assert unlearned({"bottle": {"explained_variance": found}})


def test_a_vae_worse_than_the_mean_image_is_a_doubt() -> None:
    cells = {"bottle": {"explained_variance": -9.8}, "Ped2": {"explained_variance": 0.227}}
    (doubt,) = unlearned(cells)
    assert "the VAE of bottle" in doubt and "-9.80" in doubt
    assert "bottle -9.80, Ped2 0.23." in explained(cells)
