"""The decoder's derivative and its training gradient behind every norm and activation of torch."""

import pytest
import torch
from torch import nn

from captum_vae import DecoderAttribution

CHANNELS = 4
MODULES = {
    **{
        name: getattr(nn, name)
        for name in (
            "CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish "
            "PReLU RReLU ReLU ReLU6 SELU Sigmoid SiLU Softplus Softshrink Softsign Tanh Tanhshrink"
        ).split()
    },
    "GELU tanh": lambda: nn.GELU("tanh"),
    "GLU": lambda: nn.Sequential(nn.Conv2d(CHANNELS, 2 * CHANNELS, 1), nn.GLU(1)),
    "Threshold": lambda: nn.Threshold(0.1, 0.3),
    "Softmax": lambda: nn.Softmax(1),
    "Softmin": lambda: nn.Softmin(1),
    "LogSoftmax": lambda: nn.LogSoftmax(1),
    "Softmax2d": nn.Softmax2d,
    "BatchNorm2d": lambda: nn.BatchNorm2d(CHANNELS),
    "GroupNorm": lambda: nn.GroupNorm(2, CHANNELS),
    "GroupNorm of one group": lambda: nn.GroupNorm(1, CHANNELS),
    "InstanceNorm2d": lambda: nn.InstanceNorm2d(CHANNELS),
    "InstanceNorm2d affine": lambda: nn.InstanceNorm2d(CHANNELS, affine=True),
    "InstanceNorm2d tracking": lambda: nn.InstanceNorm2d(
        CHANNELS, affine=True, track_running_stats=True
    ),
    "LayerNorm": lambda: nn.LayerNorm([CHANNELS, 3, 3]),
    "LayerNorm of rows": lambda: nn.LayerNorm(3),
    "LayerNorm without weights": lambda: nn.LayerNorm(3, elementwise_affine=False),
    "RMSNorm": lambda: nn.RMSNorm([CHANNELS, 3, 3]),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(3, alpha=0.5),
    "encoder layer": lambda: nn.Sequential(
        nn.Flatten(1, 2),
        nn.TransformerEncoderLayer(3, 1, 5, dropout=0.0, batch_first=True),
        nn.Unflatten(1, (CHANNELS, 3)),
    ),
}


class VAE(nn.Module):
    """A decoder with something curved on both sides of the module under test."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.encoder = nn.Linear(9, 4)
        self.decoder = nn.Sequential(
            nn.Linear(2, CHANNELS * 9),
            nn.Tanh(),
            nn.Unflatten(1, (CHANNELS, 3, 3)),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
            module,
            nn.Conv2d(CHANNELS, 1, 1),
            nn.Sigmoid(),
        )
        for parameter in module.parameters():
            nn.init.uniform_(parameter, 0.3, 1.2)
        for norm in self.modules():
            if getattr(norm, "running_var", None) is not None:
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2)
        self.double().eval()

    def encode(self, x):
        return self.encoder(x.flatten(1)).chunk(2, 1)

    def decode(self, z):
        return self.decoder(z)


def case(name):
    torch.manual_seed(3)
    vae = VAE(MODULES[name]())
    x = 2 * torch.randn(2, 1, 3, 3, dtype=torch.float64)
    return vae, x, DecoderAttribution(vae, posterior="encode:[0],[1]")


@pytest.mark.parametrize("name", MODULES)
def test_the_derivative_equals_differences_of_reconstructions(name):
    vae, x, cam = case(name)
    step = 1e-5
    with torch.no_grad():
        mean = vae.encode(x)[0]
        moves = step * torch.eye(2, dtype=torch.float64)
        pairs = [vae.decode(mean + move) - vae.decode(mean - move) for move in moves]
    wanted = torch.stack([pair[:, 0] for pair in pairs], 1) / (2 * step)
    for create_graph in (False, True):
        found = cam.attribute(x, create_graph=create_graph).detach()
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", MODULES)
def test_a_loss_on_the_derivative_trains_as_finite_differences_say(name):
    vae, x, cam = case(name)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64)

    def loss(create_graph=False):
        maps = cam.attribute(x, create_graph=create_graph)
        return (maps * weight).sum() + maps.square().sum()

    parameters = [vae.encoder.weight, *vae.decoder.parameters()]
    gradients = torch.autograd.grad(loss(create_graph=True), parameters, allow_unused=True)
    step = 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn_like(parameter)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
                values.append(loss().item())
                parameter -= sign * step * direction
        wanted = torch.tensor((values[0] - values[1]) / (2 * step), dtype=torch.float64)
        found = torch.zeros_like(wanted) if gradient is None else (gradient * direction).sum()
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


def test_an_operation_that_torch_differentiates_once_is_refused():
    torch.manual_seed(0)
    cam = DecoderAttribution(VAE(nn.CrossMapLRN2d(3)), posterior="encode:[0],[1]")
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    for create_graph in (False, True):
        with pytest.raises(ValueError, match="take change='traversal'"):
            cam.attribute(x, create_graph=create_graph)
    assert cam.attribute(x, change="traversal").shape == (2, 2, 3, 3)


def test_a_layer_norm_that_cannot_be_written_out_is_refused():
    class Direct(nn.Module):
        def forward(self, x):
            return torch.ops.aten.native_layer_norm(x, [3], None, None, 1e-5)[0]

    cam = DecoderAttribution(VAE(Direct()), posterior="encode:[0],[1]")
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="NativeLayerNormBackward0"):
        cam.attribute(x, create_graph=True)
    assert cam.attribute(x).shape == (2, 2, 3, 3)
