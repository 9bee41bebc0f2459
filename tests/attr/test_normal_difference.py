"""Paper Eq. 4: the statistics of the normal class, and the three scores built on them."""

import math

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM
from tests.attr.toys import D, ToyVAE, assert_equal


class StatesItsPosterior(nn.Module):
    """mu = (x00, 2 x01), logvar = (log 1, log 4) of a 1x2 image behind an identity 1x1 conv."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 1, bias=False)
        self.scale = nn.Linear(2, 2, bias=False)
        self.double().eval()
        with torch.no_grad():
            self.conv.weight.fill_(1.0)
            self.scale.weight.copy_(torch.tensor([[1.0, 0], [0, 2]]))

    def encode(self, x):
        mean = self.scale(self.conv(x).flatten(1))
        return mean, torch.tensor([0.0, math.log(4)], dtype=x.dtype).expand_as(mean)


def test_fit_takes_the_mean_and_the_mixtures_variance():
    # Four images, in batches of 3 and 1, with means (1, 2), (1, 4), (3, 2), (3, 8):
    #   mean of means (2, 4); their variance ((1+1+1+1)/4, (4+0+4+16)/4) = (1, 6);
    #   plus the mean of the variances (1, 4): (2, 10).
    images = torch.tensor([[1.0, 1], [1, 2], [3, 1], [3, 4]]).double().reshape(4, 1, 1, 2)
    cam = NormalDifferenceGradCAM(StatesItsPosterior(), "conv", posterior="encode:[0],[1]")
    cam.fit([images[:3], (images[3:], "label")])
    assert torch.allclose(cam.normal_mean, torch.tensor([2.0, 4]).double(), rtol=1e-14)
    assert torch.allclose(cam.normal_variance, torch.tensor([2.0, 10]).double(), rtol=1e-14)


def test_the_mahalanobis_map_is_the_example_computed_by_hand():
    # With the statistics above, and x = (5, 1), so mu = (5, 2) and var = (1, 4):
    #   u = (2 - 5, 4 - 2) = (-3, 2), variance (2 + 1, 10 + 4) = (3, 14)
    #   score = (9/3 + 4/14) / 2; d score / d mu = -u / variance = (1, -1/7)
    #   d score / d A = (1 * 1, -1/7 * 2) = (1, -2/7); alpha = (1 - 2/7) / 2 = 5/14
    #   map = alpha * A = (25/14, 5/14)
    images = torch.tensor([[1.0, 1], [1, 2], [3, 1], [3, 4]]).double().reshape(4, 1, 1, 2)
    vae = StatesItsPosterior()
    cam = NormalDifferenceGradCAM(
        vae, "conv", posterior="encode:[0],[1]", difference="mahalanobis"
    ).fit([images])
    found = cam.attribute(torch.tensor([[[[5.0, 1]]]]).double(), rectifier="none")
    wanted = torch.tensor([[[[25 / 14, 5 / 14]]]], dtype=torch.float64)
    assert_equal(found, wanted, relative=1e-14)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "act2"])
@pytest.mark.parametrize("target", [None, 1, [0, 2]])
def test_the_expected_difference_is_minus_method_2(layer, target):
    vae = ToyVAE()
    x = vae.images(3)
    wanted = -MeanSumGradCAM(vae, layer).attribute(x, target=target, rectifier="none")
    cam = NormalDifferenceGradCAM(vae, layer).fit([vae.images(4, seed=1)])
    assert_equal(cam.attribute(x, target=target, rectifier="none"), wanted)


def test_under_abs_the_expected_difference_is_method_2():
    vae = ToyVAE()
    x = vae.images(3)
    wanted = MeanSumGradCAM(vae, "conv2").attribute(x, preset="authors", size="input")
    cam = NormalDifferenceGradCAM(vae, "conv2").fit([vae.images(4, seed=1)])
    assert_equal(cam.attribute(x, preset="authors", size="input"), wanted)


def score(difference, mu, logvar, normal_mean, normal_variance, dims, seed):
    """Eq. 4 written out for one image: mu and logvar (D,)."""
    u = normal_mean - mu
    variance = normal_variance + logvar.exp()
    if difference == "sample":
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, D, generator=generator, dtype=torch.float64)[0]
        u = u + noise * variance**0.5
        return sum(u[d] for d in dims)
    return sum(0.5 * u[d] ** 2 / variance[d] for d in dims)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "act2"])
@pytest.mark.parametrize("difference", ["sample", "mahalanobis"])
@pytest.mark.parametrize(("target", "dims"), [(None, [0, 1, 2]), (1, [1]), ([2, 0], [2, 0])])
def test_sample_and_mahalanobis_equal_autograd_of_the_formula(layer, difference, target, dims):
    vae = ToyVAE()
    x, normal = vae.images(3), vae.images(6, seed=1)
    with torch.no_grad():
        means, logvars = vae.encode(normal)
    normal_mean = means.mean(0)
    normal_variance = logvars.exp().mean(0) + ((means - normal_mean) ** 2).mean(0)
    maps = []
    for image in x.split(1):
        kept = []
        handle = vae.get_submodule(layer).register_forward_hook(lambda m, i, o: kept.append(o))  # noqa: B023
        mu, logvar = vae.encode(image)
        handle.remove()
        value = score(difference, mu[0], logvar[0], normal_mean, normal_variance, dims, seed=17)
        (gradient,) = torch.autograd.grad(value, kept[0])
        maps.append((gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True).detach())
    cam = NormalDifferenceGradCAM(vae, layer, difference=difference, seed=17).fit([normal])
    found = cam.attribute(x, target=target, rectifier="none")
    assert_equal(found, torch.cat(maps))


@pytest.mark.parametrize("difference", ["mean", "sample", "mahalanobis"])
def test_batch_mates_never_change_the_map_of_the_difference(difference):
    vae = ToyVAE()
    x = vae.images(4)
    cam = NormalDifferenceGradCAM(vae, "conv2", difference=difference).fit([vae.images(5, seed=1)])
    found = cam.attribute(torch.cat([x[:1], 50 * x[1:]]), rectifier="abs")
    assert_equal(found[:1], cam.attribute(x[:1], rectifier="abs"))


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_the_statistics_do_not_depend_on_how_the_images_are_batched(batch_size):
    vae = ToyVAE()
    normal = vae.images(5, seed=1)
    whole = NormalDifferenceGradCAM(vae, "conv2").fit([normal])
    split = NormalDifferenceGradCAM(vae, "conv2").fit(normal.split(batch_size))
    assert_equal(split.normal_mean, whole.normal_mean)
    assert_equal(split.normal_variance, whole.normal_variance)


def test_the_sampled_difference_repeats_with_its_seed_and_changes_with_another():
    vae = ToyVAE()
    x, normal = vae.images(2), vae.images(5, seed=1)

    def maps(seed):
        cam = NormalDifferenceGradCAM(vae, "conv2", difference="sample", seed=seed)
        return cam.fit([normal]).attribute(x, rectifier="none")

    assert torch.equal(maps(1), maps(1))
    assert not torch.equal(maps(1), maps(2))


def test_the_sampled_difference_leaves_the_random_state_alone():
    vae = ToyVAE()
    cam = NormalDifferenceGradCAM(vae, "conv2", difference="sample").fit([vae.images(5, seed=1)])
    before = torch.get_rng_state()
    cam.attribute(vae.images(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_it_takes_baselines_and_weightings_like_the_other_methods():
    """Integrated from a baseline, the expected difference is complete with method 2's sign."""
    vae = ToyVAE(activation=nn.Tanh)
    x = vae.images(3)
    cam = NormalDifferenceGradCAM(vae, "conv2").fit([vae.images(4, seed=1)])
    found = cam.attribute(x, baselines=0.0, weighting="integrated", rectifier="none", n_steps=16)
    wanted = vae.encode(torch.zeros_like(x))[0].sum(1) - vae.encode(x)[0].sum(1)
    assert_equal(found.sum((1, 2, 3)), wanted.detach(), relative=1e-8)


def test_fit_returns_itself_and_needs_no_gradients():
    vae = ToyVAE()
    cam = NormalDifferenceGradCAM(vae, "conv2")
    assert cam.fit([vae.images(3)]) is cam
    assert not cam.normal_mean.requires_grad and not cam.normal_variance.requires_grad


def test_attributing_before_fitting_says_what_to_do():
    vae = ToyVAE()
    with pytest.raises(ValueError, match=r"the normal class is unknown; call fit\(loader"):
        NormalDifferenceGradCAM(vae, "conv2").attribute(vae.images(2))


def test_fitting_on_nothing_is_refused():
    with pytest.raises(ValueError, match="batches is empty: fit needs at least one normal image"):
        NormalDifferenceGradCAM(ToyVAE(), "conv2").fit([])


def test_a_posterior_without_variance_is_refused_by_name():
    vae = ToyVAE()
    cam = NormalDifferenceGradCAM(vae, "conv2", posterior="encode:[0]", difference="sample")
    with pytest.raises(ValueError, match="needs the posterior's log-variance.*MEAN,LOGVAR"):
        cam.fit([vae.images(2)])


def test_the_expected_difference_needs_no_variance():
    vae = ToyVAE()
    x = vae.images(3)
    cam = NormalDifferenceGradCAM(vae, "conv2", posterior="encode:[0]").fit([vae.images(2)])
    found = cam.attribute(x, rectifier="none")
    wanted = -MeanSumGradCAM(vae, "conv2").attribute(x, rectifier="none")
    torch.testing.assert_close(found, wanted)


def test_an_unknown_difference_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="difference='kl' is not known; choose .*mahalanobis"):
        NormalDifferenceGradCAM(ToyVAE(), "conv2", difference="kl")


def test_it_has_one_map_per_image_where_method_1_has_one_per_dimension():
    vae = ToyVAE()
    x = vae.images(2)
    cam = NormalDifferenceGradCAM(vae, "conv2", posterior="encode:[0],[1]").fit([x])
    assert cam.attribute(x).shape == (2, 1, 3, 3)
    assert LatentGradCAM(vae, "conv2").attribute(x).shape == (2, D, 3, 3)
