import random

import pytest
import torch
from torch import nn

from captum_vae.posterior import AmbiguousPosteriorError, PosteriorAdapter
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
    assert "call='encode', read='first half' mean, 'second half' log_variance" in repr(adapter)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_scripted_model_is_probed(x):
    class Scriptable(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 6))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            moments = self.head(x)
            return x + 1, moments[:, :3], moments[:, 3:]

    model = torch.jit.script(Scriptable())
    before = state_of(model)
    adapter = PosteriorAdapter(model).prepare(x)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(adapter(x).mean, model(x)[1])
