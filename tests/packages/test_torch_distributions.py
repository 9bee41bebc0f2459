"""Encoders that return torch.distributions objects, or Pyro's (loc, scale)."""

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from captum_vae import LatentGradCAM, PosteriorAdapter
from tests.attr.toys import assert_equal
from tests.packages.by_autograd import grad_cam

D = 3


class Encoder(nn.Module):
    """conv, then a distribution over D dimensions made by ``wrap(loc, scale)``."""

    def __init__(self, wrap):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(64, 2 * D)
        self.wrap = wrap
        self.double().eval()

    def parameters_of(self, x):
        loc, raw = self.head(self.conv(x).relu().flatten(1)).chunk(2, 1)
        return loc, raw.exp()

    def forward(self, x):
        return self.wrap(*self.parameters_of(x))


WRAPS = {
    "Normal": Normal,
    "Independent": lambda loc, scale: Independent(Normal(loc, scale), 1),
    "MultivariateNormal": lambda loc, scale: MultivariateNormal(
        loc, scale_tril=torch.diag_embed(scale)
    ),
    "in a mapping": lambda loc, scale: {"q_z": Normal(loc, scale), "label": torch.zeros(len(loc))},
}


@pytest.fixture
def images():
    return torch.rand(2, 1, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("kind", WRAPS)
def test_three_lines_give_the_maps_of_float64_autograd(kind, images):
    model = Encoder(WRAPS[kind])
    cam = LatentGradCAM(model, "conv")
    maps = cam.attribute(images)
    assert_equal(maps, grad_cam(lambda x: model.parameters_of(x)[0], model.conv, images))
    assert "mean" in repr(cam.posterior) and "undecided" not in repr(cam.posterior)


@pytest.mark.parametrize("kind", WRAPS)
def test_the_kl_is_that_of_torch_distributions(kind, images):
    model = Encoder(WRAPS[kind])

    def kl(x):
        return kl_divergence(Normal(*model.parameters_of(x)), Normal(0.0, 1.0))

    found = LatentGradCAM(model, "conv", of="kl").attribute(images)
    assert_equal(found, grad_cam(kl, model.conv, images))


def test_pyros_loc_and_scale_are_read_when_the_spread_is_named(images):
    model = Encoder(lambda loc, scale: (loc, scale))
    adapter = PosteriorAdapter(model, read="0,1", spread="std")
    found = LatentGradCAM(model, "conv", posterior=adapter, of="log_variance").attribute(images)
    assert_equal(found, grad_cam(lambda x: 2 * model.parameters_of(x)[1].log(), model.conv, images))
