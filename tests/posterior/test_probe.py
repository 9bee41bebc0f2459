import copy
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from captum_vae.posterior import AmbiguousPosteriorError, PosteriorAdapter, as_adapter
from captum_vae.posterior.trace import Recorder
from tests.posterior import vaes


class Normalised(vaes.FactorVAE):
    """BatchNorm and dropout in the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk.insert(1, nn.BatchNorm2d(6))
        self.trunk.append(nn.Dropout(0.3))


def state_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def x():
    return torch.randn(4, *vaes.SHAPE)


def test_batch_norm_statistics_in_train_mode_are_as_before(x):
    model = Normalised().train()
    before = state_of(model)
    PosteriorAdapter(model).prepare(x)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_batch_norm_statistics_behind_a_plain_callable_are_as_before(x):
    model = Normalised().train()
    before = state_of(model)
    PosteriorAdapter(lambda images: model(images)[1]).prepare(x)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_buffer_that_the_model_replaces_is_the_same_object_afterwards(x):
    class Counting(vaes.PytorchExamples):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def encode(self, x):
            self.calls = self.calls + 1
            return super().encode(x)

    model = Counting()
    buffer = model.calls
    PosteriorAdapter(model).prepare(x)
    assert model.calls is buffer
    assert buffer.item() == 0


def test_a_buffer_saved_for_a_pending_backward_stays_usable(x):
    model = Normalised().eval()
    loss = model(x)[1].sum()
    PosteriorAdapter(model).prepare(x)
    loss.backward()


@pytest.mark.parametrize("behind", ["module", "callable"])
def test_a_first_call_between_forward_and_backward_in_train_mode_breaks_nothing(behind, x):
    model = Normalised().train()
    model.trunk[4] = nn.Linear(model.trunk[4].in_features, model.trunk[4].out_features)
    model.trunk.append(Momentum())
    twin = copy.deepcopy(model)
    torch.manual_seed(1)
    model(x)[1].sum().backward(retain_graph=True)
    wanted = [parameter.grad for parameter in model.parameters()]
    torch.manual_seed(1)
    loss = twin(x)[1].sum()
    buffers = dict(twin.named_buffers())
    versions = {name: buffer._version for name, buffer in buffers.items()}
    PosteriorAdapter(twin if behind == "module" else lambda images: twin(images)).prepare(x)
    loss.backward()
    for parameter, gradient in zip(twin.parameters(), wanted, strict=True):
        assert gradient is None or torch.equal(parameter.grad, gradient)
    for name, buffer in twin.named_buffers():
        assert buffer is buffers[name] and buffer._version == versions[name], name


class Momentum(nn.Module):
    """Writes its buffer in train mode, and needs it in the backward pass."""

    def __init__(self):
        super().__init__()
        self.register_buffer("running", torch.ones(16))

    def forward(self, x):
        if self.training:
            self.running.mul_(0.9).add_(x.detach().mean(0), alpha=0.1)
        return x * self.running


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_threads_that_make_the_first_call_at_once_get_one_reading(mode, x):
    model = Normalised().train(mode == "train")
    before = state_of(model)
    for _ in range(5):
        adapter = PosteriorAdapter(model)
        with ThreadPoolExecutor(8) as pool:
            readings = set(map(repr, pool.map(adapter.prepare, [x] * 16)))
        assert len(readings) == 1
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_reading_of_submodules_hears_its_own_thread_alone():
    model = vaes.ForwardOnly().eval()
    batches = [torch.randn(2, *vaes.SHAPE) for _ in range(8)]
    wanted = [model.moments(batch)[0] for batch in batches]
    adapter = as_adapter(model, "module:fc_mu,fc_logvar")

    def read(place):
        return all(torch.equal(adapter(batches[place]).mean, wanted[place]) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))


def test_random_states_are_as_before(x):
    model = vaes.SampleFirst()
    before, python_before = torch.get_rng_state(), random.getstate()
    PosteriorAdapter(model).prepare(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python_before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_random_states_of_the_gpu_are_as_before(x):
    model = vaes.SampleFirst().cuda()
    before = torch.cuda.get_rng_state()
    PosteriorAdapter(model).prepare(x.cuda())
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_no_gradients_hooks_or_modes_are_left_behind(x):
    model = Normalised()
    model.trunk[1].eval()
    modes = [module.training for module in model.modules()]
    PosteriorAdapter(model).prepare(x.requires_grad_())
    assert [module.training for module in model.modules()] == modes
    assert x.grad is None and all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_everything_is_restored_when_detection_fails(x):
    class Failing(Normalised):
        def encode(self, x):
            super().encode(x)
            raise KeyError("no data")

        def forward(self, x):
            return self.trunk(x) + torch.randn(1)

    model = Failing().train()
    before, rng = state_of(model), torch.get_rng_state()
    with pytest.raises(AmbiguousPosteriorError, match="encode raised KeyError"):
        PosteriorAdapter(model).prepare(x)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), rng)
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_detection_in_train_mode_with_dropout_still_reads_a_chunk(x):
    adapter = PosteriorAdapter(Normalised().train()).prepare(x)
    assert "call='encode', read='chunk[0]' mean, 'chunk[1]' log_variance" in repr(adapter)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_model_is_probed(x):
    class Scriptable(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 6))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            moments = self.head(x)
            mean, log_variance = moments[:, :3], moments[:, 3:]
            z = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
            return x + z.mean(), mean, log_variance

    model = torch.jit.script(Scriptable())
    before = state_of(model)
    adapter = PosteriorAdapter(model).prepare(x)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(adapter(x).mean, model(x)[1])


def test_a_model_that_cannot_be_watched_is_still_read_by_the_names_of_its_outputs(x):
    class Unwatchable(vaes.DictVAE):
        def forward(self, x):
            if torch.utils._python_dispatch._len_torch_dispatch_stack():
                raise RuntimeError("not under a dispatch mode")
            return super().forward(x)

    model = Unwatchable()
    assert torch.equal(PosteriorAdapter(model)(x).mean, model.moments(x)[0])


def test_watching_a_call_does_not_import_the_compiler():
    # What is exempt from the compiler by its own decorator imports it, which takes four seconds.
    assert not hasattr(Recorder.__torch_dispatch__, "_torchdynamo_disable")
    assert Recorder.__torch_dispatch__.__module__ == "captum_vae.posterior.trace"
