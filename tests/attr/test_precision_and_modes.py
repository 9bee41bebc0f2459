"""dtypes, autocast, grad modes, frozen models, inputs that require gradients, single images."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM
from captum_vae.models import MNISTVAE
from tests.attr.toys import D, ToyVAE, assert_equal

LAYERS = ["conv1", "act1", "conv2", "act2"]
WEIGHTINGS = ["pooled", "elementwise", "integrated"]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_under_no_grad_the_maps_are_the_same(layer, weighting):
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, layer)
    wanted = cam.attribute(x, weighting=weighting)
    with torch.no_grad():
        assert_equal(cam.attribute(x, weighting=weighting), wanted)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_half_precision_model_gives_float32_maps_near_the_float64_ones(layer, dtype, weighting):
    vae = ToyVAE(activation=nn.Tanh)
    x = vae.images(2)
    options = {"rectifier": "none", "weighting": weighting}
    wanted = LatentGradCAM(vae, layer).attribute(x, **options)
    found = LatentGradCAM(vae.to(dtype), layer).attribute(x.to(dtype), **options)
    assert found.dtype == torch.float32
    assert_equal(found.double(), wanted, relative=0.05 if dtype == torch.bfloat16 else 0.01)


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM])
@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_maps_are_float64_for_float64_models_and_float32_for_all_others(method, dtype, wanted):
    vae = ToyVAE().to(dtype)
    cam = method(vae, ["conv1", "conv2"])
    if method is NormalDifferenceGradCAM:
        cam.fit([vae.images(3).to(dtype)])
    maps = cam.attribute(vae.images(2).to(dtype), size="input", aggregate="mean")
    assert [m.dtype for m in maps] == [wanted, wanted]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("baselines", [None, "reconstruction"])
def test_inside_autocast_the_maps_are_float32_and_near_the_exact_ones(layer, weighting, baselines):
    vae = ToyVAE(activation=nn.Tanh).float()
    x = vae.images(2).float()
    options = {"rectifier": "none", "weighting": weighting, "baselines": baselines}
    wanted = LatentGradCAM(vae, layer).attribute(x, **options)
    with torch.autocast("cpu", torch.bfloat16):
        found = LatentGradCAM(vae, layer).attribute(x, **options)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == torch.float32
    assert_equal(found, wanted, relative=0.08)


def test_autocast_inside_the_model_keeps_the_layer_in_bfloat16_and_the_maps_in_float32():
    class InnerAutocast(ToyVAE):
        def encode(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                mu, logvar = super().encode(x)
            return mu.float(), logvar.float()

    vae = InnerAutocast().float()
    for layer in LAYERS:
        maps = LatentGradCAM(vae, layer).attribute(vae.images(2).float(), rectifier="abs")
        assert maps.dtype == torch.float32 and bool(maps.isfinite().all()) and maps.sum() > 0


def test_create_graph_works_inside_autocast():
    vae = ToyVAE().float()
    with torch.autocast("cpu", torch.bfloat16):
        maps = LatentGradCAM(vae, ["conv1", "conv2"]).attribute(
            vae.images(2).float(), rectifier="abs", create_graph=True
        )
        loss = sum(m.mean() for m in maps)
    (gradient,) = torch.autograd.grad(loss, [vae.conv1.weight])
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("layer", LAYERS)
def test_a_model_with_frozen_parameters_gives_the_same_maps(layer):
    vae = ToyVAE()
    x = vae.images(2)
    wanted = LatentGradCAM(vae, layer).attribute(x)
    vae.requires_grad_(False)
    assert_equal(LatentGradCAM(vae, layer).attribute(x), wanted)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_inputs_that_require_gradients_give_the_same_maps_and_get_none(layer, weighting):
    vae = ToyVAE()
    x = vae.images(2)
    wanted = LatentGradCAM(vae, layer).attribute(x, weighting=weighting)
    x.requires_grad_()
    assert_equal(LatentGradCAM(vae, layer).attribute(x, weighting=weighting), wanted)
    assert x.grad is None


def test_inputs_that_come_out_of_a_graph_give_the_same_maps_and_leave_the_graph_whole():
    vae = ToyVAE()
    start = vae.images(2).requires_grad_()
    x = start * 2
    wanted = LatentGradCAM(vae, "conv2").attribute(x.detach())
    assert_equal(LatentGradCAM(vae, "conv2").attribute(x), wanted)
    x.sum().backward()
    assert torch.equal(start.grad, torch.full_like(start, 2.0))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("baselines", [None, 0.0, "reconstruction"])
def test_without_create_graph_the_maps_are_detached(weighting, baselines):
    vae = ToyVAE()
    maps = LatentGradCAM(vae, LAYERS).attribute(
        vae.images(2).requires_grad_(), weighting=weighting, baselines=baselines, size="input"
    )
    assert all(not m.requires_grad and m.grad_fn is None for m in maps)


@pytest.mark.parametrize("layer", LAYERS)
def test_one_image_is_a_batch(layer):
    vae = ToyVAE()
    x = vae.images(3)
    cam = LatentGradCAM(vae, layer)
    assert_equal(cam.attribute(x[1:2]), cam.attribute(x)[1:2])


def test_a_float32_model_is_near_the_float64_one():
    vae = MNISTVAE(latent_dims=4).double().eval()
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    layers = ["encoder.conv1", "encoder.conv2", "encoder.relu2"]
    wanted = LatentGradCAM(vae, layers).attribute(x)
    found = LatentGradCAM(vae.float(), layers).attribute(x.float())
    for maps, expected in zip(found, wanted, strict=True):
        assert_equal(maps.double(), expected, relative=1e-4)


@pytest.mark.parametrize("dims_per_pass", [1, 2, 3, 100])
def test_the_number_of_dimensions_in_a_pass_changes_no_map(dims_per_pass):
    vae = ToyVAE()
    x = vae.images(2)
    wanted = LatentGradCAM(vae, "conv1").attribute(x)
    found = LatentGradCAM(vae, "conv1", dims_per_pass=dims_per_pass).attribute(x)
    assert_equal(found, wanted)


def test_a_memory_budget_too_small_for_one_dimension_still_works():
    vae = ToyVAE()
    x = vae.images(2)
    wanted = LatentGradCAM(vae, "conv1").attribute(x)
    assert_equal(LatentGradCAM(vae, "conv1", memory_budget=1).attribute(x), wanted)


def test_maps_may_be_written_to():
    """Nothing of what comes back shares memory with the model or expands one value."""
    vae = ToyVAE()
    cam = LatentGradCAM(vae, "conv2")
    x = vae.images(2)
    wanted = cam.attribute(x, rectifier="none")
    maps = cam.attribute(x, rectifier="none")
    maps[:, 0] = 5.0
    assert torch.equal(maps[:, 1:], wanted[:, 1:]) and maps.shape == (2, D, 3, 3)
    assert_equal(cam.attribute(x, rectifier="none"), wanted)
