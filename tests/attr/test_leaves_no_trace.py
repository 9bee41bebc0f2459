"""After a call, also one that raised, the model and the process are as they were."""

import gc
import sys
import tracemalloc

import pytest
import torch
import torch.nn.modules.module as torch_module
from torch import nn

from captum_vae import LatentGradCAM, MeanActivation, MeanSumGradCAM, NormalDifferenceGradCAM
from tests.attr.toys import ToyVAE

HOOKS = [
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
]
GLOBAL_HOOKS = [
    name for name in vars(torch_module) if name.startswith("_global_") and "hook" in name
]


def trace_of(model, *tensors):
    """Everything a call could leave behind: hooks, gradients, modes, values, RNG, grad mode."""
    return {
        "hooks": {
            (name, kind): list(getattr(module, kind, {}))
            for name, module in model.named_modules()
            for kind in HOOKS
        },
        "global hooks": {name: _size(getattr(torch_module, name)) for name in GLOBAL_HOOKS},
        "tensor hooks": [p._backward_hooks for p in [*model.parameters(), *tensors]],
        "grad": [None if p.grad is None else p.grad.clone().tolist() for p in model.parameters()],
        "input grad": [tensor.grad for tensor in tensors if tensor.is_leaf],
        "requires_grad": [p.requires_grad for p in [*model.parameters(), *tensors]],
        "training": [module.training for module in model.modules()],
        "values": {k: v.clone().tolist() for k, v in model.state_dict().items()},
        "attributes": {n: sorted(vars(module)) for n, module in model.named_modules()},
        "rng": torch.get_rng_state().tolist(),
        "grad mode": torch.is_grad_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
    }


def _size(hooks):
    return len(hooks) if hasattr(hooks, "__len__") else hooks


def assert_unchanged(before, after):
    for name, value in before.items():
        assert after[name] == value, f"{name} changed"


ways = pytest.mark.parametrize(
    "options",
    [
        {},
        {"weighting": "elementwise"},
        {"weighting": "integrated", "n_steps": 2},
        {"baselines": "reconstruction"},
        {"baselines": 0.0, "create_graph": True},
        {"attribute_to_layer_input": True, "size": "input"},
        {"target": [0, 2], "aggregate": "mean"},
    ],
    ids=str,
)


@ways
@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM])
def test_a_call_leaves_no_trace(method, options):
    vae = ToyVAE()
    vae.fc.weight.requires_grad_(False)
    vae.fc_mu.weight.grad = torch.full_like(vae.fc_mu.weight, 7.0)
    x = vae.images(2).requires_grad_()
    before = trace_of(vae, x)
    cam = method(vae, ["conv1", "conv2", "act2"])
    if isinstance(cam, NormalDifferenceGradCAM):
        cam.fit([vae.images(3)])
    cam.attribute(x, **options)
    assert_unchanged(before, trace_of(vae, x))


def test_the_model_stays_in_train_mode_and_its_children_in_their_own():
    vae = ToyVAE().train()
    vae.conv2.eval()
    before = [module.training for module in vae.modules()]
    LatentGradCAM(vae, "conv1", posterior="encode:[0],[1]").attribute(vae.images(2))
    assert [module.training for module in vae.modules()] == before


def test_fitting_a_mean_activation_leaves_no_trace():
    vae = ToyVAE()
    cam = LatentGradCAM(vae, ["conv1", "act2"])
    before = trace_of(vae)
    MeanActivation().fit(cam, [vae.images(2), (vae.images(3), "label")])
    assert_unchanged(before, trace_of(vae))


def test_explaining_the_plan_leaves_no_trace():
    vae = ToyVAE()
    before = trace_of(vae)
    LatentGradCAM(vae, "conv2").explain_plan(vae.images(2))
    assert_unchanged(before, trace_of(vae))


class Boom(Exception):
    pass


class Bomb(nn.Module):
    """Raises once armed."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.armed = False

    def forward(self, *args):
        if self.armed:
            raise Boom("from inside the model")
        return self.inner(*args)


@pytest.mark.parametrize("grad_mode", [True, False])
@pytest.mark.parametrize("detected", [True, False])
@pytest.mark.parametrize("place", ["conv1", "act1", "conv2", "act2", "fc", "fc_mu", "fc_logvar"])
@pytest.mark.parametrize(
    "options", [{}, {"weighting": "integrated"}, {"create_graph": True}], ids=str
)
def test_an_exception_inside_the_encoder_leaves_no_trace(place, detected, grad_mode, options):
    """Before, at and behind the layers act1 and act2; in the first call and in later ones."""
    vae = ToyVAE()
    setattr(vae, place, Bomb(getattr(vae, place)))
    x = vae.images(2)
    cam = LatentGradCAM(vae, [vae.act1, vae.act2])
    if detected:
        cam.attribute(x)
    getattr(vae, place).armed = True
    with torch.set_grad_enabled(grad_mode):
        before = trace_of(vae, x)
        with pytest.raises(Boom):
            cam.attribute(x, **options)
        assert_unchanged(before, trace_of(vae, x))


@pytest.mark.parametrize("grad_mode", [True, False])
def test_an_exception_inside_the_decoder_leaves_no_trace(grad_mode):
    vae = ToyVAE()
    vae.to_image = Bomb(vae.to_image)
    x = vae.images(2)
    cam = LatentGradCAM(vae, ["conv1", "act2"], posterior="forward:[1],[2]")
    cam.attribute(x)
    vae.to_image.armed = True
    with torch.set_grad_enabled(grad_mode):
        before = trace_of(vae, x)
        with pytest.raises(Boom):
            cam.attribute(x)
        with pytest.raises(Boom):
            LatentGradCAM(vae, "conv1").attribute(x, baselines="reconstruction")
        assert_unchanged(before, trace_of(vae, x))


@pytest.mark.parametrize("grad_mode", [True, False])
def test_an_exception_while_the_posterior_is_read_leaves_no_trace(grad_mode):
    vae = ToyVAE()
    x = vae.images(2)
    armed = []

    def read(output):
        if armed:
            raise Boom
        return output[1]

    cam = LatentGradCAM(vae, "conv1", posterior=read)
    cam.attribute(x)
    armed.append(True)
    with torch.set_grad_enabled(grad_mode):
        before = trace_of(vae, x)
        with pytest.raises(Boom):
            cam.attribute(x)
        assert_unchanged(before, trace_of(vae, x))


@pytest.mark.parametrize("failing", ["baselines", "reshape_transform", "target", "size"])
def test_an_exception_from_the_users_options_leaves_no_trace(failing):
    vae = ToyVAE()
    x = vae.images(2)

    def boom(*_args):
        raise ValueError("from the user")

    options = {
        "baselines": {"baselines": boom},
        "target": {"target": 99},
        "size": {"size": (1, 2, 3)},
    }.get(failing, {})
    cam = LatentGradCAM(
        vae, "conv1", reshape_transform=boom if failing == "reshape_transform" else None
    )
    before = trace_of(vae, x)
    with pytest.raises(ValueError, match="from the user|target=99|size="):
        cam.attribute(x, **options)
    assert_unchanged(before, trace_of(vae, x))


def test_an_exception_while_a_mean_activation_is_fitted_leaves_no_trace():
    vae = ToyVAE()
    vae.act1 = Bomb(vae.act1)
    cam = LatentGradCAM(vae, "act2")
    cam.attribute(vae.images(2))
    vae.act1.armed = True
    before = trace_of(vae)
    with pytest.raises(Boom):
        MeanActivation().fit(cam, [vae.images(2)])
    assert_unchanged(before, trace_of(vae))


@pytest.mark.parametrize("grad_mode", [True, False])
def test_the_grad_mode_is_the_callers_after_a_call(grad_mode):
    vae = ToyVAE()
    with torch.set_grad_enabled(grad_mode):
        LatentGradCAM(vae, "conv1").attribute(vae.images(2), baselines=0.0)
        assert torch.is_grad_enabled() is grad_mode


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.fc_mu = nn.Linear(8, 2)
        self.fc_logvar = nn.Linear(8, 2)
        self.to_image = nn.Linear(2, 16)
        self.eval()

    def encode(self, x):
        flat = self.conv(x).relu().flatten(1)
        return self.fc_mu(flat), self.fc_logvar(flat)

    def decode(self, z):
        return self.to_image(z).view(-1, 1, 4, 4)


@pytest.mark.parametrize("calls", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_calls_leave_no_hook_no_gradient_and_no_memory(calls):
    """Every way to the maps in turn, and one exception in ten calls.

    Counted are the objects that the garbage collector tracks, the tensors alive and Python's own
    memory, before and after the last four fifths of the calls: a leak of one tensor a call would
    be 160 tensors, or 800.
    """
    vae = Tiny()
    x = torch.rand(2, 1, 4, 4)
    cams = [LatentGradCAM(vae, "conv"), MeanSumGradCAM(vae, vae.conv)]
    ways = [
        {},
        {"weighting": "elementwise"},
        {"create_graph": True},
        {"baselines": "reconstruction", "size": "input"},
        {"target": 1, "preset": "authors"},
    ]
    before = trace_of(vae, x)

    def call(number):
        cam = cams[number % 2]
        cam.attribute(x, **ways[number % len(ways)])
        if number % 10 == 0:
            with pytest.raises(ValueError, match="out of range"):
                cam.attribute(x, target=99)

    def alive():
        gc.collect()
        tensors = sum(1 for thing in gc.get_objects() if type(thing) is torch.Tensor)
        return len(gc.get_objects()), tensors, tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        for number in range(calls // 5):
            call(number)
        objects, tensors, memory = alive()
        for number in range(calls // 5, calls):
            call(number)
        objects_after, tensors_after, memory_after = alive()
    finally:
        tracemalloc.stop()
    assert tensors_after <= tensors
    assert objects_after - objects < 100
    assert memory_after - memory < 64 * 1024
    assert_unchanged(before, trace_of(vae, x))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_a_thousand_calls_keep_the_process_at_its_size():
    """Feature maps of 4 MB: one kept per call would be 4 GB, and 64 MB is noise."""
    import resource

    vae = nn.Module()
    vae.conv = nn.Conv2d(1, 16, 3, padding=1)
    vae.fc_mu = nn.Linear(16, 2)
    vae.encode = lambda x: (vae.fc_mu(vae.conv(x).mean((2, 3))), torch.zeros(len(x), 2))
    x = torch.rand(1, 1, 256, 256)
    cam = LatentGradCAM(vae, vae.conv, posterior="encode:[0]")

    def peak_in_kib():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for _ in range(20):
        cam.attribute(x)
    before = peak_in_kib()
    for _ in range(1000):
        cam.attribute(x)
    assert peak_in_kib() - before < 64 * 1024
