"""FeatureVAE: a ConvVAE whose data are the features of a frozen encoder."""

import json

import pytest
import torch

from captum_vae.attr import LatentGradCAM
from captum_vae.models import ConvVAE, FeatureVAE, FrozenFeatures, build_model

SMALL = {"image_size": 64, "latent_dims": 4, "channels": (8, 8), "hidden": 16}


def small_vae(**options: object) -> FeatureVAE:
    return FeatureVAE("test_resnet", ["layer1", "layer2"], **{**SMALL, **options})


@pytest.mark.parametrize("latent", ["vector", "spatial"])
def test_it_is_a_conv_vae_behind_the_features(latent):
    vae = small_vae(latent=latent).eval()
    features = vae.features
    assert features.feature_shape == (80, 16, 16)
    conv = ConvVAE(
        4,
        image_size=16,
        in_channels=80,
        channels=(8, 8),
        hidden=16,
        output="linear",
        latent=latent,
    ).eval()
    state = vae.state_dict()
    conv.load_state_dict({k: v for k, v in state.items() if not k.startswith("features.")})
    x = torch.rand(2, 3, 64, 64)
    reconstruction, mean, log_variance, target = vae(x)
    assert torch.equal(target, features(x)) and torch.equal(vae.target(x), target)
    for found, wanted in zip((reconstruction, mean, log_variance), conv(target), strict=True):
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(vae.explained(target), conv.reconstruct(target))
    torch.testing.assert_close(vae.reconstruct(x), conv.reconstruct(target))
    assert vae.latent_shape == conv.latent_shape


@pytest.mark.parametrize("latent", ["vector", "spatial"])
def test_a_config_that_went_through_json_rebuilds_it(latent):
    vae = small_vae(latent=latent, norm="batch").eval()
    vae.features.standardize([torch.rand(4, 3, 64, 64)])
    config = json.loads(json.dumps(vae.config))
    twin = build_model("features", **config).eval()
    twin.load_state_dict(vae.state_dict())
    x = torch.rand(2, 3, 64, 64)
    assert torch.equal(twin(x)[0], vae(x)[0]) and twin.config == vae.config


def test_gradients_reach_everything_but_the_encoder():
    vae = small_vae().train()
    sum(tensor.square().mean() for tensor in vae(torch.rand(2, 3, 64, 64))[:3]).backward()
    for name, parameter in vae.named_parameters():
        assert (parameter.grad is None) == name.startswith("features."), name


def test_its_maps_are_of_the_features_and_of_layers_within():
    vae = small_vae().eval()
    x = torch.rand(2, 3, 64, 64)
    for layer, side in (("features", 16), ("encoder.relu1", 8), ("features.encoder.layer1", 16)):
        assert LatentGradCAM(vae, layer).attribute(x).shape == (2, 4, side, side)


def test_ready_features_and_options_beside_them_are_refused():
    features = FrozenFeatures("test_resnet", ["layer1"], image_size=64)
    assert FeatureVAE(features, latent_dims=2).features is features
    with pytest.raises(ValueError, match="image_size: that is of the FrozenFeatures given"):
        FeatureVAE(features, image_size=64)
    with pytest.raises(ValueError, match="too small for 5 halvings"):
        FeatureVAE(features, channels=(8,) * 5)
