"""multivae's MVAE with its own convolutional encoders: one modality, and both together."""

import pytest
import torch

from captum_vae import LatentGradCAM
from tests.attr.toys import assert_equal
from tests.packages.by_autograd import grad_cam

models = pytest.importorskip("multivae.models", reason="multivae is not installed")
base = pytest.importorskip("multivae.models.base", reason="multivae is not installed")
mmnist = pytest.importorskip("multivae.models.nn.mmnist", reason="multivae is not installed")
datasets = pytest.importorskip("multivae.data.datasets.base", reason="multivae is not installed")


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    config = base.BaseAEConfig(latent_dim=16, input_dim=(3, 28, 28))
    names = ("red", "blue")
    return (
        models.MVAE(
            models.MVAEConfig(
                n_modalities=2, latent_dim=16, input_dims={name: (3, 28, 28) for name in names}
            ),
            encoders={name: mmnist.EncoderConvMMNIST(config) for name in names},
            decoders={name: mmnist.DecoderConvMMNIST(config) for name in names},
        )
        .double()
        .eval()
    )


def images():
    return torch.rand(2, 3, 28, 28, dtype=torch.float64)


def test_one_modalitys_encoder_is_a_model_of_its_own(vae):
    encoder, x = vae.encoders["red"], images()
    cam = LatentGradCAM(encoder, "shared_encoder.2")
    wanted = grad_cam(lambda x: encoder(x).embedding, encoder.shared_encoder[2], x)
    assert_equal(cam.attribute(x), wanted)
    assert "log_covariance" in repr(cam)


def test_the_joint_posterior_is_explained_through_one_modality(vae):
    red, blue = images(), images()
    layer = vae.encoders["red"].shared_encoder[2]

    def joint(red, blue):
        data = datasets.DatasetOutput(data={"red": red, "blue": blue})
        return vae.compute_mu_log_var_subset(data, ["red", "blue"])

    cam = LatentGradCAM(joint, layer, posterior="[0],[1]")
    wanted = grad_cam(lambda x: joint(x, blue)[0], layer, red)
    assert_equal(cam.attribute((red, blue)), wanted)
