"""A posterior that ignores its input is explained with a warning."""

import gc
import warnings
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM
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


def warnings_of(*calls):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            call()
    return [warning for warning in caught if warning.category is CollapsedPosteriorWarning]


def test_a_collapsed_model_is_told_of_once_whatever_explains_it():
    model, other = Encoder(0.01).eval(), Encoder(0.01).eval()
    x = torch.rand(4, 1, 8, 8)
    first = LatentGradCAM(model, model.conv, posterior="encode:[0],[1]")
    second = MeanSumGradCAM(model, "conv", posterior="encode:[0],[1]")
    calls = [lambda cam=cam: cam.attribute(x) for cam in (first, first, second)]
    assert len(warnings_of(*calls)) == 1
    assert len(warnings_of(*calls)) == 0
    cam = LatentGradCAM(other, other.conv, posterior="encode:[0],[1]")
    assert len(warnings_of(lambda: cam.attribute(x))) == 1


def test_a_model_that_was_told_of_is_not_kept_alive():
    model = Encoder(0.01).eval()
    cam = LatentGradCAM(model, "conv", posterior="encode:[0],[1]")
    assert warnings_of(partial(cam.attribute, torch.rand(4, 1, 8, 8)))
    gone = weakref.ref(model)
    del model, cam
    gc.collect()
    assert gone() is None
