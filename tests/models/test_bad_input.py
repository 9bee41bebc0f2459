"""What models cannot be built of or called with: an error that names the argument."""

import numpy as np
import pytest
import torch

from captum_vae.models import (
    MNISTVAE,
    UCSDVAE,
    ConvVAE,
    FactorDiscriminator,
    FactorVAE,
    ResNet18VAE,
    TimmVAE,
    build_model,
)

SMALL = {"image_size": 16, "channels": (4, 6), "hidden": 8}

WHOLE_NUMBERS = [0, -3, 2.5, 2.0, "8", True, None, [8], np.nan, 1j, {}, torch.rand(2)]

SIZES = [0, -1, 20.5, "64", b"64", True, None, (), (8,), (1, 2, 3), (8, 0), (8, 8.0), {8}, "88"]

WIDTHS = [(), [], (4, -1), (4, 2.5), (4, True), 4, None, "48", {4}, (4, "8"), [[4]], np.ones(2)]

WORDS = ["", "Sigmoid", "tanh", None, 1, True, ["sigmoid"], ("sigmoid",), np.array(["a", "b"])]

BUILT = [
    *[(ConvVAE, "latent_dims", value) for value in WHOLE_NUMBERS],
    *[(MNISTVAE, "in_channels", value) for value in WHOLE_NUMBERS],
    *[(ConvVAE, "hidden", value) for value in WHOLE_NUMBERS if value is not None],
    *[(ConvVAE, "image_size", value) for value in SIZES],
    *[(UCSDVAE, "image_size", value) for value in SIZES],
    *[(ConvVAE, "channels", value) for value in WIDTHS],
    *[(ConvVAE, "output", value) for value in WORDS],
    *[(FactorVAE, "latent", value) for value in WORDS],
    *[(ConvVAE, "norm", value) for value in WORDS],
    *[(FactorDiscriminator, "layers", value) for value in WHOLE_NUMBERS],
    *[(FactorDiscriminator, "slope", value) for value in ("0.2", None, True, np.nan, np.inf)],
    *[(TimmVAE, "decoder_channels", value) for value in WIDTHS],
    *[(TimmVAE, "backbone", value) for value in (3, None, ["resnet18"], "")],
    *[(TimmVAE, "feature_layer", value) for value in (3, True, ["layer4"], "layer9")],
    *[(TimmVAE, "pretrained", value) for value in ("yes", 1, None)],
    *[(TimmVAE, "head", value) for value in WORDS],
    *[(ResNet18VAE, "input_scale", value) for value in WORDS if value is not None],
]


@pytest.mark.parametrize(("model", "argument", "value"), BUILT)
def test_a_bad_argument_of_a_model_is_named(model, argument, value):
    with pytest.raises((ValueError, TypeError), match=argument):
        model(**{argument: value})


@pytest.mark.parametrize("name", [3, None, ["mnist"], ("mnist",), "mnits", ""])
def test_a_model_that_is_not_registered_is_refused(name):
    with pytest.raises((ValueError, TypeError), match="name=|no model|unknown|mnist"):
        build_model(name)


@pytest.fixture(scope="module")
def vae():
    return ConvVAE(3, **SMALL).eval()


NO_IMAGES = [
    None,
    3,
    [[0.0]],
    np.zeros((2, 1, 16, 16), np.float32),
    torch.zeros(2, 1, 16, 16, dtype=torch.uint8),
    torch.zeros(2, 1, 16, 16, dtype=torch.bool),
    torch.zeros(2, 1, 16, 16, dtype=torch.complex64),
    torch.zeros(2, 3, 16, 16),
    torch.zeros(1, 16, 16),
    torch.zeros(2, 1, 16, 17),
    torch.zeros(()),
]


@pytest.mark.parametrize("x", NO_IMAGES, ids=repr)
def test_what_is_no_batch_of_images_is_refused(vae, x):
    for call in (vae, vae.encode, vae.reconstruct):
        with pytest.raises((ValueError, TypeError), match="^x "):
            call(x)


@pytest.mark.parametrize(
    "z", [None, 3, [0.0] * 3, np.zeros((2, 3)), torch.zeros(2, 4), torch.zeros(3).long()], ids=repr
)
def test_what_is_no_latent_is_refused(vae, z):
    with pytest.raises((ValueError, TypeError), match="^z "):
        vae.decode(z)
    with pytest.raises((ValueError, TypeError), match="^z "):
        FactorDiscriminator(3, hidden=4, layers=1)(z)


def test_a_sample_needs_moments_of_one_shape(vae):
    with pytest.raises(ValueError, match=r"mean has shape \(2, 3\) and log_variance \(1, 3\)"):
        vae.reparameterize(torch.zeros(2, 3), torch.zeros(1, 3))
