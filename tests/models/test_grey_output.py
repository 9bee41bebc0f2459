"""The transposed convolution to one channel equals PyTorch's, in value and gradient."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_vae.models.grey_output import DoubledToGrey, doubles_to_grey


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 4)])
def test_value_and_gradients_are_those_of_conv_transpose2d(size):
    torch.manual_seed(0)
    x = torch.randn(3, 6, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    ours, theirs = DoubledToGrey.apply(x, weight), F.conv_transpose2d(x, weight, None, 2, 1)
    torch.testing.assert_close(ours, theirs)
    cotangent = torch.randn_like(theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (x, weight), cotangent),
        torch.autograd.grad(theirs, (x, weight), cotangent),
    )


@pytest.mark.parametrize(
    ("layer", "fits"),
    [
        (nn.ConvTranspose2d(8, 1, 4, 2, 1), True),
        (nn.ConvTranspose2d(8, 3, 4, 2, 1), False),
        (nn.ConvTranspose2d(8, 1, 4, 2, 1, output_padding=1), False),
        (nn.ConvTranspose2d(8, 1, 3, 2, 1), False),
        (nn.Conv2d(8, 1, 4, 2, 1), False),
    ],
)
def test_only_the_layer_that_it_computes_is_recognised(layer, fits):
    assert doubles_to_grey(layer) is fits
