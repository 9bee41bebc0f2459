import pytest
import torch
from torch import nn

from captum_vae.posterior import PosteriorAdapter, PosteriorError, as_adapter
from tests.posterior import vaes


@pytest.fixture
def x():
    return torch.randn(4, *vaes.SHAPE)


def hooks_of(model):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


def test_a_prepared_adapter_calls_the_model_exactly_once(x):
    model = vaes.ForwardOnly()
    adapter = PosteriorAdapter(model).prepare(x)
    model.forwards = 0
    adapter(x)
    assert model.forwards == 1


def test_a_stated_adapter_is_not_run_by_prepare(x):
    model = vaes.ForwardOnly()
    adapter = PosteriorAdapter(model, call="forward", read="1,2").prepare(x)
    assert model.forwards == 0
    adapter(x)
    assert model.forwards == 1


def test_prepare_decides_once(x):
    model = vaes.ForwardOnly()
    adapter = PosteriorAdapter(model)
    assert adapter.prepare(x) is adapter
    ran = model.forwards
    adapter.prepare(x)
    assert model.forwards == ran


def test_the_posterior_is_differentiable_under_grad_and_not_under_no_grad(x):
    model = vaes.PytorchExamples()
    adapter = PosteriorAdapter(model)
    x.requires_grad_()
    expected = torch.autograd.grad(model.moments(x)[0].sum(), x)[0]
    assert torch.equal(torch.autograd.grad(adapter(x).mean.sum(), x)[0], expected)
    with torch.no_grad():
        assert not adapter(x).mean.requires_grad


def test_a_submodule_hook_is_differentiable_and_gone_afterwards(x):
    model = vaes.ForwardOnly()
    adapter = as_adapter(model, "module:fc_mu,fc_logvar")
    x.requires_grad_()
    expected = torch.autograd.grad(model.moments(x)[1].sum(), x)[0]
    assert torch.equal(torch.autograd.grad(adapter(x).log_variance.sum(), x)[0], expected)
    assert hooks_of(model) == 0


def test_a_submodule_hook_is_gone_when_the_model_raises(x):
    model = vaes.ForwardOnly()
    model.to_image = nn.Linear(99, 1)
    with pytest.raises(RuntimeError):
        as_adapter(model, "forward:module:fc_mu")(x)
    assert hooks_of(model) == 0


def test_a_submodule_output_survives_an_in_place_operation_after_it(x):
    class InPlace(vaes.Moments):
        def forward(self, x):
            return self.fc_mu(self.trunk(x)).relu_()

    model = InPlace()
    posterior = as_adapter(model, "module:fc_mu")(x)
    assert torch.equal(posterior.mean, model.moments(x)[0])
    assert (posterior.mean < 0).any()


def test_a_submodule_that_does_not_exist_lists_those_that_do(x):
    with pytest.raises(PosteriorError, match="no submodule 'fc_mean'.*'fc_mu'"):
        as_adapter(vaes.ForwardOnly(), "module:fc_mean")(x)


def test_a_submodule_that_does_not_run_is_refused(x):
    with pytest.raises(PosteriorError, match="'to_image' ran 0 times"):
        as_adapter(vaes.PytorchExamples(), "encode:module:to_image")(x)


def test_a_submodule_that_runs_twice_is_refused(x):
    class Twice(vaes.Moments):
        def forward(self, x):
            return self.fc_mu(self.trunk(x)) + self.fc_mu(self.trunk(-x))

    with pytest.raises(PosteriorError, match="'fc_mu' ran 2 times"):
        as_adapter(Twice(), "module:fc_mu")(x)


def test_a_submodule_of_a_plain_callable_is_refused(x):
    with pytest.raises(PosteriorError, match="needs a module"):
        as_adapter(lambda images: images, "module:fc_mu")(x)


def test_a_submodule_is_read_in_the_call_that_runs_it(x):
    class EncodeSkipsHead(vaes.Moments):
        def encode(self, x):
            return self.trunk(x)

    model = EncodeSkipsHead()
    adapter = as_adapter(model, "module:fc_mu").prepare(x)
    assert "call='forward'" in repr(adapter)
    assert torch.equal(adapter(x).mean, model.moments(x)[0])


@pytest.mark.parametrize("call", ["moments", "inner.moments"])
def test_any_method_can_be_named(call, x):
    model = vaes.ForwardOnly()
    model.inner = vaes.ForwardOnly()
    owner = model.inner if "inner" in call else model
    posterior = PosteriorAdapter(model, call=call)(x)
    assert torch.equal(posterior.mean, owner.moments(x)[0])


def test_a_callable_call_takes_the_inputs(x):
    model = vaes.ForwardOnly()
    posterior = PosteriorAdapter(model, call=lambda images: model.moments(2 * images)[0])(x)
    assert torch.equal(posterior.mean, model.moments(2 * x)[0])


def test_a_bound_forward_is_the_module_itself(x):
    model = vaes.PytorchExamples()
    assert PosteriorAdapter(model.forward).model is model


def test_a_bound_methods_own_name_may_stand_before_the_reading(x):
    model = vaes.PlainAutoencoder()
    assert torch.equal(as_adapter(model.encode, "encode:mean")(x).mean, model.moments(x)[0])


def test_a_method_of_a_plain_callable_cannot_be_named():
    with pytest.raises(ValueError, match="pass the module"):
        as_adapter(lambda images: images, "encode:mean")


def test_a_model_that_is_not_callable_is_refused():
    with pytest.raises(TypeError, match="must be a module or a callable, got int"):
        PosteriorAdapter(3)


class CompiledStandIn(nn.Module):
    """The attribute of torch.compile's OptimizedModule, without importing the compiler."""

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module


class DistributedStandIn(torch.nn.parallel.DistributedDataParallel):
    """DistributedDataParallel's type without its process group."""

    def __init__(self, module):
        nn.Module.__init__(self)
        self.module = module


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        DistributedStandIn,
        CompiledStandIn,
        lambda model: nn.DataParallel(CompiledStandIn(model)),
        pytest.param(torch.compile, marks=pytest.mark.slow),  # importing the compiler is slow
    ],
    ids=["DataParallel", "DistributedDataParallel", "compiled", "nested", "torch.compile"],
)
def test_wrappers_are_unwrapped_to_the_module_inside(wrap, x):
    model = vaes.PytorchExamples()
    adapter = PosteriorAdapter(wrap(model))
    assert adapter.model is model
    assert torch.equal(adapter(x).mean, model.moments(x)[0])
