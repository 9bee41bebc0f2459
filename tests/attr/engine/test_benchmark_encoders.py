"""The engine on the encoders that are benchmarked: exact, by the expected path, within memory."""

import functools

import pytest
import torch
from torch import nn

from benchmarks.memory import peak_bytes
from benchmarks.settings import ENCODERS, Setting, build_case
from benchmarks.ways import prepare
from captum_vae import LatentGradCAM
from captum_vae.attr.engine.capture import capture_features
from captum_vae.attr.engine.gradients import PassSettings, vector_jacobian_products
from captum_vae.attr.engine.plans import plan_layer
from tests.attr.engine.test_channel_weights import engine_weights, relative_error
from tests.attr.random_networks import weights_by_autograd

pytestmark = pytest.mark.filterwarnings("ignore::captum_vae.posterior.CollapsedPosteriorWarning")

MIB = 2**20
IMAGE_SIZE = {"MNIST": 28, "UCSD": 100, "FactorVAE": 64, "ResNet18": 64}
PLANS = {
    ("MNIST", "relu2"): "pooled",
    ("MNIST", "conv2"): "masked",
    ("MNIST", "relu1"): "convolved",
    ("UCSD", "relu3"): "pooled",
    ("UCSD", "conv3"): "masked",
    ("FactorVAE", "relu4"): "pooled",
    ("FactorVAE", "conv4"): "masked",
    ("FactorVAE", "relu2"): "convolved",
    ("FactorVAE", "relu1"): "convolved",
    ("FactorVAE", "conv1"): "convolved",
    ("ResNet18", "layer4"): "pooled",
    ("ResNet18", "layer3"): "convolved",
    ("ResNet18", "layer2"): "convolved",
    ("ResNet18", "layer1"): "convolved",
}
CLOSED = [setting for setting, plan in PLANS.items() if plan in ("pooled", "masked")]


@functools.lru_cache(maxsize=1)  # neighbours in the list share an encoder; two are too much memory
def vae_and_images(encoder, dims=10, batch=2):
    layer = next(iter(ENCODERS[encoder].layers))
    case = build_case(Setting(encoder, layer, dims, batch, IMAGE_SIZE[encoder]))
    case.vae.decoder = nn.Identity()  # not on the path
    return case.vae, case.images


def encoder_of(vae):
    """The model as ``weights_by_autograd`` and ``engine_weights`` call it."""
    return lambda images: vae.encode(images)


def case_of(encoder, layer, dims, batch):
    return build_case(Setting(encoder, layer, dims, batch, IMAGE_SIZE[encoder]))


def test_every_benchmarked_layer_is_tested():
    assert set(PLANS) == {(name, layer) for name, e in ENCODERS.items() for layer in e.layers}


@pytest.mark.parametrize(("encoder", "layer"), PLANS)
def test_weights_equal_float64_autograd(encoder, layer):
    vae, images = vae_and_images(encoder)
    module = vae.get_submodule(ENCODERS[encoder].layers[layer])
    found_single, _ = engine_weights(encoder_of(vae.float()), module, images)
    vae.double()
    wanted, size = weights_by_autograd(encoder_of(vae), module, images.double())
    found, path = engine_weights(encoder_of(vae), module, images.double())
    assert path == PLANS[encoder, layer]
    assert wanted.abs().max() > 0
    assert relative_error(found, wanted) < 1e-10
    assert relative_error(found_single.double(), wanted, size) < 1e-4


@pytest.mark.parametrize(("encoder", "layer"), PLANS)
def test_explain_plan_names_the_path(encoder, layer):
    vae, images = vae_and_images(encoder)
    cam = LatentGradCAM(vae.float().encode, vae.get_submodule(ENCODERS[encoder].layers[layer]))
    (plan,) = cam.explain_plan(images)
    assert plan.path == PLANS[encoder, layer]
    assert plan.reason


@pytest.mark.parametrize(
    ("encoder", "layer"),
    [pytest.param(*case, marks=pytest.mark.slow) if case[0] == "UCSD" else case for case in CLOSED],
)
def test_closed_forms_take_little_more_memory_than_method_2(encoder, layer):
    dims = 32
    case = case_of(encoder, layer, dims, {"UCSD": 16, "ResNet18": 4}.get(encoder, 128))
    calls = {name: prepare(name, case) for name in ("method1", "method2", "method2_autograd")}
    for call in calls.values():
        call(range(dims))
    peaks = {n: peak_bytes(functools.partial(call, range(dims))) for n, call in calls.items()}
    assert peaks["method1"] <= 1.3 * peaks["method2"]
    assert peaks["method1"] <= 1.3 * peaks["method2_autograd"]


def products(mean, features, dims, settings):
    plans = [plan_layer(mean, features, pooled=False)]
    return vector_jacobian_products(mean, [features], dims, plans, settings, [None])


def captured(case):
    with torch.enable_grad(), capture_features([case.layer]) as caught:
        mean = case.vae.encode(case.images)[0]
    return mean, caught.tensors[0]


def passes_of_64(layer, settings):
    """Sizes of the passes over 64 dimensions, and their peak memory."""
    mean, features = captured(case_of("ResNet18", layer, 64, 2))
    sizes = []

    def run():
        sizes.clear()
        for (gradient,) in products(mean, features, range(64), settings):
            sizes.append(gradient.shape[1])
            del gradient

    run()
    assert sum(sizes) == 64
    return sizes, peak_bytes(run)


@pytest.mark.parametrize("layer", ["layer3", pytest.param("layer2", marks=pytest.mark.slow)])
def test_vector_jacobian_passes_stay_within_their_memory_budget(layer):
    sizes, peak = passes_of_64(layer, PassSettings(memory_budget=16 * MIB))
    assert sizes[0] > 1
    assert peak <= 16 * MIB


@pytest.mark.parametrize("layer", ["layer3", pytest.param("layer2", marks=pytest.mark.slow)])
def test_a_small_budget_comes_on_top_of_what_any_backward_pass_takes(layer):
    """Some 10 MiB for the reordered weights of a convolution, whatever the number of codes."""
    _, least = passes_of_64(layer, PassSettings(dims_per_pass=1))
    sizes, peak = passes_of_64(layer, PassSettings(memory_budget=4 * MIB))
    assert sizes[0] > 1
    assert peak <= least + 4 * MIB


def test_a_budget_below_one_dimension_takes_one_dimension_at_a_time():
    mean, features = captured(case_of("ResNet18", "layer2", 3, 2))
    settings = PassSettings(memory_budget=1)
    passes = list(products(mean, features, range(3), settings))
    assert [gradient.shape[1] for (gradient,) in passes] == [1, 1, 1]


@pytest.fixture
def layer3():
    """Codes (2, 6) and features of a deep layer, and their exact gradients in one pass."""
    mean, features = captured(case_of("ResNet18", "layer3", 6, 2))
    rows = [torch.autograd.grad(mean[:, d].sum(), features, retain_graph=True)[0] for d in range(6)]
    return mean, features, torch.stack(rows, 1)


def assert_close_to(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("dims_per_pass", [1, 2, 4, 6, 100])
def test_dims_per_pass_changes_no_value(layer3, dims_per_pass):
    mean, features, wanted = layer3
    settings = PassSettings(dims_per_pass=dims_per_pass)
    passes = [g for (g,) in products(mean, features, range(6), settings)]
    assert max(g.shape[1] for g in passes) == min(dims_per_pass, 6)
    assert_close_to(torch.cat(passes, 1), wanted)


def test_dims_per_pass_keeps_the_order_of_the_dimensions_asked_for(layer3):
    mean, features, wanted = layer3
    settings = PassSettings(dims_per_pass=2)
    passes = [g for (g,) in products(mean, features, [5, 0, 3], settings)]
    assert_close_to(torch.cat(passes, 1), wanted[:, [5, 0, 3]])


def failing_autograd(monkeypatch, most, error):
    """``torch.autograd.grad`` that raises ``error`` for more than ``most`` codes in a pass."""
    original, attempts = torch.autograd.grad, []

    def grad(outputs, inputs, grad_outputs=None, **options):
        batched = options.get("is_grads_batched", False)
        codes = len(grad_outputs) if batched else 1
        attempts.append(codes)
        if codes > most:
            raise error
        return original(outputs, inputs, grad_outputs, **options)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    return attempts


@pytest.mark.parametrize("most", [1, 2, 3])
def test_out_of_memory_halves_the_pass_until_it_fits(layer3, monkeypatch, most):
    mean, features, wanted = layer3
    attempts = failing_autograd(monkeypatch, most, torch.OutOfMemoryError("CUDA out of memory"))
    settings = PassSettings(dims_per_pass=6)
    passes = [g for (g,) in products(mean, features, range(6), settings)]
    assert attempts[0] == 6
    assert max(g.shape[1] for g in passes) <= most
    assert_close_to(torch.cat(passes, 1), wanted)


def test_out_of_memory_with_a_single_dimension_is_raised(layer3, monkeypatch):
    mean, features, _ = layer3
    failing_autograd(monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        list(products(mean, features, range(6), PassSettings(dims_per_pass=6)))


class Cube(torch.autograd.Function):
    """Written in NumPy, so that vmap has no rule for it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.from_numpy(x.detach().numpy() ** 3)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(3 * x.numpy() ** 2 * gradient.numpy())


class CubeEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.fc = nn.Linear(3 * 4 * 4, 5)
        self.double()

    def forward(self, x):
        return self.fc(Cube.apply(self.conv(x)).flatten(1)), None


def test_a_function_without_a_batching_rule_is_looped_over(monkeypatch):
    model, x = CubeEncoder(), torch.randn(2, 1, 6, 6, dtype=torch.float64)
    wanted, _ = weights_by_autograd(model, model.conv, x)
    attempts = failing_autograd(monkeypatch, 100, None)
    found, path = engine_weights(model, model.conv, x)
    assert path == "vector_jacobian"
    assert attempts == [5, 1, 1, 1, 1, 1]
    assert relative_error(found, wanted) < 1e-10


class Tiny(nn.Module):
    """A smooth encoder: conv -> layer -> between -> Linear -> SiLU -> Linear."""

    def __init__(self, between, width=2 * 3 * 3, dims=2):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 2)
        self.layer = nn.Tanh()
        self.between = between
        self.fc = nn.Linear(width, 4)
        self.mean = nn.Linear(4, dims)
        self.double()

    def forward(self, x):
        hidden = self.between(self.layer(self.conv(x))).flatten(1)
        return self.mean(nn.functional.silu(self.fc(hidden))), None


TINY = {
    "pooled": lambda: Tiny(nn.Identity()),
    "masked": lambda: Tiny(nn.Softplus()),
    "convolved": lambda: Tiny(nn.Sequential(nn.Conv2d(2, 2, 2), nn.Tanh()), width=8),
    "forward": lambda: Tiny(nn.Sequential(nn.SiLU(), nn.Conv2d(2, 2, 2), nn.Tanh()), 8, dims=3),
    "vector_jacobian": lambda: Tiny(nn.Softmax(1)),
}


def weights_as_a_function(path):
    """(images, parameters) -> alpha, and arguments for gradcheck: all are differentiated."""
    torch.manual_seed(0)
    model = TINY[path]()
    names = [name for name, _ in model.named_parameters()]
    arguments = [torch.randn(2, 1, 4, 4, dtype=torch.float64), *model.parameters()]
    arguments = [a.detach().clone().requires_grad_() for a in arguments]

    def weights(x, *parameters):
        called = functools.partial(
            torch.func.functional_call, model, dict(zip(names, parameters, strict=True))
        )
        alpha, taken = engine_weights(
            lambda images: called((images,)), model.layer, x, graph="whole", create_graph=True
        )
        assert taken == path
        return alpha

    return weights, arguments


@pytest.mark.parametrize("path", TINY)
def test_gradcheck_through_the_weights(path):
    weights, arguments = weights_as_a_function(path)
    assert torch.autograd.gradcheck(weights, arguments)


@pytest.mark.parametrize("path", TINY)
def test_gradgradcheck_through_the_weights(path):
    weights, arguments = weights_as_a_function(path)
    assert torch.autograd.gradgradcheck(weights, arguments)
