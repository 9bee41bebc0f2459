import pytest
import torch
from torch import nn

from captum_vae.posterior import AmbiguousPosteriorError, PosteriorAdapter, PosteriorError
from tests.posterior import vaes


@pytest.fixture
def x():
    return torch.randn(4, *vaes.SHAPE)


def truth(model, x):
    return model.moments(x)


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (vaes.PytorchExamples, "encode"),
        (vaes.ForwardOnly, "forward"),
        (vaes.FlatReconstruction, "forward"),
        (vaes.SampleFirst, "forward"),
        (vaes.FactorVAE, "encode"),
        (vaes.FlatFactorVAE, "encode"),
        (vaes.AntixK, "encode"),
        (vaes.HiddenEncoder, "forward"),
        (vaes.NormalEncoder, "encode"),
        (vaes.IndependentEncoder, "encode"),
        (vaes.DictVAE, "forward"),
        (vaes.NamedTupleVAE, "forward"),
    ],
)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_posterior_of_common_vaes_is_detected(kind, call, mode, x):
    model = kind().train(mode == "train")
    adapter = PosteriorAdapter(model).prepare(x)
    posterior = adapter(x)
    mean, log_variance = truth(model, x)
    torch.testing.assert_close(posterior.mean, mean, rtol=0, atol=0)
    torch.testing.assert_close(posterior.log_variance, log_variance)
    assert f"call={call!r}" in repr(adapter)


def test_forward_of_antixk_is_read_past_reconstruction_and_input(x):
    model = vaes.AntixK()
    adapter = PosteriorAdapter(model, call="forward").prepare(x)
    assert "'[2]' mean, '[3]' log_variance" in repr(adapter)
    assert torch.equal(adapter(x).mean, truth(model, x)[0])


def test_an_encode_that_returns_the_mean_alone_is_proven_by_forward(x):
    model = vaes.MeanEncoder()
    posterior = PosteriorAdapter(model)(x)
    assert torch.equal(posterior.mean, truth(model, x)[0])
    assert posterior.log_variance is None


def test_an_encode_that_returns_a_sample_is_left_for_forward(x):
    class SampleEncoder(vaes.Moments):
        def encode(self, x):
            return self.draw(*self.moments(x))

        def forward(self, x):
            mu, logvar = self.moments(x)
            z = self.draw(mu, logvar)
            return self.image(z), mu, logvar, z

    model = SampleEncoder()
    adapter = PosteriorAdapter(model).prepare(x)
    assert torch.equal(adapter(x).mean, truth(model, x)[0])
    assert "call='forward'" in repr(adapter)


def test_an_output_that_nothing_explains_stays_unread_and_repr_says_so(x):
    class Unused(vaes.Moments):
        def __init__(self):
            super().__init__()
            self.fc_logvar = self.unnamed = nn.Linear(16, vaes.D)

        def encode(self, x):
            mu, second = self.moments(x)
            return mu, second.sigmoid()

        def forward(self, x):
            return self.image(self.encode(x)[0])

    model = Unused().eval()
    del model.fc_logvar
    model.fc_logvar = model.unnamed  # so that its first name is the telling one no more
    adapter = PosteriorAdapter(model)
    posterior = adapter(x)
    assert torch.equal(posterior.mean, truth(model, x)[0])
    assert posterior.log_variance is None
    assert "the model does not show what '[1]' is; spread= says it" in repr(adapter)


def test_a_stated_spread_reads_a_standard_deviation(x):
    model = vaes.PyroStyle()
    posterior = PosteriorAdapter(model, call="encode", spread="std")(x)
    torch.testing.assert_close(posterior.log_variance, truth(model, x)[1])


def test_a_z_that_equals_the_mean_in_eval_mode_is_no_third_candidate(x):
    class MeanInEval(vaes.FactorVAE):
        encode = None

        def forward(self, x):
            mu, logvar = self.moments(x)
            z = self.draw(mu, logvar) if self.training else mu.clone()
            return self.image(z), z, mu, logvar

    model = MeanInEval().eval()
    posterior = PosteriorAdapter(model)(x)
    mean, log_variance = truth(model, x)
    assert torch.equal(posterior.mean, mean)
    assert torch.equal(posterior.log_variance, log_variance)


def test_an_autoencoder_is_refused_with_every_candidate_and_its_words(x):
    with pytest.raises(AmbiguousPosteriorError) as caught:
        PosteriorAdapter(vaes.PlainAutoencoder()).prepare(x)
    by_call = {candidate.call: candidate for candidate in caught.value.candidates}
    assert by_call["encode"].shape == (4, vaes.D)
    assert by_call["encode"].words == ("encode:mean", "encode:chunk")
    assert by_call["forward"].words == ("forward:mean",)
    assert "posterior='encode:mean'" in str(caught.value)
    assert "posterior='module:NAME'" in str(caught.value)
    assert str(by_call["encode"]) in str(caught.value)


def test_three_different_deterministic_outputs_are_refused(x):
    class Three(vaes.Moments):
        def encode(self, x):
            mu, logvar = self.moments(x)
            return mu, logvar, mu + logvar

        def forward(self, x):
            return self.image(self.moments(x)[0])

    with pytest.raises(AmbiguousPosteriorError, match=r"encode:\[2\]"):
        PosteriorAdapter(Three()).prepare(x)


def test_a_model_of_zeros_on_a_blank_image_shows_its_chunk_as_well():
    model = vaes.FlatFactorVAE()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    adapter = PosteriorAdapter(model, call="encode").prepare(torch.zeros(4, *vaes.SHAPE))
    assert "'chunk[0]' mean, 'chunk[1]' log_variance" in repr(adapter)


def test_unknown_names_of_unnamed_layers_are_refused(x):
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(192, 4), nn.Linear(192, 4)

        def forward(self, x):
            return {"a": self.one(x.flatten(1)), "b": self.two(x.flatten(1))}

    with pytest.raises(AmbiguousPosteriorError, match="forward:a") as caught:
        PosteriorAdapter(Unknown()).prepare(x)
    assert "posterior='forward:a,b' or posterior='forward:b,a'" in str(caught.value)


def test_a_plain_callable_that_returns_one_tensor_is_the_mean(x):
    model = vaes.PytorchExamples()
    posterior = PosteriorAdapter(lambda images: model(images)[1])(x)
    assert torch.equal(posterior.mean, truth(model, x)[0])
    assert posterior.log_variance is None


def test_a_plain_callable_that_returns_a_pair_is_read_by_evidence(x):
    model = vaes.ForwardOnly()
    posterior = PosteriorAdapter(lambda images: model(images))(x)
    assert torch.equal(posterior.mean, truth(model, x)[0])
    assert torch.equal(posterior.log_variance, truth(model, x)[1])


def test_a_bound_encode_with_one_tensor_needs_the_evidence_of_forward(x):
    model = vaes.FlatFactorVAE()
    assert torch.equal(PosteriorAdapter(model.encode)(x).mean, truth(model, x)[0])
    with pytest.raises(AmbiguousPosteriorError):
        PosteriorAdapter(vaes.PlainAutoencoder().encode).prepare(x)


@pytest.mark.parametrize("level", [0, 1, -1])
@pytest.mark.parametrize("kind", [vaes.Hierarchical, vaes.HierarchicalLists])
def test_a_level_of_a_hierarchical_model_is_chosen(kind, level, x):
    model = kind()
    posterior = PosteriorAdapter(model, level=level)(x)
    expected = model.moments(x)[0] if level == 0 else model.conv_mu(x).mean((2, 3))
    torch.testing.assert_close(posterior.mean, expected)
    assert posterior.log_variance is not None


def test_a_hierarchical_model_without_a_level_is_refused(x):
    with pytest.raises(AmbiguousPosteriorError, match="2 levels"):
        PosteriorAdapter(vaes.Hierarchical()).prepare(x)


@pytest.mark.parametrize("count", [2, 3])
def test_lists_of_one_shape_may_be_levels_or_moments_and_are_refused(count):
    def encode(x):
        return [[torch.randn(4, 3) for _ in range(count)] for _ in range(2)]

    with pytest.raises(AmbiguousPosteriorError, match=r"\[1\]\[0\]"):
        PosteriorAdapter(encode, level=0).prepare(torch.randn(4, *vaes.SHAPE))


def test_a_level_out_of_range_is_refused(x):
    with pytest.raises(PosteriorError, match="level=2 is out of range: there are 2 levels"):
        PosteriorAdapter(vaes.Hierarchical(), level=2).prepare(x)


def test_the_models_own_error_is_passed_on_when_no_call_runs():
    with pytest.raises(RuntimeError, match="expected input"):
        PosteriorAdapter(vaes.PytorchExamples()).prepare(torch.randn(4, 5, 8, 8))


def test_a_batch_of_one_is_enough():
    model = vaes.FactorVAE()
    x = torch.randn(1, *vaes.SHAPE)
    assert torch.equal(PosteriorAdapter(model)(x).mean, truth(model, x)[0])


def test_several_inputs_are_passed_on_by_position(x):
    class Conditional(vaes.Moments):
        def encode(self, x, shift, scale):
            mu, logvar = self.moments(x)
            return scale * mu + shift, logvar

        def forward(self, x, shift, scale):
            mu, logvar = self.encode(x, shift, scale)
            return self.image(mu), mu, logvar

    model = Conditional()
    shift = torch.randn(4, vaes.D)
    posterior = PosteriorAdapter(model)(x, shift, 3.0)
    torch.testing.assert_close(posterior.mean, 3.0 * truth(model, x)[0] + shift)


def test_a_compiled_submodule_does_not_disturb_detection():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = torch.compile(nn.Linear(4, 6), backend="eager")

        def encode(self, x):
            return self.encoder(x).chunk(2, dim=1)

        def forward(self, x):
            mu, logvar = self.encode(x)
            return mu + torch.randn_like(mu) * (logvar / 2).exp()

    model = Model()
    x = torch.randn(3, 4)
    posterior = PosteriorAdapter(model).prepare(x)(x)
    torch.testing.assert_close(posterior.mean, model.encode(x)[0])
