"""Many inputs that differ in a number per channel go through a kernel together."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM
from captum_vae.attr.engine import convolution
from captum_vae.attr.engine.convolution import Convolution


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request, monkeypatch):
    """Results that are made at once, and a few channels and places at a time."""
    if request.param == "many blocks":
        monkeypatch.setattr(convolution, "_VALUES_AT_ONCE", 60)
        monkeypatch.setattr(convolution, "_PLACES_AT_ONCE", 4)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("images", [(1, 1), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(
    ("kernel", "padding", "dilation"),
    [
        ((3,), (1,), (1,)),
        ((4, 4), (1, 1), (1, 1)),
        ((3, 2), (0, 1), (2, 1)),
        ((1, 1), (0, 0), (1, 1)),
        ((2, 3, 3), (1, 1, 0), (1, 2, 1)),
    ],
)
def test_scaled_channels_are_convolved_as_their_product(
    kernel, padding, dilation, transposed, images
):
    torch.manual_seed(0)
    channels = (5, 3) if transposed else (3, 5)
    weight = torch.randn(*channels, *kernel, dtype=torch.float64)
    stride, added = (1,) * len(kernel), (0,) * len(kernel)
    mapped = Convolution(weight, stride, padding, dilation, transposed, added, 1)
    u = torch.randn(images[0], 5, *(7, 6, 5)[: len(kernel)], dtype=torch.float64)
    scales = torch.randn(4, images[1], 5, dtype=torch.float64)
    inputs = scales.reshape(*scales.shape, *[1] * len(kernel)) * u
    expected = mapped(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
    torch.testing.assert_close(mapped.of_scaled_channels(u, scales), expected)


def test_only_many_rows_of_a_wide_kernel_go_through_it_together():
    def shares(kernel, rows, stride=1, groups=1):
        weight = torch.zeros(4, 4 // groups, kernel, kernel)
        two = (stride, stride)
        one = Convolution(weight, two, (0, 0), (1, 1), False, (0, 0), groups)
        return one.shares_one_kernel(rows)

    assert shares(3, 32)
    assert not shares(3, 8)
    assert not shares(1, 10_000)
    assert not shares(3, 32, stride=2)
    assert not shares(3, 32, groups=2)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Identity, nn.SELU])
@pytest.mark.parametrize("layer", ["0", "2"])
def test_pooled_encoders_have_the_gradients_of_autograd(layer, activation):
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Conv2d(2, 24, 3, padding=1),
        activation(),
        nn.Conv2d(24, 25, 3, padding=1),
        activation(),
        nn.Conv2d(25, 26, 3, padding=1),
        activation(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(26, 12),
    ).double()
    images = torch.randn(3, 2, 9, 8, dtype=torch.float64)
    cam = LatentGradCAM(encoder, layer, posterior="mean")
    found = cam.attribute(images)
    assert cam.explain_plan(images)[0].path == "convolved"
    features = encoder[: int(layer) + 1](images).detach().requires_grad_()
    codes = encoder[int(layer) + 1 :](features)
    for dim in (0, 7, 11):
        (slope,) = torch.autograd.grad(codes[:, dim].sum(), features, retain_graph=True)
        expected = (slope.mean((2, 3), keepdim=True) * features).sum(1).relu()
        torch.testing.assert_close(found[:, dim], expected.detach())


def test_codes_of_a_mean_over_channels_too_go_through_the_kernel_together(monkeypatch):
    asked = []

    def counted(self, u, scales):
        asked.append(scales.shape)
        return of_scaled_channels(self, u, scales)

    of_scaled_channels = Convolution.of_scaled_channels
    monkeypatch.setattr(Convolution, "of_scaled_channels", counted)
    torch.manual_seed(0)
    convolutions = nn.Sequential(
        *(nn.Conv2d(2, 24, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(24, 25, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(25, 26, 3, padding=1), nn.ReLU()),
    )

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.mean = convolutions, nn.Linear(1, 12)

        def forward(self, x):
            return self.mean(self.body(x).mean((1, 2, 3))[:, None])

    encoder, images = Pooled().double(), torch.randn(2, 2, 9, 8, dtype=torch.float64)
    found = LatentGradCAM(encoder, "body.1", posterior="mean").attribute(images)
    assert asked == [(12, 1, 26)] * len(asked)
    assert asked
    features = convolutions[:2](images).detach().requires_grad_()
    codes = encoder.mean(convolutions[2:](features).mean((1, 2, 3))[:, None])
    (slope,) = torch.autograd.grad(codes[:, 5].sum(), features)
    expected = (slope.mean((2, 3), keepdim=True) * features).sum(1).relu()
    torch.testing.assert_close(found[:, 5], expected.detach())
