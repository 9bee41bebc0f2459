"""Tensor subclasses, TorchScript, quantised and meta models, checkpoints and tensor hooks."""

import copy
import warnings

import pytest
import torch
import torch.ao.quantization as quantization
import torch.utils.checkpoint as checkpointing
from torch import Tensor, nn

from captum_vae import DecoderAttribution, LatentGradCAM, MeanSumGradCAM, watch_forward
from tests.attr.toys import D, ToyVAE, assert_equal, features_and_gradients

pytestmark = [
    pytest.mark.filterwarnings("ignore::captum_vae.posterior.CollapsedPosteriorWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
LAYERS = ("conv1", "act1", "conv2", "act2")
WAYS = (
    {},
    {"target": 1},
    {"weighting": "elementwise"},
    {"weighting": "integrated", "n_steps": 2},
    {"baselines": "reconstruction"},
)


class Marked(Tensor):
    """Adds nothing, as the image types of fastai and kornia."""


class Loud(Tensor):
    """Has a behaviour of its own, as torchvision's and MONAI's."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("kind", [Marked, Loud, nn.Parameter, torch.nn.Buffer])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_input_of_a_tensor_subclass_gives_the_maps_of_its_numbers(kind, way):
    vae = ToyVAE()
    x = vae.images(2)
    odd = x.as_subclass(kind) if kind in (Marked, Loud) else kind(x)
    posterior = None if kind is Marked else "encode:[0],[1]"
    for layer in LAYERS:
        found = LatentGradCAM(vae, layer, posterior=posterior).attribute(odd, **way)
        assert type(found) is Tensor
        assert_equal(found, LatentGradCAM(vae, layer).attribute(x, **way))


def test_a_condition_of_a_tensor_subclass_is_taken_too():
    class Conditional(ToyVAE):
        def encode(self, x, c):
            mean, log_variance = super().encode(x)
            return mean * c, log_variance

    vae = Conditional()
    x, c = vae.images(2), torch.rand(2, 1, dtype=torch.float64) + 0.5
    cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    found = cam.attribute(x, additional_forward_args=c.as_subclass(Marked))
    assert_equal(found, cam.attribute(x, additional_forward_args=c))
    decoded = DecoderAttribution(vae.encode, decoder=vae.decode, posterior="[0]")
    assert decoded.attribute(x.as_subclass(Marked), additional_forward_args=c).isfinite().all()


class Scripted(nn.Module):
    """An encoder that TorchScript takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3)
        self.fc_mu, self.fc_logvar = nn.Linear(64, 3), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.conv2(torch.relu(self.conv1(x)))).flatten(1)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


def scripted_model():
    torch.manual_seed(0)
    return Scripted().double().eval()


X = torch.rand(2, 1, 8, 8, dtype=torch.float64)


def script(model):
    return torch.jit.script(model)


def trace(model):
    return torch.jit.trace(model, X)


def freeze(model):
    return torch.jit.freeze(torch.jit.script(model))


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)


@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
@pytest.mark.parametrize("compiled", [script, trace, freeze])
def test_a_layer_inside_torchscript_is_refused_before_anything_runs(compiled, method):
    inner = compiled(scripted_model())
    with pytest.raises(TypeError, match="TorchScript module .*explain the module that it was made"):
        method(inner, "conv2")
    if compiled is not freeze:
        with pytest.raises(TypeError, match="TorchScript"):
            method(inner, inner.conv2)
        for layer in ("inner.conv2", inner.conv2):
            with pytest.raises(TypeError, match="inside a TorchScript module"):
                method(Around(inner), layer)
        with pytest.raises(TypeError, match="TorchScript"):
            with watch_forward(inner, "conv2"):
                pass


@pytest.mark.parametrize("side", [False, True])
@pytest.mark.parametrize("compiled", [script, lambda layer: torch.jit.trace(layer, X[:, :1])])
@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_a_layer_that_is_torchscript_in_a_python_model_works(layer, compiled, side):
    """PyTorch refuses a hook on it, yet Python calls it."""
    plain = scripted_model()
    odd = copy.deepcopy(plain)
    odd.conv1 = compiled(odd.conv1)
    odd.conv2 = script(odd.conv2)
    cam = LatentGradCAM(odd, layer, posterior="[0],[1]")
    wanted = LatentGradCAM(plain, layer, posterior="[0],[1]")
    for way in WAYS[:4]:
        options = {"attribute_to_layer_input": side, "rectifier": "abs", **way}
        assert_equal(cam.attribute(X, **options), wanted.attribute(X, **options))
    assert not torch.nn.modules.module._global_forward_hooks


def test_torchscript_above_the_layer_works():
    plain = scripted_model()
    odd = copy.deepcopy(plain)
    odd.fc_mu, odd.conv2 = script(odd.fc_mu), trace_of_conv(odd.conv2)
    for way in WAYS[:4]:
        found = LatentGradCAM(odd, "conv1", posterior="[0],[1]").attribute(X, **way)
        wanted = LatentGradCAM(plain, "conv1", posterior="[0],[1]").attribute(X, **way)
        assert_equal(found, wanted)


def trace_of_conv(conv):
    return torch.jit.trace(conv, torch.rand(1, 3, 6, 6, dtype=torch.float64))


class Stubbed(Scripted):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = quantization.QuantStub(), quantization.DeQuantStub()

    def forward(self, x):
        mean, log_variance = super().forward(self.quant(x))
        return self.dequant(mean), self.dequant(log_variance)


def dynamically():
    return quantization.quantize_dynamic(Scripted().eval(), {nn.Linear}, dtype=torch.qint8)


def statically():
    model = Stubbed().eval()
    model.qconfig = quantization.get_default_qconfig("fbgemm")
    quantization.prepare(model, inplace=True)
    model(X.float())
    return quantization.convert(model)


@pytest.mark.parametrize("quantised", [dynamically, statically])
def test_a_quantised_model_is_refused_before_anything_runs(quantised):
    model = quantised()
    with pytest.raises(TypeError, match="quantised: PyTorch has no derivative.*as it was before"):
        LatentGradCAM(model, "conv1")


def test_a_model_prepared_for_quantisation_and_a_quantised_decoder_work():
    vae = ToyVAE().float()
    x = vae.images(2).float()
    wanted = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]").attribute(x)
    odd = copy.deepcopy(vae)
    odd.decoder = quantization.quantize_dynamic(nn.Sequential(nn.Linear(D, 9)), {nn.Linear})
    cam = LatentGradCAM(odd, "conv2", posterior="encode:[0],[1]")
    assert torch.equal(cam.attribute(x), wanted)


def test_a_meta_model_or_input_is_refused_before_anything_runs():
    vae = ToyVAE().to("meta")
    x = ToyVAE().images(2)
    for posterior in (None, "encode:[0],[1]"):
        cam = LatentGradCAM(vae, "conv2", posterior=posterior)
        with pytest.raises(ValueError, match="model's conv1.weight is on the meta device"):
            cam.attribute(x)
        with pytest.raises(ValueError, match="inputs is on the meta device"):
            cam.attribute(x.to("meta"))
        with pytest.raises(ValueError, match="inputs is on the meta device"):
            LatentGradCAM(ToyVAE(), "conv2", posterior=posterior).attribute(x.to("meta"))
    vae.to_empty(device="cpu").load_state_dict(ToyVAE().state_dict())
    assert cam.attribute(x).isfinite().all()


class Reentrant(ToyVAE):
    """The second convolution runs in a reentrant checkpoint."""

    def trunk(self, x):
        hidden = self.act1(self.conv1(x))
        hidden = checkpointing.checkpoint(
            lambda x: self.act2(self.conv2(x)), hidden, use_reentrant=True
        )
        return self.act3(self.fc(hidden.flatten(1)))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("way", WAYS[:4], ids=str)
@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_reentrant_checkpoint_is_refused_wherever_the_layer_is(layer, way, method, create_graph):
    vae = Reentrant()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="use_reentrant"):
            method(vae, layer).attribute(vae.images(2), create_graph=create_graph, **way)
    assert all(p.grad is None for p in vae.parameters())


def test_a_reentrant_checkpoint_below_the_layer_is_no_hindrance():
    class Below(ToyVAE):
        def trunk(self, x):
            hidden = checkpointing.checkpoint(
                lambda x: self.act1(self.conv1(x)), x, use_reentrant=True
            )
            return self.act3(self.fc(self.act2(self.conv2(hidden)).flatten(1)))

    vae, plain = Below(), ToyVAE()
    vae.load_state_dict(plain.state_dict())
    x = plain.images(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = LatentGradCAM(vae, "conv2").attribute(x)
    assert_equal(found, LatentGradCAM(plain, "conv2").attribute(x))


class HookedInside(ToyVAE):
    """Puts a hook that scales gradients on one value between features and latent codes."""

    where = ""

    def scaled(self, name, value):
        if self.where == name and value.requires_grad:
            value.register_hook(lambda gradient: self.change(gradient))
        return value

    def change(self, gradient):
        return 0.25 * gradient

    def trunk(self, x):
        first = self.scaled("act1", self.act1(self.scaled("conv1", self.conv1(x))))
        second = self.scaled("act2", self.act2(self.scaled("conv2", self.conv2(first))))
        flat = self.scaled("flat", second.flatten(1))
        return self.scaled("act3", self.act3(self.scaled("fc", self.fc(flat))))

    def encode(self, x):
        hidden = self.trunk(x)
        return self.scaled("mean", self.fc_mu(hidden)), self.fc_logvar(hidden)


class ReversedInside(HookedInside):
    def change(self, gradient):
        return -gradient


class Clipped(HookedInside):
    """By a rule that no constant factor gives, and reads a number, which no batched pass can."""

    def change(self, gradient):
        return gradient * (1.0 if float(gradient.abs().sum()) > 1 else 0.5)


@pytest.mark.parametrize("where", ["conv1", "act1", "conv2", "act2", "flat", "fc", "act3", "mean"])
@pytest.mark.parametrize("kind", [HookedInside, ReversedInside, Clipped])
def test_a_hook_that_changes_gradients_is_seen_as_in_a_backward_pass(kind, where):
    """On the features, where nothing is captured yet, and on everything behind them."""
    vae = kind()
    vae.where = where
    for count in (2, 12):
        x = vae.images(count)
        for layer in LAYERS:
            features, gradients = features_and_gradients(
                lambda x: vae.encode(x)[0], vae.get_submodule(layer), x
            )
            flat, alpha = features.flatten(2), gradients.flatten(3).mean(3)
            wanted = (alpha @ flat).unflatten(2, features.shape[2:])
            cam = LatentGradCAM(vae, layer, posterior="encode:[0],[1]")
            for _ in range(2):
                assert_equal(cam.attribute(x, rectifier="none"), wanted)


def test_the_plan_tells_of_a_hook_that_changes_gradients():
    vae = HookedInside()
    vae.where = "flat"
    cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    cam.attribute(vae.images(2))
    (plan,) = cam.explain_plan(vae.images(2))
    assert plan.path == "vector_jacobian" and "register_hook" in plan.reason
