"""Data-dependent initialization: unit variance where it is promised, nothing else touched."""

import pytest
import torch
from torch import Tensor, nn

from captum_vae.models import GaussianVAE, build_model
from captum_vae.training.initialization import standardize_encoder

IMAGES = 0.5 + 0.01 * torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
"""Images that resemble each other: the case that it is for."""


def model(name: str = "conv", **options: object) -> GaussianVAE:
    torch.manual_seed(0)
    settings = {"channels": [4, 8], "hidden": 16} if name == "conv" else {}
    return build_model(name, **{"image_size": 16, "latent_dims": 4, **settings, **options})


def assert_standard(values: Tensor) -> None:
    torch.testing.assert_close(values.mean(1), torch.zeros(len(values)), atol=1e-3, rtol=0)
    torch.testing.assert_close(values.std(1), torch.ones(len(values)), atol=1e-3, rtol=0)


def test_posterior_means_spread_like_the_prior() -> None:
    vae = model()
    before = vae.encode(IMAGES)[0].std(0).max()
    standardize_encoder(vae, IMAGES)
    assert before < 0.02
    assert_standard(vae.encode(IMAGES)[0].detach().T)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc1"])
def test_every_encoder_layer_is_standardized(layer: str) -> None:
    vae, seen = model(), []
    standardize_encoder(vae, IMAGES)
    vae.encoder.get_submodule(layer).register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    vae.encode(IMAGES)
    assert_standard(seen[0].movedim(1, 0).flatten(1))


def test_spatial_latent_is_standardized_per_channel() -> None:
    vae = model(latent="spatial")
    standardize_encoder(vae, IMAGES)
    assert_standard(vae.encode(IMAGES)[0].detach().movedim(1, 0).flatten(1))


def test_decoder_and_log_variance_keep_their_weights() -> None:
    vae, untouched = model(), model().state_dict()
    standardize_encoder(vae, IMAGES)
    for name, weight in vae.state_dict().items():
        if name.startswith(("decoder", "log_variance")):
            assert torch.equal(weight, untouched[name])


def test_no_hook_and_no_gradient_is_left_behind() -> None:
    vae = model()
    standardize_encoder(vae, IMAGES)
    assert not any(module._forward_hooks for module in vae.modules())
    assert all(p.requires_grad and p.grad is None for p in vae.parameters())


def test_constant_channel_is_centred_and_stays_finite() -> None:
    vae = model()
    convolution = vae.encoder.get_submodule("conv1")
    nn.init.zeros_(convolution.get_parameter("weight"))
    standardize_encoder(vae, IMAGES)
    assert all(parameter.isfinite().all() for parameter in vae.parameters())
    assert vae.encode(IMAGES)[0].isfinite().all()
