"""diffusers' AutoencoderKL, small and with random weights: a spatial latent (B, C, h, w)."""

import pytest
import torch

from captum_vae import DecoderAttribution, LatentGradCAM
from captum_vae.posterior import PosteriorAdapter
from tests.attr.toys import assert_equal
from tests.packages.by_autograd import grad_cam, jacobian
from tests.packages.small_autoencoder import autoencoder_kl

pytest.importorskip("diffusers")

LAYERS = ["encoder.conv_in", "encoder.down_blocks.0", "encoder.mid_block"]


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return autoencoder_kl().double().eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 1, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("layer", LAYERS)
def test_three_lines_give_the_maps_of_float64_autograd_per_channel(vae, images, layer):
    cam = LatentGradCAM(vae, layer)
    maps = cam.attribute(images)
    wanted = grad_cam(
        lambda x: vae.encode(x).latent_dist.mean.mean((2, 3)), vae.get_submodule(layer), images
    )
    assert_equal(maps, wanted)
    assert "latent_dist.mean" in repr(cam)


def test_one_location_of_the_latent_is_explained(vae, images):
    found = LatentGradCAM(vae, "encoder.conv_in", location=(1, 2)).attribute(images)
    adapter = PosteriorAdapter(vae, spatial=(1, 2))
    wanted = grad_cam(
        lambda x: vae.encode(x).latent_dist.mean[:, :, 1, 2], vae.encoder.conv_in, images
    )
    assert_equal(found, wanted)
    read_there = LatentGradCAM(vae, "encoder.conv_in", posterior=adapter)
    assert_equal(read_there.attribute(images), wanted)


def test_the_kl_of_a_channel_is_its_share_of_the_models_own_kl(vae, images):
    def kl(x):
        latent = vae.encode(x).latent_dist
        return 0.5 * (latent.mean**2 + latent.var - 1 - latent.logvar).sum((2, 3))

    with torch.no_grad():
        torch.testing.assert_close(kl(images).sum(1), vae.encode(images).latent_dist.kl())
    found = LatentGradCAM(vae, "encoder.conv_in", of="kl").attribute(images)
    assert_equal(found, grad_cam(kl, vae.encoder.conv_in, images))


def test_what_a_channel_writes_is_the_jacobian_of_its_decoder(vae, images):
    found = DecoderAttribution(vae).attribute(images)
    mean = vae.encode(images).latent_dist.mean.detach()
    wanted = jacobian(lambda z: vae.decode(z).sample, mean).sum((-1, -2)).movedim(-1, 1)
    assert_equal(found, wanted.mean(2))
