"""Which features are explained: in-place neighbours, several layers, names, tokens, wrappers."""

import copy

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM
from tests.attr.toys import D, ToyVAE, assert_equal, captum_loop, features_and_gradients


def twin_of(vae, twin):
    twin.load_state_dict(vae.state_dict())
    return twin


@pytest.mark.parametrize("layer", ["conv1", "act1", "conv2", "act2"])
@pytest.mark.parametrize("weighting", ["pooled", "elementwise"])
def test_in_place_relus_change_nothing(layer, weighting):
    """Behind conv1 the ReLU overwrites the layer's output; act1 overwrites its own input."""
    vae = ToyVAE()
    x = vae.images(3)
    in_place = twin_of(vae, ToyVAE(inplace=True))
    options = {"rectifier": "none", "weighting": weighting}
    wanted = LatentGradCAM(vae, layer).attribute(x, **options)
    assert_equal(LatentGradCAM(in_place, layer).attribute(x, **options), wanted)


@pytest.mark.parametrize("layer", ["act1", "act2"])
def test_the_input_of_an_in_place_relu_is_what_it_was_before(layer):
    vae = ToyVAE()
    x = vae.images(3)
    in_place = twin_of(vae, ToyVAE(inplace=True))
    options = {"rectifier": "none", "attribute_to_layer_input": True}
    wanted = LatentGradCAM(vae, layer).attribute(x, **options)
    assert_equal(LatentGradCAM(in_place, layer).attribute(x, **options), wanted)


class InPlaceSkip(nn.Module):
    """A residual step whose sum overwrites the step's input."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 3, 3, padding=1)
        self.step = nn.Conv2d(3, 3, 3, padding=1)
        self.fc_mu = nn.Linear(108, D)
        self.fc_logvar = nn.Linear(108, D)
        self.double().eval()

    def encode(self, x):
        hidden = self.stem(x)
        hidden += self.step(hidden)
        flat = torch.tanh(hidden).flatten(1)
        return self.fc_mu(flat), self.fc_logvar(flat)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_layers_input_that_the_model_later_overwrites_is_explained_as_it_was(create_graph):
    vae = InPlaceSkip()
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    start = vae.stem(x).detach()
    features = start.clone().requires_grad_()
    codes = vae.fc_mu(torch.tanh(start + vae.step(features)).flatten(1))
    alpha = torch.stack(
        [
            torch.autograd.grad(codes[:, d].sum(), features, retain_graph=True)[0].mean((2, 3))
            for d in range(D)
        ],
        1,
    )
    wanted = torch.einsum("bdk,bkhw->bdhw", alpha, start)
    found = LatentGradCAM(vae, "step").attribute(
        x, rectifier="none", attribute_to_layer_input=True, create_graph=create_graph
    )
    assert_equal(found.detach(), wanted)


class OverwrittenTap(nn.Module):
    """An Identity hands on the very tensor that the model then overwrites."""

    def __init__(self, copy_first):
        super().__init__()
        self.copy_first = copy_first
        self.stem = nn.Conv2d(2, 3, 3, padding=1)
        self.tap = nn.Identity()
        self.fc_mu = nn.Linear(108, D)
        self.fc_logvar = nn.Linear(108, D)
        self.double().eval()

    def encode(self, x):
        start = self.stem(x)
        tapped = self.tap(start.clone() if self.copy_first else start)
        start.relu_()
        flat = (start + tapped).flatten(1)
        return self.fc_mu(flat), self.fc_logvar(flat)


@pytest.mark.parametrize("create_graph", [False, True])
def test_features_that_share_memory_with_an_overwritten_tensor_are_explained_as_they_were(
    create_graph,
):
    vae = OverwrittenTap(copy_first=True)
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    wanted = captum_loop(lambda x: vae.encode(x)[0], vae.tap, x, D)
    shared = twin_of(vae, OverwrittenTap(copy_first=False))
    found = LatentGradCAM(shared, "tap").attribute(x, create_graph=create_graph)
    assert_equal(found.detach(), wanted)


def test_several_layers_give_a_tuple_that_equals_one_layer_at_a_time():
    """conv1 is upstream of conv2 and act2; each map is as if the others were not watched."""
    vae = ToyVAE()
    x = vae.images(3)
    names = ["act2", "conv1", "conv2", "act1"]
    found = LatentGradCAM(vae, names).attribute(x)
    assert isinstance(found, tuple)
    for maps, name in zip(found, names, strict=True):
        assert_equal(maps, LatentGradCAM(vae, name).attribute(x))


@pytest.mark.parametrize("weighting", ["elementwise", "integrated"])
@pytest.mark.parametrize("baselines", [None, "reconstruction"])
def test_several_layers_agree_with_single_ones_under_every_weighting(weighting, baselines):
    vae = ToyVAE()
    x = vae.images(2)
    options = {"weighting": weighting, "baselines": baselines, "rectifier": "none", "n_steps": 2}
    found = LatentGradCAM(vae, [vae.conv1, vae.act2]).attribute(x, **options)
    for maps, layer in zip(found, [vae.conv1, vae.act2], strict=True):
        assert_equal(maps, LatentGradCAM(vae, layer).attribute(x, **options))


def test_several_layers_inputs_agree_with_single_ones():
    vae = ToyVAE()
    x = vae.images(2)
    found = LatentGradCAM(vae, [vae.conv2, vae.act2]).attribute(x, attribute_to_layer_input=True)
    for maps, layer in zip(found, [vae.conv2, vae.act2], strict=True):
        single = LatentGradCAM(vae, layer).attribute(x, attribute_to_layer_input=True)
        assert_equal(maps, single)


def test_a_list_of_one_layer_gives_a_tuple_of_one():
    vae = ToyVAE()
    found = LatentGradCAM(vae, ["conv2"]).attribute(vae.images(2))
    assert isinstance(found, tuple) and len(found) == 1


def test_the_same_layer_twice_gives_its_maps_twice():
    vae = ToyVAE()
    x = vae.images(2)
    first, second = LatentGradCAM(vae, [vae.conv2, "conv2"]).attribute(x, rectifier="none")
    single = LatentGradCAM(vae, vae.conv2).attribute(x, rectifier="none")
    assert_equal(first, single)
    assert_equal(second, single)


def test_a_layer_inside_another_is_found_by_its_dotted_name():
    vae = nn.Module()
    vae.body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3)))
    vae.head = nn.Linear(16, D)
    vae.encode = lambda x: (vae.head(vae.body(x).flatten(1)), torch.zeros(len(x), D))
    x = torch.randn(2, 2, 6, 6)
    by_name = LatentGradCAM(vae, "body.1.1", posterior="encode:[0]").attribute(x)
    by_module = LatentGradCAM(vae, vae.body[1][1], posterior="encode:[0]").attribute(x)
    assert torch.equal(by_name, by_module) and by_name.abs().sum() > 0


def test_a_container_is_a_layer_too():
    """A Sequential and its last module put out the same features."""
    vae = nn.Module()
    vae.body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3))
    vae.head = nn.Linear(16, D)
    vae.encode = lambda x: (vae.head(vae.body(x).flatten(1)), torch.zeros(len(x), D))
    x = torch.randn(2, 2, 6, 6)
    whole = LatentGradCAM(vae, vae.body, posterior="encode:[0]").attribute(x)
    last = LatentGradCAM(vae, vae.body[2], posterior="encode:[0]").attribute(x)
    assert torch.equal(whole, last) and last.abs().sum() > 0


class TokenEncoder(nn.Module):
    """Patches of a 6x6 image as tokens (B, 1 + 9, 5), the first one a class token."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, 5, 2, stride=2)
        self.class_token = nn.Parameter(torch.randn(1, 1, 5))
        self.block = nn.TransformerEncoderLayer(5, 1, 8, dropout=0.0, batch_first=True)
        self.fc_mu = nn.Linear(5, D)
        self.fc_logvar = nn.Linear(5, D)
        self.double().eval()

    def encode(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1)
        hidden = self.block(tokens).tanh().mean(1)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


def grid_of(tokens):
    """(B, 10, 5) -> (B, 5, 3, 3), without the class token."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (3, 3))


@pytest.mark.parametrize("weighting", ["pooled", "elementwise"])
def test_reshape_transform_brings_tokens_to_a_grid(weighting):
    vae = TokenEncoder()
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    tokens, gradients = features_and_gradients(lambda x: vae.encode(x)[0], vae.block, x)
    grid = grid_of(tokens)[:, None]
    grads = torch.stack([grid_of(gradients[:, d]) for d in range(D)], 1)
    weights = grads.mean((3, 4), keepdim=True) if weighting == "pooled" else grads
    cam = LatentGradCAM(vae, vae.block, reshape_transform=grid_of)
    found = cam.attribute(x, rectifier="none", weighting=weighting)
    assert_equal(found, (weights * grid).sum(2))


def test_reshape_transform_works_with_a_baseline():
    vae = TokenEncoder()
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    tokens, gradients = features_and_gradients(lambda x: vae.encode(x)[0], vae.block, x)
    at_zero, _ = features_and_gradients(lambda x: vae.encode(x)[0], vae.block, torch.zeros_like(x))
    contrast = grid_of(tokens - at_zero)[:, None]
    alpha = torch.stack([grid_of(gradients[:, d]) for d in range(D)], 1).mean((3, 4), keepdim=True)
    cam = LatentGradCAM(vae, vae.block, reshape_transform=grid_of)
    found = cam.attribute(x, baselines=0.0, rectifier="none")
    assert_equal(found, (alpha * contrast).sum(2))


def test_a_reshape_transform_that_changes_nothing_changes_no_map():
    """It keeps the closed form away, so this also compares two ways to the weights."""
    vae = ToyVAE()
    x = vae.images(3)
    plain = LatentGradCAM(vae, "conv2").attribute(x)
    reshaped = LatentGradCAM(vae, "conv2", reshape_transform=lambda a: a).attribute(x)
    assert_equal(reshaped, plain)


class Conditional(nn.Module):
    """encode(image, label, scale): a second input, and an argument that is no tensor."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.label = nn.Linear(4, 3)
        self.fc_mu = nn.Linear(48, D)
        self.fc_logvar = nn.Linear(48, D)
        self.double().eval()

    def encode(self, x, y, scale=1.0):
        hidden = scale * self.conv(x) + self.label(y)[:, :, None, None]
        flat = torch.tanh(hidden).flatten(1)
        return self.fc_mu(flat), self.fc_logvar(flat)


def test_further_arguments_of_the_model_reach_it():
    vae = Conditional()
    x, y = torch.randn(2, 2, 6, 6).double(), torch.randn(2, 4).double()
    wanted = captum_loop(lambda x: vae.encode(x, y, 2.5)[0], vae.conv, x, D)
    found = LatentGradCAM(vae, "conv").attribute(x, additional_forward_args=(y, 2.5))
    assert_equal(found, wanted)


def test_a_single_further_argument_needs_no_tuple():
    vae = Conditional()
    x, y = torch.randn(2, 2, 6, 6).double(), torch.randn(2, 4).double()
    wanted = captum_loop(lambda x: vae.encode(x, y)[0], vae.conv, x, D)
    assert_equal(LatentGradCAM(vae, "conv").attribute(x, additional_forward_args=y), wanted)


def test_several_inputs_are_a_tuple():
    vae = Conditional()
    x, y = torch.randn(2, 2, 6, 6).double(), torch.randn(2, 4).double()
    wanted = captum_loop(lambda x: vae.encode(x, y)[0], vae.conv, x, D)
    assert_equal(LatentGradCAM(vae, "conv").attribute((x, y)), wanted)


def test_several_inputs_take_several_baselines():
    vae = Conditional()
    x, y = torch.randn(2, 2, 6, 6).double(), torch.randn(2, 4).double()
    contrast = (vae.conv(x) - vae.conv(torch.zeros_like(x))).detach()
    _, gradients = features_and_gradients(lambda x: vae.encode(x, y)[0], vae.conv, x)
    wanted = torch.einsum("bdk,bkhw->bdhw", gradients.mean((3, 4)), contrast)
    found = LatentGradCAM(vae, "conv").attribute((x, y), baselines=(0, y), rectifier="none")
    assert_equal(found, wanted)


def test_a_deep_copied_model_and_its_attribution_do_not_meddle_with_the_original():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    wanted = cam.attribute(x)
    twin = copy.deepcopy(vae)
    with torch.no_grad():
        twin.conv1.weight.zero_()
    assert_equal(cam.attribute(x), wanted)
    assert not torch.equal(LatentGradCAM(twin, "conv2").attribute(x), wanted)


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
def test_channels_last_gives_the_same_maps(method):
    vae = ToyVAE()
    x = vae.images(3)
    wanted = method(vae, ["conv1", "conv2", "act2"]).attribute(x, rectifier="none")
    last = copy.deepcopy(vae).to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    assert not last.conv2(last.conv1(x)).is_contiguous()
    found = method(last, ["conv1", "conv2", "act2"]).attribute(x, rectifier="none")
    for maps, expected in zip(found, wanted, strict=True):
        assert_equal(maps, expected)
