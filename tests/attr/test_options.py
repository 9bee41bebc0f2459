"""target, rectifier, order, reduction, aggregate and size, each against plain tensor arithmetic."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from captum_vae import LatentGradCAM, MeanSumGradCAM
from captum_vae.attr import MapOptions
from tests.attr.toys import D, ToyVAE, assert_equal, features_and_gradients

RECTIFIERS = {
    "relu": lambda a: a.clamp(min=0),
    "abs": torch.abs,
    "sigmoid": lambda a: 1 / (1 + torch.exp(-a)),
    "none": lambda a: a,
}


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(7)
    return ToyVAE()


@pytest.fixture(scope="module")
def x(vae):
    return vae.images(3)


@pytest.fixture(scope="module")
def products(vae, x):
    """weight times feature of every channel, (B, D, K, h, w), for both weightings."""
    features, gradients = features_and_gradients(lambda x: vae.encode(x)[0], vae.conv2, x)
    pooled = gradients.mean((3, 4), keepdim=True)
    return {
        "pooled": pooled * features[:, None],
        "elementwise": gradients * features[:, None],
    }


weightings = pytest.mark.parametrize("weighting", ["pooled", "elementwise"])
rectifiers = pytest.mark.parametrize("rectifier", list(RECTIFIERS))


@weightings
@rectifiers
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_rectifying_after_the_sum(vae, x, products, weighting, rectifier, reduction):
    wanted = RECTIFIERS[rectifier](getattr(products[weighting], reduction)(2))
    options = {"weighting": weighting, "rectifier": rectifier, "reduction": reduction}
    assert_equal(LatentGradCAM(vae, "conv2").attribute(x, **options), wanted)


@weightings
@rectifiers
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_rectifying_per_channel(vae, x, products, weighting, rectifier, reduction):
    wanted = getattr(RECTIFIERS[rectifier](products[weighting]), reduction)(2)
    options = {"weighting": weighting, "rectifier": rectifier, "reduction": reduction}
    found = LatentGradCAM(vae, "conv2").attribute(x, order="channelwise", **options)
    assert_equal(found, wanted)


@weightings
@rectifiers
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_rectifying_after_the_upsampling(vae, x, products, weighting, rectifier, reduction):
    maps = getattr(products[weighting], reduction)(2)
    wanted = RECTIFIERS[rectifier](F.interpolate(maps, (6, 6), mode="bilinear"))
    options = {"weighting": weighting, "rectifier": rectifier, "reduction": reduction}
    found = LatentGradCAM(vae, "conv2").attribute(
        x, order="after_upsampling", size="input", **options
    )
    assert_equal(found, wanted)


@weightings
@rectifiers
@pytest.mark.parametrize("order", ["after_sum", "channelwise", "after_upsampling"])
def test_keeping_the_channels_rectifies_each(vae, x, products, weighting, rectifier, order):
    wanted = RECTIFIERS[rectifier](products[weighting])
    options = {"weighting": weighting, "rectifier": rectifier, "order": order}
    found = LatentGradCAM(vae, "conv2").attribute(x, reduction="none", **options)
    assert_equal(found, wanted)


def test_keeping_the_channels_resizes_each(vae, x, products):
    wanted = F.interpolate(products["pooled"].flatten(0, 1).abs(), (6, 6), mode="bilinear")
    found = LatentGradCAM(vae, "conv2").attribute(
        x, reduction="none", rectifier="abs", size="input"
    )
    assert_equal(found, wanted.unflatten(0, (3, D)))


@pytest.mark.parametrize("aggregate", ["mean", "max", "sum"])
@pytest.mark.parametrize("size", [None, "input"])
@pytest.mark.parametrize("preset", ["paper", "authors"])
def test_aggregating_rectified_maps_over_the_dimensions(vae, x, products, aggregate, size, preset):
    maps = products["pooled"].sum(2)
    maps = maps.clamp(min=0) if preset == "paper" else maps
    reduce = {"mean": torch.mean, "max": torch.amax, "sum": torch.sum}[aggregate]

    def resize(maps):
        return maps if size is None else F.interpolate(maps, (6, 6), mode="bilinear")

    if preset == "paper":
        wanted = resize(reduce(maps, 1, keepdim=True))
    else:
        wanted = reduce(resize(maps).abs(), 1, keepdim=True)
    found = LatentGradCAM(vae, "conv2").attribute(x, preset=preset, aggregate=aggregate, size=size)
    assert_equal(found, wanted)


def test_aggregating_takes_only_the_targets_dimensions(vae, x, products):
    wanted = products["pooled"].sum(2).clamp(min=0)[:, [0, 2]].mean(1, keepdim=True)
    found = LatentGradCAM(vae, "conv2").attribute(x, target=[0, 2], aggregate="mean")
    assert_equal(found, wanted)


@pytest.mark.parametrize(
    ("target", "dims"),
    [
        (None, [0, 1, 2]),
        (0, [0]),
        (-1, [2]),
        (np.int64(1), [1]),
        ([2, 0], [2, 0]),
        ((0, -1), [0, 2]),
        ([1, 1, 1], [1]),
        ([2, -1, 0, 2], [2, 0]),
        (range(2), [0, 1]),
        (torch.tensor(1), [1]),
        (torch.tensor([2, 1]), [2, 1]),
        (torch.tensor([[2], [1]], dtype=torch.int32), [2, 1]),
        (np.array([2, 1]), [2, 1]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("layer", ["conv1", "conv2", "act2"])
def test_target_chooses_dimensions_in_its_own_order_without_repeats(vae, x, layer, target, dims):
    cam = LatentGradCAM(vae, layer)
    wanted = cam.attribute(x, rectifier="none")[:, dims]
    assert_equal(cam.attribute(x, target=target, rectifier="none"), wanted)


@pytest.mark.parametrize(("target", "dims"), [(1, [1]), ([0, 2], [0, 2]), ([-1, 2], [2])], ids=str)
def test_target_of_method_2_says_which_means_are_summed(vae, x, target, dims):
    score = lambda x: vae.encode(x)[0][:, dims].sum(1, keepdim=True)  # noqa: E731
    features, gradients = features_and_gradients(score, vae.conv2, x)
    wanted = torch.einsum("bdk,bkhw->bdhw", gradients.mean((3, 4)), features)
    found = MeanSumGradCAM(vae, "conv2").attribute(x, target=target, rectifier="none")
    assert_equal(found, wanted)


@pytest.mark.parametrize(
    ("axes", "size", "wanted"),
    [
        (1, "input", (6,)),
        (1, 9, (9,)),
        (2, "input", (6, 6)),
        (2, 5, (5, 5)),
        (2, (2, 7), (2, 7)),
        (2, [4, 8], (4, 8)),
        (2, torch.Size((8, 9)), (8, 9)),
        (2, None, (3, 3)),
        (3, "input", (6, 6, 6)),
        (3, (4, 5, 6), (4, 5, 6)),
    ],
)
@pytest.mark.parametrize("order", ["after_sum", "after_upsampling"])
def test_size_resizes_linearly_along_every_axis(axes, size, wanted, order):
    vae = ToyVAE(axes)
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    maps = cam.attribute(x, rectifier="none")
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[axes]
    resized = F.interpolate(maps, wanted, mode=mode, align_corners=False)
    assert_equal(cam.attribute(x, size=size, rectifier="none", order=order), resized)


def test_an_option_replaces_the_presets_own(vae, x, products):
    found = LatentGradCAM(vae, "conv2").attribute(x, preset="replication_a", reduction="sum")
    assert_equal(found, products["pooled"].abs().sum(2))


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("preset", "paper, authors, replication_a, replication_b"),
        ("rectifier", "relu, abs, sigmoid, none"),
        ("order", "after_sum, channelwise, after_upsampling"),
        ("reduction", "sum, mean, none"),
        ("weighting", "pooled, elementwise, integrated"),
        ("aggregate", "none, mean, max, sum"),
    ],
)
def test_an_unknown_option_is_refused_with_the_choices(vae, x, name, choices):
    with pytest.raises(ValueError, match=f"{name}='softplus' is not known; choose .*{choices}"):
        LatentGradCAM(vae, "conv2").attribute(x, **{name: "softplus"})


def test_an_unknown_option_name_is_a_type_error(vae, x):
    with pytest.raises(TypeError, match="use_abs"):
        LatentGradCAM(vae, "conv2").attribute(x, use_abs=True)


def test_map_options_check_themselves():
    with pytest.raises(ValueError, match="rectifier='softplus' is not known"):
        MapOptions(rectifier="softplus")


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (3, ValueError, "target=3 is out of range: the posterior has 3 latent dimensions, 0 to 2"),
        (-4, ValueError, "target=-4 is out of range"),
        ([0, 7], ValueError, "target=7 is out of range"),
        (torch.tensor([5]), ValueError, "target=5 is out of range"),
        ([], ValueError, "target is empty; give latent dimensions, or None for all"),
        (torch.tensor([], dtype=torch.long), ValueError, "target is empty"),
        (1.0, TypeError, "target=1.0 must name latent dimensions by whole numbers"),
        (torch.tensor([0.0, 1.0]), TypeError, "by whole numbers"),
        (True, TypeError, "target=True must name"),
        ("1", TypeError, "target='1' must name"),
        ({1}, TypeError, "by whole numbers"),
        ([(0, 1)], TypeError, "by whole numbers"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
def test_a_target_that_names_no_dimension_is_refused(vae, x, method, target, error, message):
    with pytest.raises(error, match=message):
        method(vae, "conv2").attribute(x, target=target)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("imput", "size='imput' is not known; choose one of input"),
        ((4,), r"size=\(4,\) means \(4,\), but the features have 2 spatial axes"),
        ((4, 4, 4), "the features have 2 spatial axes; give one positive whole number per axis"),
        (0, "size=0 must be at least 1"),
        ((4, -1), "size=-1 must be at least 1"),
        (3.5, "size=3.5 is no whole number"),
        ((2.5, 3), "size=2.5 is no whole number; give 'input', one positive whole number"),
    ],
    ids=repr,
)
def test_a_size_that_does_not_fit_is_refused(vae, x, size, message):
    with pytest.raises((ValueError, TypeError), match=message):
        LatentGradCAM(vae, "conv2").attribute(x, size=size)


@pytest.mark.parametrize("n_steps", [0, -1])
def test_a_path_without_steps_is_refused(vae, x, n_steps):
    with pytest.raises(ValueError, match=f"n_steps={n_steps} must be at least 1"):
        LatentGradCAM(vae, "conv2").attribute(x, weighting="integrated", n_steps=n_steps)


@pytest.mark.parametrize("option", ["dims_per_pass", "memory_budget"])
def test_a_pass_over_nothing_is_refused(vae, option):
    with pytest.raises(ValueError, match=f"{option}=0 must be at least 1; or None"):
        LatentGradCAM(vae, "conv2", **{option: 0})
