"""After a model's first call the host and the device wait for one another only on request."""

import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from captum_vae import LatentGradCAM, MeanActivation, MeanSumGradCAM, watch_forward
from captum_vae.models import MNISTVAE
from captum_vae.posterior import CollapsedPosteriorWarning, PosteriorAdapter, PosteriorError
from tests.attr.toys import ToyVAE

STALLS = {
    "_local_scalar_dense",  # item, bool, int, float
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "nonzero_static",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
    "_unique2",
    "lift_fresh",  # torch.tensor(numbers), an index that is a list: a copy from the host waits
}


class Refused(BaseException):
    """Not an Exception, so that no fallback catches it."""


class NoReadBack(TorchDispatchMode):
    """Refuses whatever makes the host wait for the device, or the device for the host."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in STALLS or (name in ("index", "index_put", "index_put_") and _by_mask(args[1])):
            raise Refused(name)
        return function(*args, **(kwargs or {}))


def _by_mask(indices):
    return any(isinstance(i, Tensor) and i.dtype == torch.bool for i in indices)


class Plain(ToyVAE):
    spread = "log_variance"


class Pooled(Plain):
    """The features reach the Linear through an average over positions."""

    def __init__(self, **options):
        super().__init__(**options)
        self.fc = nn.Linear(4, 8).double()

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.conv1(x))))
        return self.act3(self.fc(nn.functional.adaptive_avg_pool2d(features, 1).flatten(1)))


class MaxPooled(Plain):
    """A padded average and a maximum to several places lie between."""

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.conv1(x))))
        return self.act3(self.fc(nn.functional.max_pool2d(features, 3, 1, 1).flatten(1)))


class Deviations(ToyVAE):
    """Gives standard deviations, which are looked at for negative values."""

    spread = "std"

    def encode(self, x):
        mean, log_variance = super().encode(x)
        return mean, torch.exp(0.5 * log_variance)


CALLS = {
    "pooled": {},
    "several": {"target": [0, 2]},
    "one": {"target": 1},
    "elementwise": {"weighting": "elementwise"},
    "integrated": {"weighting": "integrated", "n_steps": 2},
    "authors": {"preset": "authors", "aggregate": "mean", "size": "input"},
    "channelwise": {"preset": "replication_a", "size": 4},
    "reconstruction": {"baselines": "reconstruction"},
    "number": {"baselines": 0.5},
    "callable": {"baselines": lambda x: x.flip(2)},
    "create_graph": {"create_graph": True},
}
KINDS = (Plain, Pooled, MaxPooled, Deviations)
LAYERS = ("conv1", "act1", "conv2", "act2")


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedPosteriorWarning)
        yield


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_call_after_the_first_reads_anything_back(kind, call):
    vae = kind()
    x = vae.images(2)
    posterior = PosteriorAdapter(vae, call="encode", read="[0],[1]", spread=kind.spread)
    for layer, method in itertools.product(LAYERS, (LatentGradCAM, MeanSumGradCAM)):
        cam = method(vae, layer, posterior=posterior)
        wanted = cam.attribute(x, **CALLS[call])
        with NoReadBack():
            found = cam.attribute(x, **CALLS[call])
        assert torch.equal(found, wanted)


class AlsoTheImage(Plain):
    """Reconstructs as a whole only, and returns a copy of the image before its reconstruction."""

    decode = None

    def forward(self, x):
        mean, log_variance = self.encode(x)
        return x.clone(), self.to_image(mean).unflatten(1, self.shape), mean, log_variance


class Sampling(Plain):
    """Its ``reconstruct`` draws, and its decoder is a submodule, so that the mean is decoded."""

    decode = None

    def __init__(self):
        super().__init__()
        self.decoder = self.to_image

    def reconstruct(self, x):
        return torch.randn_like(x)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", [LatentGradCAM, MeanSumGradCAM])
def test_a_call_runs_without_any_values(method, call):
    """Fake tensors have none, so that whatever reads one raises."""
    vae = MNISTVAE(5).eval()
    x = torch.rand(3, 1, 28, 28)
    for layer in ("encoder.relu2", "encoder.conv2", "encoder.conv1"):
        cam = method(vae, layer)
        wanted = cam.attribute(x, **{**CALLS[call], "size": None})
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            found = cam.attribute(mode.from_tensor(x), **{**CALLS[call], "size": None})
        assert found.shape == wanted.shape and found.dtype == wanted.dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("call", [call for call in CALLS if call != "reconstruction"])
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_gpu_a_call_waits_for_nothing(kind, call):
    vae = kind().cuda()
    x = vae.images(2).cuda()
    posterior = PosteriorAdapter(vae, call="encode", read="[0],[1]", spread=kind.spread)
    for layer in LAYERS:
        cam = LatentGradCAM(vae, layer, posterior=posterior)
        wanted = cam.attribute(x, **CALLS[call])
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = cam.attribute(x, **CALLS[call])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.allclose(found, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_call_is_captured_in_a_cuda_graph(layer):
    vae = Plain().cuda()
    x = vae.images(2).cuda()
    cam = LatentGradCAM(vae, layer, posterior="encode:[0],[1]")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            cam.attribute(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        maps = cam.attribute(x)
    other = vae.images(2, seed=1).cuda()
    x.copy_(other)
    graph.replay()
    assert torch.allclose(maps, cam.attribute(other))


@pytest.mark.parametrize("kind", [AlsoTheImage, Sampling])
def test_what_reconstructs_is_told_once(kind):
    vae = kind()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    wanted = cam.attribute(x, baselines="reconstruction")
    image = vae.to_image(vae.encode(x)[0]).unflatten(1, vae.shape).detach()
    assert torch.allclose(wanted, cam.attribute(x, baselines=image), atol=1e-12)
    with NoReadBack():
        found = cam.attribute(x, baselines="reconstruction")
    assert torch.equal(found, wanted)


def test_a_fitted_baseline_and_a_watched_forward_read_nothing_back():
    vae = Plain()
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2")
    normal = MeanActivation().fit(cam, [x])
    wanted = cam.attribute(x, baselines=normal)
    with watch_forward(vae, "conv2") as watched:
        mean = vae.encode(x)[0]
    maps = watched.maps(mean)
    with NoReadBack():
        found = cam.attribute(x, baselines=normal)
        with watch_forward(vae, "conv2") as watched:
            mean = vae.encode(x)[0]
        watched_maps = watched.maps(mean)
    assert torch.equal(found, wanted) and torch.equal(watched_maps, maps)


def test_another_attribution_of_the_same_layer_is_no_first_call():
    vae = Plain()
    x = vae.images(2)
    wanted = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]").attribute(x)
    with NoReadBack():
        found = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]").attribute(x)
    assert torch.equal(found, wanted)


def nan_images(vae):
    x = vae.images(2)
    x[1] = float("nan")
    return x


@pytest.mark.parametrize("own", [True, False])
def test_every_call_is_checked_on_request_and_none_where_none_is_wanted(own):
    """Given to the attribution, or to the call, which goes first."""
    vae = Plain()
    x, broken = vae.images(2), nan_images(vae)
    said = {}
    for checks in ("first", "every", "none"):
        cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]", checks="none")
        if own:
            cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]", checks=checks)
        options = {} if own else {"checks": checks}
        cam.attribute(x, **options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cam.attribute(broken, **options)
        said[checks] = any("hold" in str(warning.message) for warning in caught)
    assert said == {"first": False, "every": True, "none": False}


def test_the_first_call_with_another_type_of_inputs_is_checked():
    vae = Plain()
    cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    cam.attribute(vae.images(2))
    vae.float()
    with pytest.warns(UserWarning, match="inputs holds NaN, first in sample 1"):
        cam.attribute(nan_images(vae).float())


def test_a_call_that_fails_does_not_count_as_the_first():
    vae = Plain()
    cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    with pytest.raises(ValueError, match="target"):
        cam.attribute(vae.images(2), target=9)
    with pytest.warns(UserWarning, match="inputs holds NaN"):
        cam.attribute(nan_images(vae))


def test_a_negative_deviation_is_refused_where_values_are_looked_at():
    class Negative(Deviations):
        def encode(self, x):
            mean, deviation = super().encode(x)
            return mean, deviation - 100

    vae = Negative()
    posterior = PosteriorAdapter(vae, call="encode", read="[0],[1]", spread="std")
    cam = LatentGradCAM(vae, "conv2", posterior=posterior)
    with pytest.raises(PosteriorError, match="negative values"):
        cam.attribute(vae.images(2))
    assert cam.attribute(vae.images(2), checks="none").isfinite().all()


@pytest.mark.parametrize("checks", ["always", True, 1])
def test_checks_is_one_of_three_words(checks):
    vae = Plain()
    with pytest.raises(ValueError, match="checks=.*first, every, none"):
        LatentGradCAM(vae, "conv2", checks=checks)
    with pytest.raises(ValueError, match="checks=.*first, every, none"):
        LatentGradCAM(vae, "conv2").attribute(vae.images(1), checks=checks)
