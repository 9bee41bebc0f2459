"""``torch.compile`` of an attribution's method: the maps of eager mode, and no time lost."""

import pytest
import torch

from captum_vae import LatentGradCAM, MeanSumGradCAM
from tests.attr.toys import ToyVAE, assert_equal

WAYS = (
    {},
    {"target": [0, 2], "rectifier": "abs", "size": "input"},
    {"weighting": "elementwise", "aggregate": "mean"},
    {"weighting": "integrated", "n_steps": 2, "baselines": "reconstruction"},
)


@pytest.mark.parametrize(
    "backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "act2"])
def test_a_compiled_attribute_equals_eager(layer, method, backend):
    torch._dynamo.reset()
    vae = ToyVAE()
    cam = method(vae, layer)
    compiled = torch.compile(cam.attribute, backend=backend)
    for way in WAYS:
        for count in (2, 5):
            x = vae.images(count, seed=count)
            assert_equal(compiled(x, **way), cam.attribute(x, **way))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_function_around_attribute_is_compiled_and_trains(backend):
    """What stands before and behind the call is compiled; the call itself runs as it is."""
    torch._dynamo.reset()
    vae = ToyVAE()
    cam = LatentGradCAM(vae, "conv2")

    def loss(x):
        maps = cam.attribute(torch.sin(x) * 2, create_graph=True)
        return (torch.cos(maps) * maps).sum()

    x = vae.images(3)
    losses = [function(x) for function in (loss, torch.compile(loss, backend=backend))]
    gradients = [torch.autograd.grad(value, vae.conv1.weight)[0] for value in losses]
    assert torch.allclose(losses[0], losses[1])
    assert_equal(gradients[1], gradients[0])


def test_weights_changed_between_compiled_calls_are_seen():
    torch._dynamo.reset()
    vae = ToyVAE()
    cam = LatentGradCAM(vae, "conv2")
    compiled = torch.compile(cam.attribute, backend="eager")
    x = vae.images(2)
    compiled(x)
    with torch.no_grad():
        vae.fc.weight.mul_(-1)
    assert_equal(compiled(x), cam.attribute(x))
