"""FrozenFeatures: any encoder's layers on one grid, standardised, and never moved."""

import copy
import json

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from captum_vae.models import FrozenFeatures


class OwnEncoder(nn.Module):
    """Two stages and a head, with batch norm and an in-place ReLU behind the first stage."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x):
        x = self.second(self.relu(self.first(x)))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, stride=4)
        self.block = nn.Linear(8, 8)

    def forward(self, x):
        return self.block(self.patches(x).flatten(2).transpose(1, 2))


def own() -> OwnEncoder:
    encoder = OwnEncoder()
    encoder.first[1].running_mean.uniform_(-1, 1)
    encoder.first[1].running_var.uniform_(0.5, 2)
    return encoder


def make_tokens() -> nn.Module:
    """An encoder for ``package.module:function``."""
    return Tokens()


def as_grid(tokens: torch.Tensor) -> torch.Tensor:
    side = int(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def test_layers_of_any_module_are_what_they_put_out_brought_to_one_grid():
    encoder = own().eval()
    features = FrozenFeatures(encoder, ["first", "second"], image_size=32, grid=8)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        first = encoder.first(x)
        second = encoder.second(F.relu(first))
    wanted = torch.cat([F.avg_pool2d(first, 2), second], 1)
    torch.testing.assert_close(features(x), wanted)
    assert features.channels == (4, 6)
    assert [part.shape[1] for part in features.by_layer(wanted)] == [4, 6]


def test_a_coarser_layer_is_interpolated():
    encoder = own().eval()
    features = FrozenFeatures(encoder, [encoder.second], image_size=32, grid=(16, 16))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        small = encoder.second(F.relu(encoder.first(x)))
    wanted = F.interpolate(small, (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(features(x), wanted)


def test_a_timm_models_stages_are_timms_own_with_its_normalisation():
    features = FrozenFeatures("resnet18", image_size=64)
    assert features.layers == ("layer1", "layer2", "layer3")
    assert features.feature_shape == (64 + 128 + 256, 8, 8)
    whole = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3)).eval()
    whole.load_state_dict(features.encoder.state_dict(), strict=False)
    x = torch.rand(2, 3, 64, 64)
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    with torch.no_grad():
        first, second, third = whole((x - mean) / std)
    third = F.interpolate(third, (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(features(x), torch.cat([F.avg_pool2d(first, 2), second, third], 1))


def test_layers_come_in_the_order_in_which_they_are_named():
    straight = FrozenFeatures("test_resnet", ["layer1", "layer2"], image_size=64, grid=8)
    turned = FrozenFeatures("test_resnet", ["layer2", "layer1"], image_size=64, grid=8)
    turned.load_state_dict(straight.state_dict())
    x = torch.rand(2, 3, 64, 64)
    parts = straight.by_layer(straight(x))
    torch.testing.assert_close(turned(x), torch.cat(parts[::-1], 1))


def test_channels_are_standardised_over_the_places_of_normal_images():
    features = FrozenFeatures(own(), ["first", "second"], image_size=32, grid=8)
    normal = torch.rand(20, 3, 32, 32)
    features.standardize(normal.split(7))
    found = features(normal).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.mean(1), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(10), atol=1e-5, rtol=0)


def test_a_channel_that_does_not_vary_is_centred_and_not_scaled():
    encoder = own()
    with torch.no_grad():
        encoder.second.weight[2] = 0
        encoder.second.bias[2] = 7.3
    features = FrozenFeatures(encoder, "second", image_size=32)
    normal = torch.rand(5, 3, 32, 32)
    features.standardize([normal])
    torch.testing.assert_close(features(normal)[:, 2], torch.zeros(5, 8, 8), atol=1e-5, rtol=0)
    assert float(features.channel_std[2]) == 1


def test_training_moves_nothing_of_the_encoder():
    features = FrozenFeatures("test_resnet", ["layer1"], image_size=32)
    model = nn.Sequential(features, nn.Conv2d(features.feature_shape[0], 2, 1)).train()
    before = copy.deepcopy(features.state_dict())
    for _ in range(2):
        model(torch.rand(4, 3, 32, 32)).square().mean().backward()
    after = features.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert features.training and not any(m.training for m in features.encoder.modules())
    assert all(parameter.grad is None for parameter in features.parameters())
    assert model[1].weight.grad is not None


def test_the_module_that_is_given_stays_as_it_was():
    encoder = own().train()
    state = copy.deepcopy(encoder.state_dict())
    features = FrozenFeatures(encoder, ["first"], image_size=32)
    features(torch.rand(2, 3, 32, 32))
    assert encoder.training and all(p.requires_grad for p in encoder.parameters())
    assert all(torch.equal(state[name], value) for name, value in encoder.state_dict().items())
    assert not any(module._forward_hooks for module in features.modules())


def test_tokens_need_to_be_brought_to_a_grid_and_are_never_guessed():
    with pytest.raises(ValueError, match="pass reshape_transform="):
        FrozenFeatures(Tokens(), "block", image_size=32)
    features = FrozenFeatures(Tokens(), "block", image_size=32, reshape_transform=as_grid)
    assert features(torch.rand(2, 3, 32, 32)).shape == (2, 8, 8, 8)


def test_a_transformer_of_timm_gives_three_layers_over_its_depth_as_grids():
    features = FrozenFeatures("test_vit", image_size=64)
    assert features.layers == ("blocks.1", "blocks.3", "blocks.5")
    assert features.feature_shape == (3 * 64, 4, 4)


def test_a_config_that_went_through_json_rebuilds_a_named_encoder():
    features = FrozenFeatures("test_resnet", ["layer2"], image_size=(64, 32), in_channels=1)
    features.standardize([torch.rand(4, 1, 64, 32)])
    twin = FrozenFeatures(**json.loads(json.dumps(features.config)))
    twin.load_state_dict(features.state_dict())
    x = torch.rand(2, 1, 64, 32)
    assert torch.equal(twin(x), features(x))
    assert twin.config == features.config


def test_a_function_by_name_makes_the_encoder_and_its_grid():
    here = "tests.models.test_frozen_features"
    features = FrozenFeatures(
        f"{here}:make_tokens", "block", image_size=32, reshape_transform=f"{here}:as_grid"
    )
    twin = FrozenFeatures(**json.loads(json.dumps(features.config)))
    twin.load_state_dict(features.state_dict())
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(twin(x), features(x))


def test_a_module_of_ones_own_cannot_be_rebuilt_from_a_config_and_says_so():
    features = FrozenFeatures(own(), "first", image_size=32)
    with pytest.raises(ValueError, match="a module of your own: OwnEncoder, which cannot be re"):
        FrozenFeatures(**features.config)


def test_an_encoder_in_double_precision_gives_double_precision():
    features = FrozenFeatures(own().double(), "first", image_size=32)
    assert features(torch.rand(2, 3, 32, 32, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((OwnEncoder(),), {}, ValueError, "layers is missing"),
        ((OwnEncoder(), []), {}, ValueError, "layers is empty"),
        ((OwnEncoder(), "third"), {}, ValueError, "its layers are: first"),
        ((OwnEncoder(), nn.ReLU()), {}, ValueError, "holds ReLU"),
        ((OwnEncoder(), "head"), {}, ValueError, r"layer 'head' .* wanted \(B, K, h, w\)"),
        ((OwnEncoder(), "first"), {"in_channels": 1}, ValueError, "cannot take images"),
        ((OwnEncoder(), "first"), {"weights": "file.pth"}, ValueError, "are for timm models"),
        ((OwnEncoder(), "first"), {"std": (1, 0, 1)}, ValueError, "larger than 0"),
        ((OwnEncoder(), "first"), {"mean": (1, 2)}, ValueError, "mean has 2 numbers"),
        ((OwnEncoder(), "first"), {"grid": 0}, ValueError, "grid=0"),
        ((OwnEncoder(), "first"), {"reshape_transform": 3}, TypeError, "reshape_transform is a"),
        (("resnet_18",), {}, ValueError, "near names: .*resnet18"),
        (("test_resnet", ["layer9"]), {}, ValueError, "offers .*layer1"),
        (("test_resnet",), {"weights": "no/file.pth"}, FileNotFoundError, "no/file.pth"),
        ((3,), {}, TypeError, "encoder is a int"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(arguments, options, error, words):
    with pytest.raises(error, match=words):
        FrozenFeatures(*arguments, **{"image_size": 32, **options})


def test_images_of_another_size_are_refused():
    features = FrozenFeatures(own(), "first", image_size=32)
    with pytest.raises(ValueError, match=r"built for \(B, 3, 32, 32\)"):
        features(torch.rand(2, 3, 31, 32))
    with pytest.raises(ValueError, match="no image"):
        features.standardize([])
