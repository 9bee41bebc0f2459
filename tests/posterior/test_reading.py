import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, Laplace, MultivariateNormal, Normal

from captum_vae.posterior import (
    AmbiguousPosteriorError,
    PosteriorAdapter,
    PosteriorError,
    as_adapter,
)
from tests.posterior import vaes


@pytest.fixture
def x():
    return torch.randn(4, *vaes.SHAPE)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (vaes.PytorchExamples, "encode:0,1"),
        (vaes.PytorchExamples, "encode:[0],[1]"),
        (vaes.PytorchExamples, "forward:1,2"),
        (vaes.ForwardOnly, "1,2"),
        (vaes.ForwardOnly, (1, 2)),
        (vaes.DictVAE, "mu,log_var"),
        (vaes.DictVAE, "['mu'],['log_var']"),
        (vaes.NamedTupleVAE, "z_mean,z_std"),
        (vaes.FlatFactorVAE, "chunk"),
        (vaes.FactorVAE, "encode:chunk"),
        (vaes.FactorVAE, "encode:auto"),
        (vaes.FactorVAE, "encode"),
        (vaes.AntixK, "forward"),
        (vaes.AntixK, "forward:2,3"),
        (vaes.Hierarchical, "encode:[0][0],[0][1]"),
        (vaes.ForwardOnly, "module:fc_mu,fc_logvar"),
        (vaes.ForwardOnly, lambda out: (out[1], out[2])),
        (vaes.ForwardOnly, lambda out: Normal(out[1], (0.5 * out[2]).exp())),
    ],
)
def test_words_choose_mean_and_log_variance(kind, words, x):
    model = kind()
    posterior = as_adapter(model, words)(x)
    mean, log_variance = model.moments(x)
    assert torch.equal(posterior.mean, mean)
    torch.testing.assert_close(posterior.log_variance, log_variance)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (vaes.ForwardOnly, 1),
        (vaes.ForwardOnly, "[1]"),
        (vaes.DictVAE, "mu"),
        (vaes.NormalEncoder, "encode:mean"),
        (vaes.NormalEncoder, "encode:mode"),
        (vaes.NormalEncoder, "loc"),
        (vaes.PlainAutoencoder, "encode:mean"),
        (vaes.PlainAutoencoder, "mean"),
        (vaes.ForwardOnly, "module:fc_mu"),
        (vaes.ForwardOnly, lambda out: out[1]),
    ],
)
def test_words_choose_the_mean_alone(kind, words, x):
    model = kind()
    posterior = as_adapter(model, words)(x)
    assert torch.equal(posterior.mean, model.moments(x)[0])
    assert posterior.log_variance is None


def test_an_adapter_and_none_pass_through_as_adapter():
    model = vaes.ForwardOnly()
    adapter = PosteriorAdapter(model, read=1)
    assert as_adapter(model, adapter) is adapter
    assert "read='auto'" in repr(as_adapter(model))


@pytest.mark.parametrize("posterior", [True, 1.5, [1, 2, 3], ("mu", "logvar", "z")])
def test_other_kinds_of_posterior_are_refused(posterior):
    with pytest.raises(TypeError, match="want 'auto', 'mean', 'chunk'"):
        as_adapter(vaes.ForwardOnly(), posterior)


def test_a_stated_reading_that_fits_two_calls_differently_is_refused(x):
    with pytest.raises(AmbiguousPosteriorError, match="encode .*forward"):
        as_adapter(vaes.PytorchExamples(), 1).prepare(x)


def test_an_index_that_does_not_exist_lists_what_exists(x):
    with pytest.raises(PosteriorError, match=r"'\[5\]'.*'\[1\]' \(4, 4\) torch.float32"):
        as_adapter(vaes.ForwardOnly(), 5)(x)


def test_a_name_that_does_not_exist_lists_what_exists(x):
    with pytest.raises(PosteriorError, match=r"'sigma'.*'log_var' \(4, 4\)"):
        as_adapter(vaes.DictVAE(), "sigma")(x)


def test_a_name_of_a_tensors_own_attribute_is_not_read(x):
    with pytest.raises(PosteriorError, match="a tensor has no items"):
        as_adapter(vaes.PlainAutoencoder(), "encode:data")(x)


def test_a_mean_of_integers_is_refused(x):
    with pytest.raises(PosteriorError, match="floating-point tensor"):
        as_adapter(lambda images: torch.ones(4, 3, dtype=torch.long), "mean")(x)


def test_a_mean_with_another_batch_is_refused(x):
    with pytest.raises(PosteriorError, match="inputs are a batch of 4"):
        as_adapter(lambda images: torch.ones(8, 3))(x)


def test_an_odd_number_of_channels_cannot_be_chunked(x):
    with pytest.raises(PosteriorError, match="even number of channels"):
        as_adapter(lambda images: torch.ones(4, 3), "chunk")(x)


def test_a_spread_of_another_shape_is_refused(x):
    with pytest.raises(PosteriorError, match="must be equal"):
        as_adapter(vaes.ForwardOnly(), (1, 0))(x)


@pytest.mark.parametrize("spread", ["std", "variance"])
def test_a_negative_standard_deviation_or_variance_is_refused(spread, x):
    with pytest.raises(PosteriorError, match="may be a log-variance"):
        PosteriorAdapter(vaes.ForwardOnly(), read=(1, 2), spread=spread)(x)


@pytest.mark.parametrize(
    ("spread", "second"),
    [("log_variance", -1.4), ("variance", 0.2465969639), ("std", 0.4965853038), ("log_std", -0.7)],
)
def test_each_spread_becomes_the_same_log_variance(spread, second, x):
    # exp(-1.4) = 0.24659696394..., exp(-0.7) = 0.49658530379...
    def encode(images):
        return torch.zeros(4, 2), torch.full((4, 2), second)

    log_variance = PosteriorAdapter(encode, read=(0, 1), spread=spread)(x).log_variance
    torch.testing.assert_close(log_variance, torch.full((4, 2), -1.4))


@pytest.mark.parametrize(
    "distribution",
    [
        Normal(torch.ones(4, 2), torch.full((4, 2), 0.5)),
        Independent(Normal(torch.ones(4, 2), torch.full((4, 2), 0.5)), 1),
        MultivariateNormal(torch.ones(4, 2), 0.25 * torch.eye(2).expand(4, 2, 2)),
    ],
    ids=["Normal", "Independent", "MultivariateNormal"],
)
def test_gaussian_distributions_bring_their_log_variance(distribution, x):
    posterior = as_adapter(lambda images: {"q": distribution}, "q")(x)
    assert torch.equal(posterior.mean, torch.ones(4, 2))
    torch.testing.assert_close(posterior.log_variance, torch.full((4, 2), 0.25).log())


def test_a_distribution_outside_the_gaussian_family_brings_no_log_variance(x):
    laplace = Laplace(torch.ones(4, 2), torch.ones(4, 2))
    posterior = as_adapter(lambda images: laplace)(x)
    assert torch.equal(posterior.mean, torch.ones(4, 2))
    assert posterior.log_variance is None


def test_a_distribution_without_a_mean_is_refused(x):
    class NoMean(Categorical):
        @property
        def mean(self):
            raise NotImplementedError

    with pytest.raises(PosteriorError):
        as_adapter(lambda images: NoMean(torch.ones(4, 2)))(x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial": "max"}, "spatial='max'"),
        ({"spread": "sigma"}, "spread='sigma'"),
        ({"read": "mu..x]"}, "is no path"),
        ({"read": "module:"}, "want 'module:NAME'"),
        ({"call": "embed"}, "no such method or submodule.*'moments'.*'fc_mu'"),
    ],
)
def test_unknown_words_are_refused_when_the_adapter_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        PosteriorAdapter(vaes.ForwardOnly(), **arguments)


def test_a_level_is_taken_before_the_stated_reading(x):
    model = vaes.Hierarchical()
    adapter = PosteriorAdapter(model, call="encode", read="0,1", level=1, spatial=(2, 3))
    assert torch.equal(adapter(x).mean, model.conv_mu(x)[:, :, 2, 3])


@pytest.mark.parametrize(
    ("level", "message"), [(2, "out of range: there are 2 levels"), (-3, "out of range")]
)
def test_a_stated_reading_refuses_a_level_out_of_range(level, message, x):
    with pytest.raises(PosteriorError, match=message):
        PosteriorAdapter(vaes.Hierarchical(), call="encode", read="0,1", level=level)(x)


def test_the_pre_quantisation_latent_of_a_vq_model_is_named_by_method_or_submodule(x):
    model = vaes.VectorQuantised()
    expected = model.continuous(x).mean((2, 3))
    for adapter in (
        as_adapter(model, "continuous:mean"),
        as_adapter(model, "module:pre_quant"),
        as_adapter(model, "encode:module:pre_quant"),
        PosteriorAdapter(model.continuous, read="mean"),
    ):
        torch.testing.assert_close(adapter(x).mean, expected, rtol=0, atol=0)


def test_a_submodule_output_can_be_read_further(x):
    class OneHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 10, 3)

        def forward(self, x):
            return self.conv(x).sum()

    model = OneHead()
    posterior = as_adapter(model, "module:conv:chunk")(x)
    mean, log_variance = model.conv(x).chunk(2, 1)
    assert torch.equal(posterior.mean, mean.mean((2, 3)))
    assert torch.equal(posterior.unpooled[1], log_variance)


def test_repr_shows_the_chosen_reading(x):
    adapter = PosteriorAdapter(vaes.PytorchExamples())
    assert "undecided" in repr(adapter)
    assert repr(adapter.prepare(x)) == (
        "PosteriorAdapter(call='encode', read='[0]' mean, '[1]' log_variance, spatial='mean')"
    )
