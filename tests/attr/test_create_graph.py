"""Maps that a loss can train through: their gradients against finite differences, in float64."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM
from tests.attr.toys import ToyVAE, assert_equal

LAYERS = ["conv1", "act1", "conv2", "act2"]
"""act2 takes the pooled closed form, conv2 the masked one, the others backward passes."""


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(4)
    return ToyVAE(activation=nn.Tanh)


def finite_differences(loss, parameter, count=6, step=1e-5):
    """Central differences of the loss along the parameter's first and last few values."""
    flat = parameter.detach().flatten()
    places = [*range(count // 2), *range(len(flat) - count // 2, len(flat))]
    slopes = []
    for place in places:
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.view(-1)[place] += sign * step
                values.append(loss().item())
                parameter.view(-1)[place] -= sign * step
        slopes.append((values[0] - values[1]) / (2 * step))
    return places, torch.tensor(slopes, dtype=torch.float64)


def assert_gradient_is_right(loss, parameters):
    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        places, slopes = finite_differences(loss, parameter)
        found = torch.zeros_like(slopes) if gradient is None else gradient.flatten()[places]
        if slopes.abs().max() < 1e-12:
            assert found.abs().max() < 1e-12
        else:
            assert_equal(found, slopes, relative=1e-6)


def encoder_parameters(vae):
    modules = [vae.conv1, vae.conv2, vae.fc, vae.fc_mu]
    return [p for module in modules for p in module.parameters()]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("weighting", ["pooled", "elementwise", "integrated"])
def test_gradients_of_a_loss_on_the_maps_equal_finite_differences(vae, layer, weighting):
    x = vae.images(2)
    cam = LatentGradCAM(vae, layer)

    def loss():
        maps = cam.attribute(x, rectifier="none", weighting=weighting, n_steps=2, create_graph=True)
        return maps.square().sum()

    assert_gradient_is_right(loss, encoder_parameters(vae))


@pytest.mark.parametrize("layer", ["conv1", "act2"])
@pytest.mark.parametrize("preset", ["authors", "replication_a"])
def test_gradients_pass_through_rectifiers_sizes_and_aggregation(vae, layer, preset):
    x = vae.images(2)
    cam = LatentGradCAM(vae, layer)

    def loss():
        maps = cam.attribute(x, preset=preset, size="input", aggregate="mean", create_graph=True)
        return maps.square().sum()

    assert_gradient_is_right(loss, [vae.conv1.weight, vae.fc.weight])


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_of_several_layers_at_once_equal_finite_differences(vae, layer):
    x = vae.images(2)
    cam = LatentGradCAM(vae, [layer, "conv2"])

    def loss():
        first, second = cam.attribute(x, rectifier="none", create_graph=True)
        return first.square().sum() + second.square().sum()

    assert_gradient_is_right(loss, [vae.conv1.weight, vae.conv2.weight, vae.fc.weight])


@pytest.mark.parametrize("layer", ["conv1", "conv2", "act2"])
def test_gradients_of_method_2_equal_finite_differences(vae, layer):
    x = vae.images(2)
    cam = MeanSumGradCAM(vae, layer)

    def loss():
        return cam.attribute(x, rectifier="none", create_graph=True).square().sum()

    assert_gradient_is_right(loss, encoder_parameters(vae))


@pytest.mark.parametrize("difference", ["mean", "sample", "mahalanobis"])
def test_gradients_of_the_normal_difference_equal_finite_differences(vae, difference):
    x = vae.images(2)
    cam = NormalDifferenceGradCAM(vae, "conv2", difference=difference).fit([vae.images(4, seed=8)])

    def loss():
        return cam.attribute(x, rectifier="none", create_graph=True).square().sum()

    assert_gradient_is_right(loss, [vae.conv1.weight, vae.fc.weight, vae.fc_logvar.weight])


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_reach_inputs_that_require_them(vae, layer):
    x = vae.images(1).requires_grad_()
    cam = LatentGradCAM(vae, layer)

    def loss():
        return cam.attribute(x, rectifier="none", create_graph=True).square().sum()

    assert_gradient_is_right(loss, [x])


def test_a_baseline_is_a_constant_of_the_loss(vae):
    """A(baseline) is detached: the gradient is that of weights times (A(x) - constant)."""
    x = vae.images(2)
    cam = LatentGradCAM(vae, "act2")
    at_zero = vae.act2(vae.conv2(vae.act1(vae.conv1(torch.zeros_like(x))))).detach()

    def loss(baselines):
        maps = cam.attribute(x, rectifier="none", baselines=baselines, create_graph=True)
        return maps.square().sum()

    channels = cam.attribute(x, rectifier="none", reduction="none", create_graph=True)
    features = vae.act2(vae.conv2(vae.act1(vae.conv1(x))))
    alpha = (channels / features[:, None])[..., 0, 0]
    by_hand = torch.einsum("bdk,bkhw->bdhw", alpha, features - at_zero).square().sum()
    parameters = [vae.conv1.weight, vae.fc.weight]
    wanted = torch.autograd.grad(by_hand, parameters)
    for found, expected in zip(torch.autograd.grad(loss(0.0), parameters), wanted, strict=True):
        assert_equal(found, expected, relative=1e-8)


@pytest.mark.parametrize("layer", LAYERS)
def test_maps_with_a_graph_equal_maps_without(vae, layer):
    x = vae.images(2)
    cam = LatentGradCAM(vae, layer)
    for options in ({}, {"weighting": "elementwise"}, {"baselines": "reconstruction"}):
        found = cam.attribute(x, create_graph=True, **options)
        assert found.requires_grad
        assert_equal(found.detach(), cam.attribute(x, **options))


def test_under_no_grad_create_graph_still_keeps_the_graph(vae):
    with torch.no_grad():
        maps = LatentGradCAM(vae, "conv2").attribute(vae.images(2), create_graph=True)
    (gradient,) = torch.autograd.grad(maps.sum(), [vae.conv1.weight])
    assert gradient.abs().sum() > 0


def test_a_training_step_on_the_maps_lowers_the_loss_on_them():
    vae = ToyVAE(activation=nn.Tanh)
    x = vae.images(4)
    cam = LatentGradCAM(vae, "conv2")
    optimizer = torch.optim.SGD(vae.parameters(), lr=0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = cam.attribute(x, rectifier="abs", create_graph=True).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


def test_frozen_parameters_below_the_layer_still_allow_gradients_above_it():
    vae = ToyVAE(activation=nn.Tanh)
    vae.conv1.requires_grad_(False)
    x = vae.images(2)
    cam = LatentGradCAM(vae, "act1")

    def loss():
        return cam.attribute(x, rectifier="none", create_graph=True).square().sum()

    assert_gradient_is_right(loss, [vae.conv2.weight, vae.fc.weight, vae.fc_mu.weight])
