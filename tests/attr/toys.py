"""Small VAEs in float64 and the references that the attribution tests compare with."""

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

D = 3
"""Latent dimensions of every toy."""

SIDE = 6
"""Positions along each axis of a toy's input; its second convolution halves them."""

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class ToyVAE(nn.Module):
    """conv1, act1, conv2, act2, flatten, fc, act3, then mean and log-variance; with a decoder.

    Inputs are (B, 2, 6), (B, 2, 6, 6) or (B, 2, 6, 6, 6); conv1 gives 3 channels at full size,
    conv2 gives 4 at half of it.
    """

    def __init__(self, axes: int = 2, activation=nn.ReLU, **activation_options) -> None:
        super().__init__()
        conv = _CONV[axes]
        self.shape = (2, *(SIDE,) * axes)
        self.conv1 = conv(2, 3, 3, padding=1)
        self.act1 = activation(**activation_options)
        self.conv2 = conv(3, 4, 3, stride=2, padding=1)
        self.act2 = activation(**activation_options)
        self.fc = nn.Linear(4 * (SIDE // 2) ** axes, 8)
        self.act3 = activation(**activation_options)
        self.fc_mu = nn.Linear(8, D)
        self.fc_logvar = nn.Linear(8, D)
        self.to_image = nn.Linear(D, 2 * SIDE**axes)
        nn.init.constant_(self.fc.bias, 0.5)  # so that no seed gives a dead hidden layer
        self.double().eval()

    def trunk(self, x: Tensor) -> Tensor:
        features = self.act2(self.conv2(self.act1(self.conv1(x))))
        return self.act3(self.fc(features.flatten(1)))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(x)
        return self.fc_mu(hidden), self.fc_logvar(hidden)

    def decode(self, z: Tensor) -> Tensor:
        return self.to_image(z).unflatten(1, self.shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = self.encode(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu) if self.training else mu
        return self.decode(z), mu, logvar

    def images(self, count: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(count, *self.shape, generator=generator, dtype=torch.float64)


def captum_loop(mean_of, layer: nn.Module, x: Tensor, dims: int, relu: bool = True, **options):
    """D calls of Captum's own Grad-CAM on a wrapped encoder, (B, D, *spatial)."""
    cam = LayerGradCam(mean_of, layer)
    maps = [
        cam.attribute(x, target=d, relu_attributions=relu, **options).detach() for d in range(dims)
    ]
    return torch.cat(maps, 1)


def features_and_gradients(mean_of, layer: nn.Module, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    """A (B, K, *spatial), and d mean[b, d] / d A[b] as (B, D, K, *spatial), one d at a time."""
    kept = []

    def keep(_module, _inputs, output):
        kept.append(output)
        return output.clone()

    handle = layer.register_forward_hook(keep)
    try:
        mean = mean_of(*inputs)
    finally:
        handle.remove()
    (features,) = kept
    gradients = [
        torch.autograd.grad(mean[:, d].sum(), features, retain_graph=True)[0]
        for d in range(mean.shape[1])
    ]
    return features.detach(), torch.stack(gradients, 1)


def assert_equal(found: Tensor, wanted: Tensor, relative: float = 1e-10) -> None:
    """Same shape, and nowhere further apart than ``relative`` times the largest value wanted."""
    assert found.shape == wanted.shape, (tuple(found.shape), tuple(wanted.shape))
    scale = wanted.abs().max().item()
    assert scale > 0, "the reference is zero everywhere, so it proves nothing"
    worst = (found - wanted).abs().max().item()
    assert worst <= relative * scale, f"off by {worst / scale:.1e} of the largest value"
