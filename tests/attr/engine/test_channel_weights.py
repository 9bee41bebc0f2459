"""The engine against plain float64 autograd, on networks that nobody chose."""

from collections import Counter

import pytest
import torch

from captum_vae.attr.engine.channel_weights import channel_weights
from captum_vae.attr.engine.forward_pass import ForwardPass, capture_features
from captum_vae.attr.engine.gradients import PassSettings
from captum_vae.attr.engine.graph import plan_layer
from tests.attr.random_networks import RandomEncoder, weights_by_autograd

FEW, MANY = 80, 400


def seeds(few, many):
    """The first ``few`` in every run, the rest among the slow tests."""
    slow = [pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many)]
    return pytest.mark.parametrize("seed", [*range(few), *slow])


def engine_weights(model, layer, x, *, graph="above", create_graph=False, **settings):
    """alpha (B, D, K) by whatever path the engine chooses, and that path's name."""
    with torch.enable_grad():
        with capture_features([layer], graph=graph) as caught:
            mean = model(x)[0]
        (features,) = caught.tensors
        plan = plan_layer(mean, features)
        dims = range(mean.shape[1])
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
    assert relative_error(found, wanted) < 1e-10
    whole, _ = engine_weights(exact, exact.layer, x.double(), graph="whole")
    assert relative_error(whole, wanted) < 1e-10
    single = exact.float()
    found, _ = engine_weights(single, single.layer, x)
    assert relative_error(found.double(), wanted, size) < 1e-4


def test_random_networks_take_every_path():
    paths = Counter()
    for seed in range(FEW):
        torch.manual_seed(seed)
        model = RandomEncoder(seed).eval()
        paths[engine_weights(model, model.layer, model.inputs(2))[1]] += 1
    assert min(paths[name] for name in ("pooled", "masked", "vector_jacobian")) >= 8, paths


@seeds(15, 60)
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
