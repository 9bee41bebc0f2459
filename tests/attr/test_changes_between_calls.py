"""One attribution object, and everything that may change between its calls: each is seen."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from captum_vae import LatentGradCAM, MeanActivation, MeanSumGradCAM
from tests.attr.toys import D, ToyVAE, assert_equal, features_and_gradients

LAYERS = ("conv1", "act1", "conv2", "act2")


class Branching(ToyVAE):
    """Takes another way, of other operations, by the values of its input."""

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(4, 8).double()

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.conv1(x))))
        if x.sum() > 0:
            return self.act3(self.fc(features.flatten(1)))
        return torch.tanh(self.other(features.mean((2, 3))))


class ByMode(ToyVAE):
    """Scales its features in training mode, as dropout would."""

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.conv1(x))))
        if self.training:
            features = features * features.sigmoid()
        return self.act3(self.fc(features.flatten(1)))


def in_place(vae, x):
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(-1.3).add_(0.05)
    return x


def by_data(vae, x):
    for parameter in vae.parameters():
        parameter.data = parameter.data.flip(0)
    return x


def loaded(vae, x):
    torch.manual_seed(5)
    state = {name: torch.randn_like(value) for name, value in vae.state_dict().items()}
    vae.load_state_dict(state)
    return x


def assigned(vae, x):
    state = {name: 2 * value for name, value in vae.state_dict().items()}
    vae.load_state_dict(state, assign=True)
    return x


def stepped(vae, x):
    optimizer = torch.optim.SGD(vae.parameters(), lr=0.5)
    vae.encode(x)[0].square().sum().backward()
    optimizer.step()
    vae.zero_grad()
    return x


def frozen(vae, x):
    vae.requires_grad_(False)
    return x


def half_frozen(vae, x):
    vae.conv1.requires_grad_(False)
    vae.fc.weight.requires_grad_(False)
    return x


def in_train_mode(vae, x):
    vae.train()
    return x


def of_another_size(vae, x):
    return torch.cat([x, 2 * x, x.flip(0)])


def of_one(vae, x):
    return x[:1].clone()


def on_the_other_branch(vae, x):
    return -x


def replaced_layer(vae, x):
    vae.fc = nn.Linear(36, 8).double()
    return x


def replaced_activation(vae, x):
    vae.act3 = nn.Tanh()
    return x


def hooked(vae, x):
    vae.fc.register_forward_hook(lambda module, inputs, output: output * output.sigmoid())
    return x


def hooked_before(vae, x):
    vae.conv2.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 3,))
    return x


def with_another_forward(vae, x):
    vae.trunk = lambda x: vae.act3(
        vae.fc(torch.cumsum(vae.act2(vae.conv2(vae.act1(vae.conv1(x)))), 2).flatten(1))
    )
    return x


def in_single_precision(vae, x):
    vae.float()
    return x.float()


def pruned(vae, x):
    prune.l1_unstructured(vae.fc, "weight", 0.5)
    return x


CHANGES = (
    *(in_place, by_data, loaded, assigned, stepped, frozen, half_frozen, in_train_mode),
    *(of_another_size, of_one, on_the_other_branch, replaced_layer, replaced_activation),
    *(hooked, hooked_before, with_another_forward, in_single_precision, pruned),
)


def check(vae, x, cams):
    """Every attribution's maps against autograd, one dimension at a time."""
    for (layer, target), (one, summed) in cams.items():
        leaf = x.detach().clone().requires_grad_()
        features, gradients = features_and_gradients(
            lambda x: vae.encode(x)[0], vae.get_submodule(layer), leaf
        )
        alpha = gradients.flatten(3).mean(3)
        flat = features.flatten(2)
        shape = features.shape[2:]
        dims = list(range(D)) if target is None else [target]
        precision = 1e-10 if x.dtype == torch.float64 else 1e-4
        wanted = (alpha[:, dims] @ flat).unflatten(2, shape)
        assert_equal(one.attribute(x, target=target, rectifier="none"), wanted, precision)
        total = (alpha[:, dims].sum(1, keepdim=True) @ flat).unflatten(2, shape)
        assert_equal(summed.attribute(x, target=target, rectifier="none"), total, precision)


@pytest.mark.filterwarnings("ignore::captum_vae.posterior.CollapsedPosteriorWarning")
@pytest.mark.parametrize("kind", [ToyVAE, Branching, ByMode])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_between_two_calls_is_seen(change, kind):
    torch.manual_seed(3)
    vae = kind()
    x = vae.images(2).abs()
    cams = {
        key: (
            LatentGradCAM(vae, key[0], posterior="encode:[0],[1]"),
            MeanSumGradCAM(vae, key[0], posterior="encode:[0],[1]"),
        )
        for key in itertools.product(LAYERS, (None, 1))
    }
    check(vae, x, cams)
    check(vae, change(vae, x), cams)
    check(vae, vae.images(12, seed=1).to(x.dtype).to(next(vae.parameters()).dtype), cams)


def test_a_copy_of_the_model_and_of_the_attribution_are_their_own():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    before = cam.attribute(x)
    other = copy.deepcopy(cam)
    in_place(other.forward_func, x)
    assert torch.equal(cam.attribute(x), before)
    assert not torch.allclose(other.attribute(x), before)


def test_other_baselines_and_options_between_calls_are_seen():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    normal = MeanActivation().fit(cam, [x])
    options = [
        {},
        {"baselines": normal},
        {"baselines": "reconstruction"},
        {"weighting": "elementwise"},
        {"preset": "authors", "size": 5},
        {"target": [2, 0]},
        {"aggregate": "max"},
    ]
    fresh = [LatentGradCAM(vae, "conv2").attribute(x, **option) for option in options]
    for _ in range(2):
        for option, wanted in zip(options, fresh, strict=True):
            assert torch.equal(cam.attribute(x, **option), wanted)


def test_a_decoder_replaced_between_calls_reconstructs_anew():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    cam.attribute(x, baselines="reconstruction")
    vae.to_image = nn.Linear(D, 72).double()
    image = vae.decode(vae.encode(x)[0]).detach()
    assert_equal(
        cam.attribute(x, baselines="reconstruction"), cam.attribute(x, baselines=image), 1e-12
    )
