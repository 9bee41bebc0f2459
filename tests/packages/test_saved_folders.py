"""Models that lie in a folder on disk as their library writes them, explained after loading."""

import pytest
import torch

from captum_vae import LatentGradCAM
from tests.packages.small_autoencoder import autoencoder_kl


def assert_same(before, after, layer, images):
    wanted = LatentGradCAM(before.eval(), layer).attribute(images)
    assert torch.equal(LatentGradCAM(after.eval(), layer).attribute(images), wanted)


def test_a_diffusers_folder(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    vae = autoencoder_kl()
    vae.save_pretrained(tmp_path)
    again = diffusers.AutoencoderKL.from_pretrained(tmp_path)
    assert_same(vae, again, "encoder.down_blocks.0", torch.rand(2, 1, 16, 16))


def test_a_diffusers_vq_folder(tmp_path):
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    torch.manual_seed(0)
    vae = diffusers.VQModel(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8,),
        latent_channels=3,
        num_vq_embeddings=16,
        norm_num_groups=4,
    )
    vae.save_pretrained(tmp_path)
    again, x = diffusers.VQModel.from_pretrained(tmp_path).eval(), torch.rand(2, 1, 16, 16)
    maps = [
        LatentGradCAM(model.eval(), "encoder.conv_in", posterior="encode:latents").attribute(x)
        for model in (vae, again)
    ]
    assert torch.equal(*maps) and maps[0].shape[:2] == (2, 3)


def test_a_pythae_folder(tmp_path):
    pythae = pytest.importorskip("pythae.models", reason="pythae is not installed")
    mnist = pytest.importorskip("pythae.models.nn.benchmarks.mnist")
    torch.manual_seed(0)
    config = pythae.VAEConfig(input_dim=(1, 28, 28), latent_dim=3)
    vae = pythae.VAE(config, encoder=mnist.Encoder_Conv_VAE_MNIST(config))
    vae.save(str(tmp_path))
    again = pythae.AutoModel.load_from_folder(str(tmp_path))
    assert_same(vae, again, "encoder.layers.2", torch.rand(2, 1, 28, 28))
