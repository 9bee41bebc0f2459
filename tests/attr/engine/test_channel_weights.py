"""The engine against plain float64 autograd, on networks that nobody chose."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_vae.attr.engine.capture import capture_features
from captum_vae.attr.engine.channel_weights import channel_weights
from captum_vae.attr.engine.forward_pass import ForwardPass
from captum_vae.attr.engine.gradients import PassSettings
from captum_vae.attr.engine.plans import plan_layer
from tests.attr.random_networks import (
    MIXERS,
    Functional,
    Mixer,
    RandomEncoder,
    weights_by_autograd,
)

FEW, MANY = 120, 1000
PATHS = ("pooled", "masked", "convolved", "forward", "vector_jacobian")


def seeds(few, many):
    """The first ``few`` in every run, the rest among the slow tests."""
    slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many)]
    return pytest.mark.parametrize("seed", [*range(few), *slow])


@pytest.fixture(autouse=True)
def no_way_gives_up(monkeypatch):
    """Nothing falls back on backward passes without a word."""
    monkeypatch.setattr("captum_vae.attr.engine.channel_weights.NO_DERIVATIVE", ())


def engine_weights(model, layer, x, *, graph="above", create_graph=False, **settings):
    """alpha (B, D, K) by whatever path the engine chooses, and that path's name."""
    with torch.enable_grad():
        with capture_features([layer], graph=graph) as caught:
            mean = model(x)[0]
        (features,) = caught.tensors
        dims = range(mean.shape[1])
        plan = plan_layer(mean, features, dims=len(dims), create_graph=create_graph)
        run = ForwardPass((layer,), (features,), (features,), (None,), mean, tuple(dims))
        (alpha,) = channel_weights(run, PassSettings(create_graph, **settings))
    return alpha, plan.path


def relative_error(found, wanted, size=None):
    size = wanted if size is None else size
    return float((found - wanted).abs().max() / size.abs().max().clamp_min(1e-300))


@seeds(FEW, MANY)
def test_weights_of_a_random_network_equal_float64_autograd(seed):
    torch.manual_seed(seed)
    model = RandomEncoder(seed).eval()
    x = model.inputs(3)
    exact = model.double()
    wanted, size = weights_by_autograd(exact, exact.layer, x.double())
    found, path = engine_weights(exact, exact.layer, x.double())
    assert path != "off_path"
    assert found.shape == wanted.shape
    # Some networks' gradients cancel, as behind a softmax that is summed up: the rounding error of
    # what was added up is allowed as well.
    rounding = 1e-14 * float(size.abs().max() / wanted.abs().max().clamp_min(1e-300))
    assert relative_error(found, wanted) < 1e-10 + rounding
    whole, _ = engine_weights(exact, exact.layer, x.double(), graph="whole")
    assert relative_error(whole, wanted) < 1e-10 + rounding
    single = exact.float()
    found, _ = engine_weights(single, single.layer, x)
    # There autograd in float32 is as far off, and is the measure.
    plain, _ = weights_by_autograd(single, single.layer, x)
    allowed = max(1e-4, 4 * relative_error(plain.double(), wanted, size))
    assert relative_error(found.double(), wanted, size) < allowed


POOLS_OVER_CHANNELS = {
    "max (3, 1, 1)": (2, nn.MaxPool3d((3, 1, 1), stride=1, padding=(1, 0, 0))),
    "max (3, 3, 3)": (2, nn.MaxPool3d(3, stride=1, padding=1)),
    "max halves the channels": (2, nn.MaxPool3d((2, 1, 1))),
    "max of rows and channels": (1, nn.MaxPool2d((3, 1), stride=1, padding=(1, 0))),
    "max (3, 3)": (1, nn.MaxPool2d(3, stride=1, padding=1)),
    "functional max": (1, Functional("max", lambda x: F.max_pool2d(x, 2))),
    "adaptive max": (2, nn.AdaptiveMaxPool3d((3, 2, 1))),
    "adaptive max that keeps the number": (2, nn.AdaptiveMaxPool3d((6, 2, 2))),
    "adaptive max to one": (2, nn.AdaptiveMaxPool3d(1)),
    "adaptive average": (2, nn.AdaptiveAvgPool3d((3, 2, 1))),
    "adaptive average that keeps the number": (2, nn.AdaptiveAvgPool3d((6, 2, 2))),
    "adaptive average to one": (2, nn.AdaptiveAvgPool3d(1)),
    "adaptive average of a signal": (1, nn.AdaptiveAvgPool2d((4, 2))),
    "adaptive max of a signal": (1, nn.AdaptiveMaxPool2d((4, 2))),
    "average": (2, nn.AvgPool3d((3, 1, 1), stride=1, padding=(1, 0, 0))),
    "average of a signal": (1, nn.AvgPool2d((3, 1), stride=1, padding=(1, 0))),
}


@pytest.mark.parametrize("name", POOLS_OVER_CHANNELS)
def test_a_pool_over_channels_is_not_taken_for_one_over_positions(name):
    """Given one axis less than it expects, a pool takes the batch for channels."""
    torch.manual_seed(0)
    axes, pool = POOLS_OVER_CHANNELS[name]
    layer = {1: nn.Conv1d, 2: nn.Conv2d}[axes](1, 6, 3)
    x = torch.randn(3, 1, *[8] * axes, dtype=torch.float64)
    body = nn.Sequential(layer, pool, nn.Flatten(), nn.LazyLinear(4)).double()
    body(x)

    def model(images):
        return (body(images),)

    found, path = engine_weights(model, layer, x)
    assert path == "vector_jacobian"
    assert relative_error(found, weights_by_autograd(model, layer, x)[0]) < 1e-12


@pytest.mark.parametrize("name", MIXERS)
def test_what_mixes_or_moves_channels_right_behind_the_layer_is_exact(name):
    torch.manual_seed(0)
    for axes in (1, 2, 3):
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
        layer = conv(1, 4, 3)
        x = torch.randn(2, 1, *[6] * axes, dtype=torch.float64)
        body = nn.Sequential(layer, Mixer(name), nn.Flatten(), nn.LazyLinear(3)).double()
        body(x)

        def model(images, body=body):
            return (body(images),)

        found, _ = engine_weights(model, layer, x)
        wanted, size = weights_by_autograd(model, layer, x)
        assert relative_error(found, wanted, size) < 1e-12


def test_random_networks_take_every_path():
    paths = Counter()
    for seed in range(FEW):
        torch.manual_seed(seed)
        model = RandomEncoder(seed).eval()
        paths[engine_weights(model, model.layer, model.inputs(2))[1]] += 1
    assert min(paths[name] for name in PATHS) >= 4, paths


@seeds(15, 100)
def test_second_order_gradients_equal_float64_autograd(seed):
    """The gradient of a loss on the weights, through the engine and through plain autograd."""
    torch.manual_seed(seed)
    model = RandomEncoder(seed).eval().double().requires_grad_()
    x = model.inputs(2).double()
    alpha, _ = engine_weights(model, model.layer, x, graph="whole", create_graph=True)
    caught = []
    handle = model.layer.register_forward_hook(lambda m, a, out: caught.append(out) or out.clone())
    mean = model(x)[0]
    handle.remove()
    rows = [
        torch.autograd.grad(mean[:, d].sum(), caught[0], create_graph=True)[0].flatten(2).mean(2)
        for d in range(mean.shape[1])
    ]
    probe = torch.randn_like(alpha)
    parameters = [p for p in model.parameters() if p.requires_grad]

    def loss_gradients(weights):
        loss = (weights * probe).sum() + weights.square().sum()
        if not loss.requires_grad:
            return [torch.zeros_like(p) for p in parameters]
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [
            torch.zeros_like(p) if g is None else g for g, p in zip(grads, parameters, strict=True)
        ]

    pairs = zip(loss_gradients(alpha), loss_gradients(torch.stack(rows, 1)), strict=True)
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
