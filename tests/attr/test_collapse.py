"""A posterior that ignores its input is explained with a warning."""

import warnings

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM
from captum_vae.posterior import CollapsedPosteriorWarning


class Encoder(nn.Module):
    """mean = spread * pooled features, log-variance 0: KL = mean^2 / 2."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.spread = spread

    def encode(self, x):
        pooled = self.conv(x).mean((2, 3)) + 1
        return self.spread * pooled, torch.zeros_like(pooled)


def test_explaining_a_collapsed_posterior_warns():
    model = Encoder(0.01).eval()
    with pytest.warns(CollapsedPosteriorWarning, match="carries no information"):
        LatentGradCAM(model, model.conv, posterior="encode:[0],[1]").attribute(
            torch.rand(4, 1, 8, 8)
        )


def test_explaining_an_informative_posterior_does_not_warn():
    model = Encoder(3.0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LatentGradCAM(model, model.conv, posterior="encode:[0],[1]").attribute(
            torch.rand(4, 1, 8, 8)
        )


def test_training_through_the_maps_does_not_warn_at_its_start():
    model = Encoder(0.01).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LatentGradCAM(model, model.conv, posterior="encode:[0],[1]").attribute(
            torch.rand(4, 1, 8, 8), create_graph=True
        )
