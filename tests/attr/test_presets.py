"""Each preset against its source's formula, written out; and maps never depend on batch-mates."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from captum_vae import LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM
from captum_vae.attr import PRESETS
from tests.attr.toys import ToyVAE, assert_equal, features_and_gradients


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(3)
    return ToyVAE()


def scores_of(vae, method):
    """Method 1 explains every mean, method 2 their sum."""
    if method is LatentGradCAM:
        return lambda x: vae.encode(x)[0]
    return lambda x: vae.encode(x)[0].sum(1, keepdim=True)


def paper(features, gradients, _size):
    """Liu et al. 2020, Eq. 2: ReLU of the sum over channels of alpha_k A_k."""
    batch, dims, channels = gradients.shape[:3]
    maps = torch.zeros(batch, dims, *features.shape[2:], dtype=features.dtype)
    for b, d, k in itertools.product(range(batch), range(dims), range(channels)):
        maps[b, d] += gradients[b, d, k].mean() * features[b, k]
    return maps.clamp(min=0)


def authors(features, gradients, size):
    """The authors' code without its normalisation: weight, sum, upsample, absolute value."""
    weights = F.adaptive_avg_pool2d(gradients.flatten(0, 1), 1)
    dims = gradients.shape[1]
    weighted = features.repeat_interleave(dims, 0) * weights
    maps = weighted.sum(1, keepdim=True)
    if size is not None:
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
    return torch.abs(maps).unflatten(0, (-1, dims)).squeeze(2)


def replication_a(features, gradients, size):
    """Absolute value per channel, mean over channels."""
    alpha = gradients.mean((3, 4), keepdim=True)
    maps = (alpha * features[:, None]).abs().mean(2)
    return maps if size is None else F.interpolate(maps, size, mode="bilinear")


def replication_b(features, gradients, size):
    """ReLU per channel, sum over channels."""
    alpha = gradients.mean((3, 4), keepdim=True)
    maps = F.relu(alpha * features[:, None]).sum(2)
    return maps if size is None else F.interpolate(maps, size, mode="bilinear")


FORMULAS = {
    "paper": paper,
    "authors": authors,
    "replication_a": replication_a,
    "replication_b": replication_b,
}


def test_every_preset_has_a_formula_here():
    assert set(FORMULAS) == set(PRESETS)


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "act2"])
@pytest.mark.parametrize("preset", list(FORMULAS))
def test_a_preset_equals_its_sources_formula(vae, method, layer, preset):
    x = vae.images(3)
    read = features_and_gradients(scores_of(vae, method), vae.get_submodule(layer), x)
    found = method(vae, layer).attribute(x, preset=preset)
    assert_equal(found, FORMULAS[preset](*read, None))


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
@pytest.mark.parametrize("preset", ["authors", "replication_a", "replication_b"])
def test_a_preset_at_input_size_equals_its_sources_formula(vae, method, preset):
    """The authors take the absolute value behind the upsampling, the replications before it."""
    x = vae.images(3)
    read = features_and_gradients(scores_of(vae, method), vae.conv2, x)
    found = method(vae, "conv2").attribute(x, preset=preset, size="input")
    assert_equal(found, FORMULAS[preset](*read, tuple(x.shape[2:])))


def test_the_authors_order_differs_from_rectifying_before_the_upsampling(vae):
    x = vae.images(3)
    cam = LatentGradCAM(vae, "conv2")
    before = cam.attribute(x, preset="authors", order="after_sum", size="input")
    assert (cam.attribute(x, preset="authors", size="input") - before).abs().max() > 1e-6


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
def test_the_authors_gradient_normalisation_only_scales_the_map_of_a_single_image(vae, method):
    """They divide the gradients by the batch's root mean square, which we leave out: it makes a
    map depend on its batch-mates. For one image and one score it is one positive factor."""
    x = vae.images(1)
    features, gradients = features_and_gradients(scores_of(vae, method), vae.conv2, x)
    found = method(vae, "conv2").attribute(x, preset="authors", size="input")
    for d in range(gradients.shape[1]):
        rms = gradients[:, d].pow(2).mean().sqrt() + 1e-5
        normalised = authors(features, gradients[:, d : d + 1] / rms, tuple(x.shape[2:]))
        assert rms > 0
        assert_equal(found[:, d : d + 1], normalised * rms)


def test_the_authors_gradient_normalisation_would_make_maps_depend_on_batch_mates(vae):
    scores = scores_of(vae, MeanSumGradCAM)
    features, gradients = features_and_gradients(scores, vae.conv2, vae.images(2))
    together = authors(features, gradients / gradients.pow(2).mean().sqrt(), None)[:1]
    alone = authors(features[:1], gradients[:1] / gradients[:1].pow(2).mean().sqrt(), None)
    assert (together / alone - 1).abs().min() > 1e-3


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("weighting", ["pooled", "elementwise", "integrated"])
@pytest.mark.parametrize("method", ["method 1", "method 2", "mean", "sample", "mahalanobis"])
def test_a_batch_of_8_gives_the_maps_of_8_batches_of_1(vae, method, weighting, preset):
    x = vae.images(8)
    if method.startswith("method"):
        cam = {"method 1": LatentGradCAM, "method 2": MeanSumGradCAM}[method](vae, "conv2")
    else:
        cam = NormalDifferenceGradCAM(vae, "conv2", difference=method).fit([vae.images(5, seed=9)])
    options = {"preset": preset, "weighting": weighting, "size": "input", "n_steps": 3}
    alone = torch.cat([cam.attribute(image, **options) for image in x.split(1)])
    assert_equal(cam.attribute(x, **options), alone)


@pytest.mark.parametrize("layer", ["conv1", "act1", "conv2", "act2"])
@pytest.mark.parametrize("baselines", [None, 0.5, "reconstruction"])
def test_batch_mates_never_change_a_map_at_any_layer_and_baseline(vae, layer, baselines):
    x = vae.images(4)
    cam = LatentGradCAM(vae, layer)
    options = {"rectifier": "abs", "baselines": baselines}
    loud = torch.cat([x[:1], 100 * x[1:]])
    assert_equal(cam.attribute(loud, **options)[:1], cam.attribute(x[:1], **options))
