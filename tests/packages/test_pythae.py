"""pythae's own VAE with its own convolutional encoder."""

import pytest
import torch

from captum_vae import DecoderAttribution, LatentGradCAM, MeanSumGradCAM
from tests.attr.toys import assert_equal
from tests.packages.by_autograd import grad_cam, jacobian, random_batch_norms

models = pytest.importorskip("pythae.models")
mnist = pytest.importorskip("pythae.models.nn.benchmarks.mnist")

D = 3
LAYERS = ["encoder.layers.0", "encoder.layers.1.0"]


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    config = models.VAEConfig(input_dim=(1, 28, 28), latent_dim=D)
    encoder, decoder = mnist.Encoder_Conv_VAE_MNIST(config), mnist.Decoder_Conv_AE_MNIST(config)
    model = models.VAE(config, encoder=encoder, decoder=decoder)
    return random_batch_norms(model).double().eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 1, 28, 28, dtype=torch.float64)


@pytest.mark.parametrize("layer", LAYERS)
def test_three_lines_give_the_maps_of_float64_autograd(vae, images, layer):
    cam = LatentGradCAM(vae, layer)
    maps = cam.attribute(images)
    wanted = grad_cam(lambda x: vae.encoder(x).embedding, vae.get_submodule(layer), images)
    assert_equal(maps, wanted)
    assert "call='encoder'" in repr(cam) and "embedding" in repr(cam)


def test_the_kl_and_the_sum_are_explained(vae, images):
    def kl(x):
        out = vae.encoder(x)
        spread = out.log_covariance
        return (out.embedding**2 + spread.exp() - spread - 1) / 2

    layer = vae.encoder.layers[1]
    assert_equal(LatentGradCAM(vae, layer, of="kl").attribute(images), grad_cam(kl, layer, images))
    summed = MeanSumGradCAM(vae, layer).attribute(images)
    wanted = grad_cam(lambda x: vae.encoder(x).embedding.sum(1, keepdim=True), layer, images)
    assert_equal(summed, wanted)


def test_what_the_dimensions_write_is_the_jacobian_of_its_decoder(vae, images):
    found = DecoderAttribution(vae).attribute(images[:1])
    mean = vae.encoder(images[:1]).embedding.detach()
    # The middle row of the image alone: 28 backward passes, not 784.
    wanted = jacobian(lambda z: vae.decoder(z).reconstruction[:, 0, 14], mean)
    assert_equal(found[:, :, 14], wanted.transpose(1, 2))
