"""LinearFeatureVAE: a closed-form VAE of features that everything else of the package takes."""

import json

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from captum_vae.attr import LatentGradCAM, MeanActivation, MeanSumGradCAM, NormalDifferenceGradCAM
from captum_vae.explain.explaining import explain, list_layers
from captum_vae.metrics.activity import active_dimensions
from captum_vae.models import FrozenFeatures, LinearFeatureVAE, build_model
from tests.models.test_frozen_features import OwnEncoder, own


def scenes(count: int, size: int = 32) -> torch.Tensor:
    """Images whose brightness and slope vary, with noise: two directions that vary together."""
    across = torch.linspace(-1, 1, size)
    codes = torch.randn(count, 2, 1, 1, 1)
    images = 0.5 + 0.1 * codes[:, 0] + 0.1 * codes[:, 1] * across
    return (images + 0.01 * torch.randn(count, 3, size, size)).clamp(0, 1)


@pytest.fixture
def normal() -> torch.Tensor:
    return scenes(40)


@pytest.fixture
def vae(normal) -> LinearFeatureVAE:
    return LinearFeatureVAE.fit(own(), normal, 3, layers=["first", "second"])


def test_it_is_the_linear_vae_of_the_standardised_features(normal, vae):
    features = FrozenFeatures(own(), ["first", "second"], image_size=32)
    features.load_state_dict(vae.features.state_dict())
    flat = features(normal).flatten(1).double()
    covariance = (flat - flat.mean(0)).T @ (flat - flat.mean(0)) / len(flat)
    values = torch.linalg.eigvalsh(covariance).flip(0)
    torch.testing.assert_close(vae.latent.eigenvalues.double(), values[:3], rtol=1e-4, atol=0)
    noise = values[3:].sum() / (len(values) - 3)
    torch.testing.assert_close(vae.latent.noise.double(), noise, rtol=1e-3, atol=0)
    reconstruction, mean, log_variance = vae(normal)
    torch.testing.assert_close(reconstruction, vae.explained(vae.features(normal)))
    torch.testing.assert_close(vae.target(normal), vae.features(normal))
    assert mean.shape == log_variance.shape == (40, 3)


class ByNumber:
    """A data set that is none of PyTorch's."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        return self.images[place], "a label"


@pytest.mark.parametrize("kind", ["tensor", "loader", "dataset", "by number", "list", "generator"])
def test_images_may_come_in_anything_that_holds_them(normal, vae, kind):
    images = {
        "tensor": normal,
        "loader": DataLoader(TensorDataset(normal, torch.zeros(40)), batch_size=9),
        "dataset": TensorDataset(normal),
        "by number": ByNumber(normal),
        "list": list(normal.split(13)),
        "generator": (batch for batch in normal.split(13)),
    }[kind]
    torch.manual_seed(0)
    encoder = OwnEncoder()
    encoder.load_state_dict(
        {
            name.removeprefix("encoder."): value
            for name, value in vae.features.state_dict().items()
            if name.startswith("encoder.")
        }
    )
    other = LinearFeatureVAE.fit(encoder, images, 3, layers=["first", "second"])
    torch.testing.assert_close(other.latent.eigenvalues, vae.latent.eigenvalues)


def test_features_beyond_memory_pass_the_encoder_again(normal, vae):
    size = vae.features(normal[:1]).numel() * 4
    other = LinearFeatureVAE.fit(
        vae.features, list(normal.split(8)), 3, memory_gb=2 * 20 * size / 1e9
    )
    torch.testing.assert_close(other.latent.eigenvalues, vae.latent.eigenvalues, rtol=0.05, atol=0)
    torch.testing.assert_close(other.features.channel_mean, vae.features.channel_mean)


def test_a_config_through_json_and_a_state_dict_rebuild_it(normal):
    vae = LinearFeatureVAE.fit("test_resnet", normal, layers=["layer1"])
    config = json.loads(json.dumps(vae.config))
    twin = build_model("linear_features", **config).eval()
    twin.load_state_dict(vae.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(vae(normal), twin(normal), strict=True))
    assert twin.config == vae.config
    assert config["latent_dims"] == vae.latent_dims


def test_all_dimensions_are_active(normal, vae):
    assert active_dimensions(*vae.encode(normal)).count == 3


def test_attributions_take_it_in_closed_form(normal, vae):
    cam = LatentGradCAM(vae, "features")
    assert cam.attribute(normal[:4]).shape == (4, 3, 16, 16)
    (plan,) = cam.explain_plan(normal[:4])
    assert plan.path == "pooled"
    assert MeanSumGradCAM(vae, vae.features).attribute(normal[:4]).shape == (4, 1, 16, 16)
    inner = LatentGradCAM(vae, "features.encoder.first").attribute(normal[:4])
    assert inner.shape == (4, 3, 16, 16)
    difference = NormalDifferenceGradCAM(vae, "features").fit([normal])
    assert difference.attribute(normal[:4]).shape == (4, 1, 16, 16)


def test_explain_shows_what_every_principal_latent_reads(normal, vae):
    explanation = explain(vae, normal[:4], "features")
    assert explanation.maps.shape == (4, 3, 16, 16)
    assert explanation.kl.shape == (4, 3)
    assert any(layer.name == "features" and layer.path for layer in list_layers(vae).layers)


def test_it_has_no_reconstruction_of_the_image_and_says_so(normal, vae):
    with pytest.raises(ValueError, match="decodes features, not images"):
        LatentGradCAM(vae, "features").attribute(normal[:2], baselines="reconstruction")


def test_a_difference_is_explained_plus_unexplained_exactly():
    """|D|^2 / s2 = D' C^-1 D + sum_d (e_d . D / sigma_d)^2, with e_d as LatentGradCAM takes it."""
    normal, x = scenes(60).double(), torch.rand(5, 3, 32, 32, dtype=torch.float64)
    vae = LinearFeatureVAE.fit(own().double(), normal, 4, layers=["first", "second"], grid=4)
    cam = LatentGradCAM(vae, "features")
    mean = MeanActivation().fit(cam, normal.split(16))
    gradient_times_difference = cam.attribute(
        x, weighting="elementwise", rectifier="none", reduction="none", baselines=mean
    )
    read = gradient_times_difference.flatten(2).sum(2)
    sigma = vae.encode(x)[1].mul(0.5).exp()

    difference = (vae.features(x) - mean.features[0]).flatten(1)
    latent = vae.latent
    loadings = latent.directions.T * (latent.eigenvalues - latent.noise).sqrt()
    identity = torch.eye(len(loadings), dtype=torch.float64)
    covariance = loadings @ loadings.T + latent.noise * identity
    mahalanobis = (difference * torch.linalg.solve(covariance, difference.T).T).sum(1)

    control = difference.square().sum(1) / latent.noise
    torch.testing.assert_close(
        control, mahalanobis + (read / sigma).square().sum(1), rtol=1e-10, atol=0
    )


def test_the_split_holds_at_every_place():
    """Delta . (A - explained) is the likelihood's part, Delta . (explained - mean) the latent's."""
    normal, x = scenes(60).double(), torch.rand(5, 3, 32, 32, dtype=torch.float64)
    vae = LinearFeatureVAE.fit(own().double(), normal, 4, layers=["first", "second"])
    cam = LatentGradCAM(vae, "features")
    mean = MeanActivation().fit(cam, normal.split(16))
    maps = cam.attribute(x, weighting="elementwise", rectifier="none", baselines=mean)
    variance = vae.encode(x)[1].exp()[:, :, None, None]
    read = maps.sum((2, 3), keepdim=True)
    attention = vae.latent.noise * (read * maps / variance).sum(1)
    features = vae.features(x)
    difference, explained = features - vae.latent.mean, vae.explained(features)
    torch.testing.assert_close(
        attention, (difference * (explained - vae.latent.mean)).sum(1), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        difference.square().sum(1), (difference * (features - explained)).sum(1) + attention
    )


@pytest.mark.parametrize(
    ("images", "options", "error", "words"),
    [
        (torch.rand(0, 3, 32, 32), {}, ValueError, "images is empty"),
        ([], {}, ValueError, "images is empty"),
        (torch.rand(3, 32, 32), {}, TypeError, "wanted a tensor"),
        ("photos", {}, TypeError, "images is a str"),
        ([torch.rand(9, 3, 32, 32), torch.rand(9, 3, 32, 16)], {}, ValueError, "built for"),
        (torch.rand(9, 3, 32, 32), {"latent_dim": 8}, ValueError, "at most 7"),
        (torch.rand(9, 3, 32, 32), {"latent_dim": "most"}, TypeError, 'or "auto"'),
        (torch.rand(9, 3, 32, 32), {"batch_size": 0}, ValueError, "batch_size=0"),
        (torch.rand(9, 3, 32, 32), {"memory_gb": -1}, ValueError, "memory_gb"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(images, options, error, words):
    with pytest.raises(error, match=words):
        LinearFeatureVAE.fit(own(), images, layers=["first"], **options)


def test_layers_beside_ready_features_are_refused(vae):
    with pytest.raises(ValueError, match="layers: that is of the FrozenFeatures given"):
        LinearFeatureVAE(vae.features, ["first"])
