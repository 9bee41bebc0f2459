"""disent's beta-VAE, whose ``encode_dists`` gives the posterior as a distribution."""

import pytest
import torch

from captum_vae import LatentGradCAM
from tests.attr.toys import assert_equal
from tests.packages.by_autograd import grad_cam

vaes = pytest.importorskip("disent.frameworks.vae", reason="disent is not installed")
models = pytest.importorskip("disent.model", reason="disent is not installed")
autoencoders = pytest.importorskip("disent.model.ae", reason="disent is not installed")

LAYER = "_model._encoder.model.3"


def test_the_distribution_is_read_and_explained():
    torch.manual_seed(0)
    shape = (1, 64, 64)
    model = models.AutoEncoder(
        encoder=autoencoders.EncoderConv64(shape, z_size=3, z_multiplier=2),
        decoder=autoencoders.DecoderConv64(shape, z_size=3),
    )
    settings = vaes.BetaVae.cfg(optimizer="adam", optimizer_kwargs={"lr": 1e-3})
    vae = vaes.BetaVae(model=model, cfg=settings).double().eval()
    x = torch.rand(2, *shape, dtype=torch.float64)
    layer = vae.get_submodule(LAYER)
    cam = LatentGradCAM(vae, LAYER, posterior="encode_dists:[0]")
    assert_equal(cam.attribute(x), grad_cam(vae.encode, layer, x))

    def kl(x):
        posterior, prior = vae.encode_dists(x)
        return torch.distributions.kl_divergence(posterior, prior)

    of_kl = LatentGradCAM(vae, LAYER, of="kl", posterior="encode_dists:[0]")
    assert_equal(of_kl.attribute(x), grad_cam(kl, layer, x))
