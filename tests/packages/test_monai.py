"""MONAI's VAE, AutoencoderKL and VQVAE, in two and three dimensions, small and untrained."""

import pytest
import torch

from captum_vae import DecoderAttribution, LatentGradCAM
from captum_vae.attr.reconstruction import reconstruct
from tests.attr.toys import assert_equal
from tests.packages.by_autograd import grad_cam

nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")


def images(dims: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 1, *[16] * dims, dtype=torch.float64)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_vae_gives_the_maps_of_float64_autograd(dims):
    torch.manual_seed(0)
    vae = nets.VarAutoEncoder(
        dims, (1, *[16] * dims), 1, latent_size=3, channels=(4, 8), strides=(2, 2)
    )
    vae, x = vae.double().eval(), images(dims)
    cam = LatentGradCAM(vae, "encode.encode_1")
    maps = cam.attribute(x)
    assert_equal(maps, grad_cam(lambda x: vae(x)[1], vae.encode.encode_1, x))
    assert "[1]" in repr(cam) and "log_variance" in repr(cam)
    # What decode puts out, forward returns through a sigmoid.
    wanted = vae.decode_forward(vae(x)[1], use_sigmoid=True)
    assert_equal(reconstruct(cam.posterior, (x,)), wanted.detach())


@pytest.mark.parametrize("dims", [2, 3])
def test_autoencoder_kl_is_explained_per_channel(dims):
    torch.manual_seed(0)
    vae = nets.AutoencoderKL(
        dims,
        in_channels=1,
        out_channels=1,
        num_res_blocks=(1, 1),
        channels=(8, 8),
        attention_levels=(False, False),
        latent_channels=3,
        norm_num_groups=4,
        with_encoder_nonlocal_attn=False,
        with_decoder_nonlocal_attn=False,
    )
    vae, x = vae.double().eval(), images(dims)
    layer = vae.encoder.blocks[1]
    cam = LatentGradCAM(vae, layer)
    assert_equal(
        cam.attribute(x), grad_cam(lambda x: vae.encode(x)[0].flatten(2).mean(2), layer, x)
    )

    def kl(x):
        mean, std = vae.encode(x)
        return (mean**2 + std**2 - 2 * std.log() - 1).flatten(2).sum(2) / 2

    assert_equal(LatentGradCAM(vae, layer, of="kl").attribute(x), grad_cam(kl, layer, x))
    assert_equal(reconstruct(cam.posterior, (x,)), vae.reconstruct(x).detach())
    assert DecoderAttribution(vae).attribute(x[:1]).shape == (1, 3, *[16] * dims)


def test_a_vq_model_is_explained_before_its_codebook():
    torch.manual_seed(0)
    vae = nets.VQVAE(
        2,
        in_channels=1,
        out_channels=1,
        channels=(8, 8),
        num_res_layers=1,
        num_res_channels=(8, 8),
        downsample_parameters=((2, 4, 1, 1),) * 2,
        upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        num_embeddings=16,
        embedding_dim=4,
    )
    vae, x = vae.double().eval(), images(2)
    layer = vae.encoder.blocks[0]
    maps = LatentGradCAM(vae, layer, posterior="encode:mean").attribute(x)
    assert_equal(maps, grad_cam(lambda x: vae.encode(x).mean((2, 3)), layer, x))
