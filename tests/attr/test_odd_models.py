"""What users' models do in the wild: each works, or says clearly why not."""

import threading

import pytest
import torch
import torch.utils.checkpoint as checkpointing
from torch import nn

from captum_vae import LatentGradCAM
from tests.attr.toys import D, ToyVAE, assert_equal, captum_loop

LAYERS = ["conv1", "act1", "conv2", "act2"]
layers = pytest.mark.parametrize("layer", LAYERS)
ways = pytest.mark.parametrize(
    "options",
    [{}, {"weighting": "elementwise"}, {"weighting": "integrated", "n_steps": 2}],
    ids=["pooled", "elementwise", "integrated"],
)


def same_weights(kind, **options):
    """A plain toy and a variant of it with the same weights, with smooth activations."""
    plain, odd = ToyVAE(activation=nn.Tanh), kind(activation=nn.Tanh, **options)
    odd.load_state_dict(plain.state_dict(), strict=False)
    return plain, odd


def compare(plain, odd, layer, options, **more):
    x = plain.images(2)
    wanted = LatentGradCAM(plain, layer).attribute(x, rectifier="none", **options)
    found = LatentGradCAM(odd, layer).attribute(x, rectifier="none", **options, **more)
    assert_equal(found.detach(), wanted)


class NoGradEncode(ToyVAE):
    @torch.no_grad()
    def encode(self, x):
        return super().encode(x)


class NoGradStem(ToyVAE):
    """A frozen stem, as in fine-tuning: the first layers run under no_grad."""

    def trunk(self, x):
        with torch.no_grad():
            hidden = self.act1(self.conv1(x))
        return self.act3(self.fc(self.act2(self.conv2(hidden)).flatten(1)))


class SetsGradMode(ToyVAE):
    def encode(self, x):
        with torch.set_grad_enabled(self.training):
            return super().encode(x)


@layers
@ways
@pytest.mark.parametrize("kind", [NoGradEncode, NoGradStem, SetsGradMode])
def test_no_grad_inside_the_model_changes_no_map(kind, layer, options):
    """Captum's Grad-CAM fails here; the hook records gradients from the features on."""
    plain, odd = same_weights(kind)
    compare(plain, odd, layer, options)


class Checkpointed(ToyVAE):
    reentrant = False

    def trunk(self, x):
        run = checkpointing.checkpoint
        hidden = run(lambda x: self.act1(self.conv1(x)), x, use_reentrant=self.reentrant)
        hidden = run(lambda x: self.act2(self.conv2(x)), hidden, use_reentrant=self.reentrant)
        return self.act3(self.fc(hidden.flatten(1)))


@layers
@ways
def test_a_checkpointed_encoder_gives_the_same_maps(layer, options):
    compare(*same_weights(Checkpointed), layer, options)


@layers
def test_a_checkpointed_encoder_gives_the_same_maps_with_a_graph(layer):
    compare(*same_weights(Checkpointed), layer, {}, create_graph=True)


@layers
def test_a_reentrant_checkpoint_is_refused_with_the_reason(layer):
    """It hides the graph from torch.autograd.grad; use_reentrant=False is PyTorch's own advice."""

    class Reentrant(Checkpointed):
        reentrant = True

    vae = Reentrant()
    with pytest.raises((ValueError, RuntimeError), match="use_reentrant=False"):
        LatentGradCAM(vae, layer).attribute(vae.images(2))
    assert all(p.grad is None for p in vae.parameters())


class Views(ToyVAE):
    """Every result is a view of something larger, and the latent is strided."""

    def encode(self, x):
        hidden = self.trunk(x.transpose(2, 3).transpose(2, 3))
        both = torch.stack([self.fc_mu(hidden), self.fc_logvar(hidden)], 2)
        return both[..., 0], both[..., 1]


class TransposedFeatures(ToyVAE):
    """conv2's output is a permuted view, so nothing behind it is contiguous."""

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.conv1(x).transpose(2, 3)).transpose(2, 3)))
        return self.act3(self.fc(features.permute(1, 2, 3, 0).permute(3, 0, 1, 2).flatten(1)))


class Chunked(ToyVAE):
    """[mu | logvar] from one Linear, as FactorVAE codes do."""

    def encode(self, x):
        weight = torch.cat([self.fc_mu.weight, self.fc_logvar.weight])
        bias = torch.cat([self.fc_mu.bias, self.fc_logvar.bias])
        return nn.functional.linear(self.trunk(x), weight, bias).chunk(2, 1)


class HalfTheBatch(ToyVAE):
    """The encoder works through the batch in two halves behind the convolutions."""

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.conv1(x))))
        return torch.cat([self.act3(self.fc(part.flatten(1))) for part in features.split(1)])


class FunctionalHead(ToyVAE):
    """einsum in place of Linear."""

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.conv1(x)))).flatten(1)
        return self.act3(torch.einsum("bf,hf->bh", features, self.fc.weight) + self.fc.bias)


class InPlaceMean(ToyVAE):
    def encode(self, x):
        mu, logvar = super().encode(x)
        mu *= 1.0
        return mu, logvar.clamp_(-10, 10)


class ListOutput(ToyVAE):
    """conv1 is wrapped in a layer that puts out a list of one tensor."""

    class Listed(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return [self.inner(x)]

    def trunk(self, x):
        if not hasattr(self, "listed"):
            self.listed = self.Listed(self.conv1)
        hidden = self.act1(self.listed(x)[0])
        return self.act3(self.fc(self.act2(self.conv2(hidden)).flatten(1)))


@layers
@ways
@pytest.mark.parametrize(
    "kind", [Views, TransposedFeatures, Chunked, HalfTheBatch, FunctionalHead, InPlaceMean]
)
def test_another_way_to_write_the_same_encoder_changes_no_map(kind, layer, options):
    plain, odd = same_weights(kind)
    if kind is TransposedFeatures and layer == "act1":  # its own output is transposed
        plain_maps = LatentGradCAM(plain, layer).attribute(plain.images(2), **options)
        odd_maps = LatentGradCAM(odd, layer).attribute(plain.images(2), **options)
        assert_equal(odd_maps, plain_maps.transpose(2, 3))
        return
    compare(plain, odd, layer, options)


@ways
def test_a_layer_that_puts_out_a_list_of_one_tensor_is_explained(options):
    plain, odd = same_weights(ListOutput)
    x = plain.images(2)
    odd.encode(x)
    wanted = LatentGradCAM(plain, "conv1").attribute(x, **options)
    assert_equal(LatentGradCAM(odd, odd.listed).attribute(x, **options), wanted)


@pytest.mark.parametrize("wrap", ["lambda", "mean", "encode", "forward", "partial"])
@layers
def test_any_callable_that_gives_the_posterior_is_explained(wrap, layer):
    vae = ToyVAE()
    x = vae.images(2)
    function = {
        "lambda": lambda x: vae(x),
        "mean": lambda x: vae.encode(x)[0],
        "encode": vae.encode,
        "forward": vae.forward,
        "partial": lambda x, flag=True: vae.encode(x),
    }[wrap]
    wanted = LatentGradCAM(vae, layer).attribute(x)
    assert_equal(LatentGradCAM(function, vae.get_submodule(layer)).attribute(x), wanted)


@layers
def test_a_model_in_train_mode_without_randomness_gives_its_maps(layer):
    plain, odd = same_weights(ToyVAE)
    compare(plain, odd.train(), layer, {})


def test_a_model_with_dropout_in_train_mode_gives_the_maps_of_that_one_draw():
    class Dropped(ToyVAE):
        def trunk(self, x):
            return nn.functional.dropout(super().trunk(x), 0.5, self.training)

    vae = Dropped().train()
    x = vae.images(2)
    wanted_cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    wanted_cam.attribute(x)
    torch.manual_seed(3)
    found = wanted_cam.attribute(x, rectifier="none")
    kept = []
    handle = vae.conv2.register_forward_hook(lambda m, i, o: kept.append(o))
    torch.manual_seed(3)
    mu = vae.encode(x)[0]
    handle.remove()
    alpha = torch.stack(
        [
            torch.autograd.grad(mu[:, d].sum(), kept[0], retain_graph=True)[0].mean((2, 3))
            for d in range(D)
        ],
        1,
    )
    assert_equal(found, torch.einsum("bdk,bkhw->bdhw", alpha, kept[0].detach()))


@layers
@ways
def test_a_users_forward_hook_on_the_layer_runs_first_and_stays(layer, options):
    """It doubles the layer's output: the maps are those of a model with that output."""
    plain, odd = same_weights(ToyVAE)
    calls = []

    def double(module, inputs, output):
        calls.append(module)
        return output * 2

    handles = [model.get_submodule(layer).register_forward_hook(double) for model in (plain, odd)]
    x = plain.images(2)
    found = LatentGradCAM(odd, layer).attribute(x, rectifier="none", **options)
    if not options:
        wanted = captum_loop(
            lambda x: plain.encode(x)[0], plain.get_submodule(layer), x, D, relu=False
        )
        assert_equal(found, wanted)
    before = len(calls)
    odd.encode(x)
    assert len(calls) == before + 1
    for handle in handles:
        handle.remove()


@layers
@ways
def test_users_backward_hooks_change_no_map(layer, options):
    plain, odd = same_weights(ToyVAE)
    for module in odd.modules():
        module.register_full_backward_hook(lambda module, inputs, outputs: None)
    odd.fc.weight.register_hook(lambda gradient: gradient * 0)
    compare(plain, odd, layer, options)


@layers
def test_a_users_backward_hook_sees_gradients_as_in_any_backward_pass(layer):
    """It may print or keep numbers, which a batched backward pass would not allow."""
    plain, odd = same_weights(ToyVAE)
    seen = []
    odd.get_submodule(layer).register_full_backward_hook(
        lambda module, inputs, outputs: seen.append(outputs[0].abs().sum().item())
    )
    compare(plain, odd, layer, {})


@layers
def test_anomaly_detection_changes_no_map(layer):
    plain, odd = same_weights(ToyVAE)
    with torch.autograd.set_detect_anomaly(True):
        compare(plain, odd, layer, {})


def test_a_spectral_norm_on_the_layer_works():
    vae = ToyVAE()
    torch.nn.utils.parametrizations.spectral_norm(vae.conv2)
    vae.eval()
    x = vae.images(2)
    wanted = captum_loop(lambda x: vae.encode(x)[0], vae.conv2, x, D)
    assert_equal(LatentGradCAM(vae, "conv2").attribute(x), wanted)


def test_a_lazy_layer_is_made_at_the_first_call():
    vae = ToyVAE()
    vae.fc = nn.LazyLinear(8, dtype=torch.float64)
    maps = LatentGradCAM(vae, "conv2").attribute(vae.images(2), rectifier="abs")
    assert maps.shape == (2, D, 3, 3) and maps.sum() > 0


def test_tied_weights_work():
    """The decoder uses the encoder's own fc_mu weight."""

    class Tied(ToyVAE):
        def decode(self, z):
            return self.to_image(z @ self.fc_mu.weight @ self.fc_mu.weight.t()).view(
                -1, *self.shape
            )

    plain, odd = same_weights(Tied)
    compare(plain, odd, "conv2", {})


def test_parameters_replaced_between_calls_are_seen():
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    cam.attribute(x)
    vae.fc_mu = nn.Linear(8, D).double()
    vae.conv1.weight.data.mul_(2)
    wanted = captum_loop(lambda x: vae.encode(x)[0], vae.conv2, x, D)
    assert_equal(cam.attribute(x), wanted)


def test_other_batch_and_image_sizes_need_no_new_attribution():
    vae = nn.Sequential()
    vae.conv = nn.Conv2d(1, 4, 3, padding=1).double()
    vae.fc_mu = nn.Linear(4, D).double()
    vae.encode = lambda x: (vae.fc_mu(torch.tanh(vae.conv(x)).mean((2, 3))), torch.zeros(len(x), D))
    cam = LatentGradCAM(vae, vae.conv, posterior="encode:[0]")
    for shape in ((2, 1, 6, 6), (5, 1, 9, 4), (1, 1, 3, 3)):
        x = torch.randn(shape, dtype=torch.float64)
        wanted = captum_loop(lambda x: vae.encode(x)[0], vae.conv, x, D)
        assert_equal(cam.attribute(x), wanted)


def test_inputs_of_stride_zero_work():
    vae = ToyVAE()
    x = vae.images(1).expand(3, -1, -1, -1)
    found = LatentGradCAM(vae, "conv2").attribute(x)
    assert_equal(found, LatentGradCAM(vae, "conv2").attribute(x.clone()))


def test_attribute_runs_in_a_thread_of_its_own():
    vae = ToyVAE()
    x = vae.images(2)
    wanted = LatentGradCAM(vae, "conv2").attribute(x)
    results = []
    thread = threading.Thread(
        target=lambda: results.append(LatentGradCAM(vae, "conv2").attribute(x))
    )
    thread.start()
    thread.join()
    assert_equal(results[0], wanted)


def test_the_repr_names_the_layers_and_the_reading():
    vae = ToyVAE()
    cam = LatentGradCAM(vae, ["conv1", vae.act2], posterior="encode:[0],[1]")
    text = repr(cam)
    assert text.startswith("LatentGradCAM(layer=Conv2d(2, 3") and "ReLU" in text
    assert "call='encode'" in text and "log_variance" in text


def test_a_channel_of_one_and_a_latent_of_one_work():
    vae = nn.Module()
    vae.conv = nn.Conv2d(1, 1, 1).double()
    vae.fc_mu = nn.Linear(9, 1).double()
    vae.encode = lambda x: (vae.fc_mu(vae.conv(x).flatten(1)), torch.zeros(len(x), 1))
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    wanted = captum_loop(lambda x: vae.encode(x)[0], vae.conv, x, 1, relu=False)
    cam = LatentGradCAM(vae, vae.conv, posterior="encode:[0]")
    assert_equal(cam.attribute(x, rectifier="none"), wanted)


@pytest.mark.parametrize("positions", [(1, 1), (1, 5), (4, 1)])
def test_a_map_of_a_single_row_or_position_works(positions):
    vae = nn.Module()
    vae.conv = nn.Conv2d(1, 3, 1).double()
    vae.fc_mu = nn.Linear(3 * positions[0] * positions[1], D).double()
    vae.encode = lambda x: (vae.fc_mu(vae.conv(x).tanh().flatten(1)), torch.zeros(len(x), D))
    x = torch.randn(2, 1, *positions, dtype=torch.float64)
    wanted = captum_loop(lambda x: vae.encode(x)[0], vae.conv, x, D, relu=False)
    cam = LatentGradCAM(vae, vae.conv, posterior="encode:[0]")
    assert_equal(cam.attribute(x, rectifier="none"), wanted)
