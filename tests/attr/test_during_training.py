"""Maps of the training step's own forward."""

import copy

import pytest
import torch
from torch import nn

from captum_vae.attr import LatentGradCAM, watch_forward
from captum_vae.models import MNISTVAE, FactorVAE


@pytest.fixture(scope="module")
def vae() -> FactorVAE:
    torch.manual_seed(0)
    return FactorVAE(latent_dims=6).double().eval()


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(3, 1, 64, 64, dtype=torch.float64)


@pytest.mark.parametrize("layer", ["encoder.conv4", "encoder.relu4", "encoder.conv2"])
@pytest.mark.parametrize("preset", ["paper", "replication_a", "replication_b"])
def test_maps_and_their_gradients_equal_those_of_latent_grad_cam(vae, x, layer, preset):
    cam = LatentGradCAM(vae, layer)
    expected = cam.attribute(x, preset=preset, create_graph=True)
    with watch_forward(vae, layer) as watched:
        _, mean, _ = vae(x)
    maps = watched.maps(mean, preset=preset)
    torch.testing.assert_close(maps, expected)
    weights = torch.randn_like(maps)
    reached = [p for name, p in vae.named_parameters() if name.startswith(("encoder", "mean"))]
    got, wanted = (
        torch.autograd.grad((m * weights).sum(), reached, allow_unused=True)
        for m in (maps, expected)
    )
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_detached_channel_weights_train_through_the_features_alone(vae, x):
    with watch_forward(vae, "encoder.conv4") as watched:
        _, mean, _ = vae(x)
    maps = watched.maps(mean, channel_weights="detached")
    torch.testing.assert_close(maps, watched.maps(mean))
    maps.sum().backward()
    assert vae.encoder.conv1.weight.grad.abs().sum() > 0
    assert vae.mean.weight.grad is None
    vae.zero_grad()


def test_the_memory_layout_of_the_model_does_not_change_its_maps(vae, x):
    expected = LatentGradCAM(vae, "encoder.conv4").attribute(x)
    channels_last = copy.deepcopy(vae).to(memory_format=torch.channels_last)
    with watch_forward(channels_last, "encoder.conv4") as watched:
        _, mean, _ = channels_last(x)
    assert watched.plan(mean).path == "masked"
    torch.testing.assert_close(watched.maps(mean).detach(), expected)


def test_a_few_dimensions_can_be_asked_for(vae, x):
    with watch_forward(vae, "encoder.conv3", dims_per_pass=2) as watched:
        _, mean, _ = vae(x)
    torch.testing.assert_close(watched.maps(mean, [4, 0, 5]), watched.maps(mean)[:, [4, 0, 5]])


def test_what_the_model_returns_is_not_changed_by_watching(vae, x):
    plain = vae(x)[1]
    with watch_forward(vae, "encoder.relu2") as watched:
        watched_mean = vae(x)[1]
    assert torch.equal(watched_mean, plain)
    assert watched.features.requires_grad
    assert not any(module._forward_hooks for module in vae.modules())


def test_hooks_are_gone_when_the_model_raises(vae):
    with pytest.raises(ValueError), watch_forward(vae, "encoder.conv1"):
        vae(torch.rand(1, 3, 64, 64))
    assert not vae.encoder.conv1._forward_hooks


def test_a_token_encoder_is_watched_through_its_reshape_transform():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(1, 5, 4, 4)
            self.block = nn.Linear(5, 5)
            self.mean = nn.Linear(5, 3)

        def forward(self, x):
            tokens = self.block(self.embed(x).flatten(2).transpose(1, 2)).tanh()
            return self.mean(tokens.mean(1))

    def grid(tokens):
        return tokens.transpose(1, 2).unflatten(2, (2, 2))

    model, x = Tokens().double(), torch.rand(2, 1, 8, 8, dtype=torch.float64)
    expected = LatentGradCAM(
        model, "block", reshape_transform=grid, posterior="forward:mean"
    ).attribute(x)
    with watch_forward(model, "block", reshape_transform=grid) as watched:
        mean = model(x)
    torch.testing.assert_close(watched.maps(mean).detach(), expected)


def test_errors_name_the_fix(vae, x):
    with watch_forward(vae, "decoder") as watched:
        mean, _ = vae.encode(x)
    with pytest.raises(ValueError, match="did not run inside the `with` block"):
        watched.maps(mean)
    with watch_forward(vae, "encoder.conv4") as watched:
        _, mean, _ = vae(x)
    with pytest.raises(ValueError, match="mean has no graph"):
        watched.maps(mean.detach())
    with pytest.raises(ValueError, match="mean has shape \\(2, 6\\)"):
        watched.maps(mean[:2])
    with pytest.raises(ValueError, match="gradient='some' is not known"):
        watched.channel_weights(mean, gradient="some")
    with pytest.raises(ValueError, match="not in the model"), watch_forward(vae, nn.ReLU()):
        pass
    with (
        pytest.raises(TypeError, match="one torch.nn.Module or its name"),
        watch_forward(vae, ["a"]),
    ):
        pass
    with pytest.raises(ValueError, match="torch.compile"):
        watch_forward(torch.compile(vae), "encoder.conv4").__enter__()
    with watch_forward(vae, vae.log_variance) as watched:
        _, mean, _ = vae(x)
    with pytest.raises(ValueError, match="not on the path|without spatial"):
        watched.maps(mean)


def test_autocast_training_steps_give_float32_maps():
    model = MNISTVAE()
    with torch.autocast("cpu", torch.bfloat16):
        with watch_forward(model, model.encoder.conv2) as watched:
            _, mean, _ = model(torch.rand(2, 1, 28, 28))
        maps = watched.maps(mean)
    assert maps.dtype == torch.float32
    maps.sum().backward()
    assert model.encoder.conv1.weight.grad.isfinite().all()
