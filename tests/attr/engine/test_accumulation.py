"""Aggregated maps a slice at a time: the same maps, in the memory of a slice."""

import itertools
from typing import get_args

import pytest
import torch
from torch import nn

from benchmarks.memory import peak_bytes
from captum_vae import LatentGradCAM
from captum_vae.attr.engine import accumulation
from captum_vae.attr.options import Aggregate, Order, Rectifier, Reduction, Weighting
from captum_vae.models import ConvVAE
from tests.attr.toys import ToyVAE, assert_equal

AGGREGATES = [aggregate for aggregate in get_args(Aggregate) if aggregate != "none"]
OPTIONS = [
    {"rectifier": rectifier, "order": order, "reduction": reduction, "weighting": weighting}
    for rectifier, order, reduction, weighting in itertools.product(
        get_args(Rectifier), get_args(Order), get_args(Reduction), get_args(Weighting)
    )
]


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("budget", [1, 600])
def test_slices_of_any_size_give_the_aggregate_of_all_maps(aggregate, budget, monkeypatch):
    """A slice is one image and dimension, several images, or several dimensions."""
    vae = ToyVAE()
    x = vae.images(3)
    cam = LatentGradCAM(vae, ["conv1", "act2"], dims_per_pass=2)
    for options in OPTIONS:
        every = cam.attribute(x, **options, size=5, n_steps=2)
        if options["order"] != "after_upsampling" and aggregate == "max":
            every = cam.attribute(x, **options, n_steps=2)
        wanted = [
            maps.amax(1, keepdim=True) if aggregate == "max" else getattr(maps, aggregate)(1, True)
            for maps in every
        ]
        monkeypatch.setattr(accumulation, "_SLICE", budget)
        size = None if every[0].shape[-1] == 6 else 5
        found = cam.attribute(x, **options, aggregate=aggregate, size=size, n_steps=2)
        monkeypatch.undo()
        for maps, own in zip(found, wanted, strict=True):
            assert_equal(maps, own, 1e-12)


class Large(nn.Module):
    """16 x 16 patches of an image to 128 latent dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 16, 16)
        self.fc_mu = nn.Linear(4, 128)

    def encode(self, x):
        return self.fc_mu(self.conv(x).square().mean((2, 3)))


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_authors_preset_at_1024_pixels_takes_64_mb_beside_its_result(aggregate):
    vae = Large().eval()
    x = torch.rand(2, 1, 1024, 1024)
    cam = LatentGradCAM(vae, "conv", posterior="encode:mean")
    kept = []

    def call():
        kept.append(cam.attribute(x, preset="authors", aggregate=aggregate, size="input"))

    call()
    peak = peak_bytes(call)
    assert kept[0].shape == (2, 1, 1024, 1024)
    assert peak - kept[0].nbytes < 64 * 2**20


def test_many_dimensions_need_no_square_of_their_number():
    dims = 2048
    vae = ConvVAE(dims, image_size=16, channels=(4, 8), hidden=8).eval()
    cam = LatentGradCAM(vae, "encoder.relu2")
    x = torch.rand(2, 1, 16, 16)
    maps = cam.attribute(x)
    assert peak_bytes(lambda: cam.attribute(x)) < dims * dims  # a quarter of D x D floats
    assert_equal(cam.attribute(x, target=[3, 2047]), maps[:, [3, 2047]], 1e-6)
