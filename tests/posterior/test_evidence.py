"""The kinds of VAEs that people publish: one reading each, whatever the first batch holds."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from captum_vae.posterior import AmbiguousPosteriorError, PosteriorAdapter
from captum_vae.posterior.evidence import Head

D = 4
SHAPE = (1, 6, 6)
SIZE = 36


def batches():
    """Twenty batches of very different statistics."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20, 3, *SHAPE, generator=generator)
    shaped = [
        torch.zeros(3, *SHAPE),
        torch.ones(3, *SHAPE),
        torch.full((3, *SHAPE), -7.0),
        1e-20 * noise[0],
        1e6 * noise[1],
        1e30 * noise[2],
        noise[3].abs(),
        -noise[4].abs(),
        noise[5, :1].repeat(3, 1, 1, 1),
        (noise[6] > 0).float(),
        noise[7] + 100,
        noise[8, :1],
        255 * noise[9].sigmoid().round(),
    ]
    return shaped + list(noise[len(shaped) :])


class Plain(nn.Module):
    """Two heads whose names say nothing, and a decoder; subclasses draw and return in their way."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Linear(SIZE, 8)
        self.one, self.two = nn.Linear(8, D), nn.Linear(8, D)
        self.out = nn.Linear(D, SIZE)

    def heads(self, x):
        hidden = self.trunk(x.flatten(1)).tanh()
        return self.one(hidden), self.two(hidden)

    def decode(self, z):
        return self.out(z).view(-1, *SHAPE)

    def truth(self, x):
        """Mean and log-variance."""
        return self.heads(x)

    def forward(self, x):
        mean, log_variance = self.heads(x)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decode(z), mean, log_variance


class Encode(Plain):
    def encode(self, x):
        return self.heads(x)


class EncodeList(Plain):
    def encode(self, x):
        return list(self.heads(x))


class OnlyWhenTraining(Plain):
    """pytorch/examples of old: fc21 and fc22, and z = mu in eval mode."""

    def encode(self, x):
        return self.heads(x)

    def forward(self, x):
        mean, log_variance = self.encode(x)
        z = mean
        if self.training:
            std = log_variance.mul(0.5).exp_()
            z = torch.empty_like(std).normal_().mul(std).add_(mean)
        return self.decode(z), mean, log_variance


class Reversed(Plain):
    def encode(self, x):
        mean, log_variance = self.heads(x)
        return log_variance, mean


class WithInput(Plain):
    def forward(self, x):
        reconstruction, mean, log_variance = super().forward(x)
        return [reconstruction, x, mean, log_variance]


class WithSamples(Plain):
    def forward(self, x):
        mean, log_variance = self.heads(x)
        z = Normal(mean, torch.exp(log_variance / 2)).rsample()
        return self.decode(z), z, mean, log_variance


class StdBySoftplus(Plain):
    def truth(self, x):
        mean, raw = self.heads(x)
        return mean, 2 * F.softplus(raw).log()

    def forward(self, x):
        mean, raw = self.heads(x)
        std = F.softplus(raw)
        return self.decode(torch.randn_like(std) * std + mean), mean, std


class Variance(Plain):
    def truth(self, x):
        mean, raw = self.heads(x)
        return mean, F.softplus(raw).log()

    def forward(self, x):
        mean, raw = self.heads(x)
        variance = F.softplus(raw)
        z = torch.addcmul(mean, variance.sqrt(), torch.randn(mean.shape))
        return self.decode(z), mean, variance


class LogStd(Plain):
    def truth(self, x):
        mean, log_std = self.heads(x)
        return mean, 2 * log_std

    def forward(self, x):
        mean, log_std = self.heads(x)
        return self.decode(torch.normal(mean, log_std.exp())), mean, log_std


class LogStdAndStd(Plain):
    """Returns the std, which is made as exp of half of what stays inside."""

    def forward(self, x):
        mean, log_variance = self.heads(x)
        std = log_variance.exp().pow(0.5)
        return self.decode(mean + std * torch.randn_like(std)), mean, std


class AllPositive(Plain):
    """A log-variance that is positive on every batch, through a ReLU."""

    def truth(self, x):
        mean, raw = self.heads(x)
        return mean, raw.relu() + 1

    def forward(self, x):
        mean, log_variance = self.truth(x)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decode(z), mean, log_variance


class Chunk(Plain):
    """encode gives [mean | log-variance] of one layer."""

    def __init__(self):
        super().__init__()
        self.moments = nn.Linear(8, 2 * D)

    def truth(self, x):
        return self.encode(x).chunk(2, 1)

    def encode(self, x):
        return self.moments(self.trunk(x.flatten(1)).tanh())

    def forward(self, x):
        mean, log_variance = self.truth(x)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decode(z), mean, log_variance


class ReversedChunk(Chunk):
    """encode gives [log-variance | mean]; the reconstruction is all that forward returns."""

    def truth(self, x):
        log_variance, mean = self.encode(x).chunk(2, 1)
        return mean, log_variance

    def forward(self, x):
        return super().forward(x)[0]


class Stacked(Chunk):
    """The moments as (B, 2, D): encode gives a view of them."""

    def truth(self, x):
        moments = self.encode(x).view(-1, 2, D)
        return moments[:, 0], moments[:, 1]


class OddKeys(Plain):
    def forward(self, x):
        reconstruction, mean, log_variance = super().forward(x)
        return {"y": reconstruction, "q0": mean, "q1": log_variance}


class Named(Plain):
    """Layers called mu and log_var, and nothing that draws or decodes."""

    def __init__(self):
        super().__init__()
        self.log_var, self.mu = nn.Linear(8, D), nn.Sequential(nn.Linear(8, D))

    def truth(self, x):
        hidden = self.trunk(x.flatten(1)).tanh()
        return self.mu(hidden), self.log_var(hidden)

    def encode(self, x):
        return self.truth(x)[::-1]

    def forward(self, x, labels):
        raise NotImplementedError


class FcVar(Named):
    """AntixK: fc_var is a plain layer, so a log-variance."""

    def __init__(self):
        super().__init__()
        self.fc_mu, self.fc_var = self.mu, self.log_var
        del self.mu, self.log_var

    def truth(self, x):
        hidden = self.trunk(x.flatten(1)).tanh()
        return self.fc_mu(hidden), self.fc_var(hidden)


class Hierarchy(Plain):
    """Two levels in one tuple; the second is drawn from the first one's sample."""

    def __init__(self):
        super().__init__()
        self.three, self.four = nn.Linear(D, 3), nn.Linear(D, 3)
        self.out = nn.Linear(3, SIZE)

    def forward(self, x):
        mean, log_variance = self.heads(x)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        upper, upper_log_variance = self.three(z), self.four(z)
        z2 = upper + torch.exp(0.5 * upper_log_variance) * torch.randn_like(upper)
        return self.decode(z2), mean, log_variance, upper, upper_log_variance


class FlowPosterior(Plain):
    """An inverse autoregressive flow behind the Gaussian: (recon, mu, logvar, z0, zk, log det)."""

    def forward(self, x):
        mean, log_variance = self.heads(x)
        z0 = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        gate = torch.sigmoid(z0.flip(1))
        zk = gate * z0 + (1 - gate) * z0.roll(1, 1)
        return self.decode(zk), mean, log_variance, z0, zk, gate.log().sum(1)


class ManySamples(Plain):
    """IWAE: five samples of each image."""

    def forward(self, x):
        mean, log_variance = self.heads(x)
        std = torch.exp(0.5 * log_variance).unsqueeze(1)
        z = mean.unsqueeze(1) + std * torch.randn(len(x), 5, D)
        return self.decode(z.mean(1)), mean, log_variance


class Dropped(Plain):
    def heads(self, x):
        hidden = F.dropout(self.trunk(x.flatten(1)).tanh(), 0.3, self.training)
        return self.one(hidden), self.two(hidden)


class Spatial(nn.Module):
    """A latent with positions, whose heads are convolutions, in a namedtuple's order of its own."""

    def __init__(self):
        super().__init__()
        self.conv, self.up = nn.Conv2d(1, 8, 3, 2, 1), nn.ConvTranspose2d(4, 1, 2, 2)

    def truth(self, x):
        return self.conv(x).chunk(2, 1)

    def forward(self, x):
        mean, log_variance = self.truth(x)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return mean, self.up(z), log_variance


class Normalised(OnlyWhenTraining):
    """Batch norm, which in train mode refuses a single image."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def heads(self, x):
        hidden = self.norm(self.trunk(x.flatten(1)))
        return self.one(hidden), self.two(hidden)


class ClampedInside(Named):
    """The log-variance is clamped for the draw only: its layer's name says what it is."""

    def encode(self, x):
        return self.truth(x)

    def forward(self, x):
        mean, log_variance = self.truth(x)
        z = mean + torch.exp(0.5 * log_variance.clamp(-5, 5)) * torch.randn_like(mean)
        return self.decode(z)


class SampledReconstruction(Plain):
    """The pixels are drawn as well, around what is decoded."""

    def forward(self, x):
        reconstruction, mean, log_variance = super().forward(x)
        pixels = reconstruction + 0.1 * torch.randn_like(reconstruction)
        return pixels, reconstruction, mean, log_variance


READ = {
    Plain: "'[1]' mean, '[2]' log_variance",
    Encode: "'[0]' mean, '[1]' log_variance",
    EncodeList: "'[0]' mean, '[1]' log_variance",
    OnlyWhenTraining: "'[0]' mean, '[1]' log_variance",
    Reversed: "'[1]' mean, '[0]' log_variance",
    WithInput: "'[2]' mean, '[3]' log_variance",
    WithSamples: "'[2]' mean, '[3]' log_variance",
    StdBySoftplus: "'[1]' mean, '[2]' std",
    Variance: "'[1]' mean, '[2]' variance",
    LogStd: "'[1]' mean, '[2]' log_std",
    LogStdAndStd: "'[1]' mean, '[2]' std",
    AllPositive: "'[1]' mean, '[2]' log_variance",
    Chunk: "'chunk[0]' mean, 'chunk[1]' log_variance",
    ReversedChunk: "'chunk[1]' mean, 'chunk[0]' log_variance",
    Stacked: "'chunk[0]' mean, 'chunk[1]' log_variance",
    OddKeys: "'q0' mean, 'q1' log_variance",
    Named: "'[1]' mean, '[0]' log_variance",
    FcVar: "'[1]' mean, '[0]' log_variance",
    FlowPosterior: "'[1]' mean, '[2]' log_variance",
    ManySamples: "'[1]' mean, '[2]' log_variance",
    Dropped: "'[1]' mean, '[2]' log_variance",
    Spatial: "'[0]' mean, '[2]' log_variance",
    ClampedInside: "'[0]' mean, '[1]' log_variance",
    Normalised: "'[0]' mean, '[1]' log_variance",
    SampledReconstruction: "'[2]' mean, '[3]' log_variance",
}


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.__name__)
def test_one_reading_of_every_first_batch(kind, mode):
    torch.manual_seed(0)
    model = kind().train(mode == "train")
    seen = batches()
    if kind is Normalised and mode == "train":
        seen = [batch for batch in seen if len(batch) > 1]
    readings = {repr(PosteriorAdapter(model).prepare(batch)) for batch in seen}
    (reading,) = readings
    assert f"read={READ[kind]}" in reading


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.__name__)
def test_the_reading_gives_the_true_moments(kind):
    torch.manual_seed(0)
    model = kind().eval()
    x = torch.rand(3, *SHAPE)
    posterior = PosteriorAdapter(model, spatial="flatten")(x)
    mean, log_variance = (part.flatten(1) for part in model.truth(x))
    torch.testing.assert_close(posterior.mean, mean)
    torch.testing.assert_close(posterior.log_variance, log_variance)


@pytest.mark.parametrize("level", [0, 1])
def test_levels_drawn_one_after_the_other_are_told_apart(level):
    x = torch.rand(3, *SHAPE)
    model = Hierarchy()
    with pytest.raises(AmbiguousPosteriorError, match="2 levels"):
        PosteriorAdapter(model).prepare(x)
    place = 1 + 2 * level
    text = repr(PosteriorAdapter(model, level=level).prepare(x))
    assert f"'[{place}]' mean, '[{place + 1}]' log_variance" in text


def moments_alone(x):
    """What one layer gives, halved: nothing says which half is the mean."""
    return torch.cat([x.flatten(1)[:, :4].sin(), x.flatten(1)[:, 4:8].cos()], 1)


class NoForward(Plain):
    def encode(self, x):
        return self.heads(x)

    def forward(self, x, labels):
        raise NotImplementedError


class NeverDecoded(Plain):
    def forward(self, x):
        return self.heads(x)


class BothDecoded(Plain):
    def encode(self, x):
        return self.heads(x)

    def forward(self, x):
        one, two = self.encode(x)
        return self.decode(one + two)


class LaplaceNoise(Plain):
    """Uniform noise is no Gaussian's."""

    def forward(self, x):
        loc, scale = self.heads(x)
        return self.decode(loc + scale * torch.rand_like(loc)), loc, scale


class Quantised(Plain):
    def encode(self, x):
        latent = self.heads(x)[0]
        return latent + (latent.round() - latent).detach(), latent

    def forward(self, x):
        return self.decode(self.encode(x)[0])


class Autoencoder(Plain):
    def encode(self, x):
        return self.heads(x)[0]

    def forward(self, x):
        return self.decode(self.encode(x))


class Sampled(Plain):
    def forward(self, x):
        return super().forward(x)[0]


class PureFlow(nn.Module):
    """x -> (z, log determinant), z of the size of x."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(SIZE))

    def forward(self, x):
        return x.flatten(1) * self.scale, self.scale.log().sum().expand(len(x))


REFUSED = [
    NoForward,
    NeverDecoded,
    BothDecoded,
    LaplaceNoise,
    Quantised,
    Autoencoder,
    Sampled,
    PureFlow,
    lambda: lambda x: {"q": moments_alone(x)},
    lambda: lambda x: (moments_alone(x)[:, :4], moments_alone(x)[:, 4:]),
]


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_what_nothing_decides_is_refused_on_every_batch(kind):
    model = kind()
    for batch in batches():
        with pytest.raises(AmbiguousPosteriorError, match="cannot tell which output"):
            PosteriorAdapter(model).prepare(batch)


class TokenLatent(nn.Module):
    """A latent of tokens (B, N, D), as a transformer gives it."""

    def __init__(self):
        super().__init__()
        self.mu, self.logvar = nn.Linear(6, 5), nn.Linear(6, 5)

    def forward(self, x):
        return self.mu(x.squeeze(1)), self.logvar(x.squeeze(1))


class StackedLatent(Plain):
    """Mean and log-variance on an axis of their own, (B, 2, D)."""

    def forward(self, x):
        reconstruction, mean, log_variance = super().forward(x)
        return reconstruction, torch.stack([mean, log_variance], 1)


@pytest.mark.parametrize("kind", [TokenLatent, StackedLatent])
def test_dimensions_on_the_last_axis_do_not_pass_for_positions(kind):
    model, x = kind(), torch.rand(3, *SHAPE)
    with pytest.raises(ValueError, match="latent dimensions on the last axis.*spatial='flatten'"):
        PosteriorAdapter(model).prepare(x)


def test_tokens_flattened_are_dimensions():
    model, x = TokenLatent(), torch.rand(3, *SHAPE)
    found = PosteriorAdapter(model, spatial="flatten")(x)
    assert torch.equal(found.mean, model(x)[0].flatten(1))


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(6, 5, 1), nn.Sequential(nn.Flatten(), nn.Linear(36, 20))]
)
def test_positions_of_a_convolution_or_of_a_view_stay_positions(layer):
    class Latent(nn.Module):
        def __init__(self):
            super().__init__()
            self.mu, self.logvar = layer, copy.deepcopy(layer)

        def forward(self, x):
            mean, log_variance = self.mu(x.squeeze(1)), self.logvar(x.squeeze(1))
            return mean.view(len(x), 5, -1), log_variance.view(len(x), 5, -1)

    model, x = Latent(), torch.rand(3, *SHAPE)
    torch.testing.assert_close(PosteriorAdapter(model)(x).mean, model(x)[0].mean(2))


def test_a_refusal_gives_words_that_work():
    x = torch.rand(3, *SHAPE)
    model = NeverDecoded()
    with pytest.raises(AmbiguousPosteriorError) as caught:
        PosteriorAdapter(model).prepare(x)
    message = str(caught.value)
    assert "posterior='forward:[0],[1]' or posterior='forward:[1],[0]'" in message
    one, two = model.heads(x)
    adapter = PosteriorAdapter(model, call="forward", read="[1],[0]")
    assert torch.equal(adapter(x).mean, two) and torch.equal(adapter(x).log_variance, one)


def test_the_words_for_a_reversed_chunk_read_it():
    x = torch.rand(3, *SHAPE)
    model = ReversedChunk()
    found = PosteriorAdapter(model, call="encode", read="chunk[1],chunk[0]")(x)
    torch.testing.assert_close(found.mean, model.truth(x)[0])
    torch.testing.assert_close(found.log_variance, model.truth(x)[1])


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("fc_mu", "mean"),
        ("encoder.to_mean", "mean"),
        ("head.mu.2", "mean"),
        ("zMean", "mean"),
        ("linear_means", "mean"),
        ("loc", "mean"),
        ("fcmu", "mean"),
        ("mu.parametrizations.weight.0", "mean"),
        ("fc_logvar", "spread"),
        ("log_var_head", "spread"),
        ("fcLogVar", "spread"),
        ("lnvar", "spread"),
        ("log_sigma2", "spread"),
        ("fc_std", "spread"),
        ("to_sigma.0", "spread"),
        ("fc21", None),
        ("fc_mu_logvar", None),
        ("moments", None),
        ("variational.linear", None),
    ],
)
def test_the_name_of_a_layer_says_its_role(name, role):
    assert Head(name, torch.zeros(0)).role == role


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_pixel_that_is_not_finite_is_said_to_be_that(value):
    x = torch.rand(3, *SHAPE)
    x[1, 0, 2, 2] = value
    with pytest.raises(ValueError, match="input 0 is not finite.*first in sample 1"):
        PosteriorAdapter(Encode()).prepare(x)


class Told(Plain):
    """A model whose mapping calls its outputs as told, with z drawn as ``scale`` says."""

    def __init__(self, names, scale):
        super().__init__()
        self.names, self.scale = names, scale

    def forward(self, x):
        mean, raw = self.heads(x)
        z = mean + self.scale(raw) * torch.randn_like(mean)
        return {"recon": self.decode(z), self.names[0]: mean, self.names[1]: raw}

    def heads(self, x):
        mean, raw = super().heads(x)
        return mean, F.softplus(raw)


@pytest.mark.parametrize(
    "names",
    [
        ("logvar", "mu"),
        ("log_var", "mean"),
        ("std", "mu"),
        ("scale", "loc"),
        ("var", "mean"),
        ("log_variance", "z_mean"),
    ],
)
def test_names_that_the_drawing_of_z_contradicts_are_refused(names):
    model, x = Told(names, lambda raw: (raw / 2).exp()), torch.rand(3, *SHAPE)
    words = f"calls '{names[1]}' the mean and '{names[0]}' its spread, but draws z around"
    with pytest.raises(AmbiguousPosteriorError, match=words):
        PosteriorAdapter(model)(x)
    stated = PosteriorAdapter(model, read=names[0])(x)
    assert torch.equal(stated.mean, model.heads(x)[0])


@pytest.mark.parametrize(
    ("name", "scale", "spread"),
    [
        ("logvar", lambda raw: raw, "std"),
        ("logvar", lambda raw: raw.exp(), "log_std"),
        ("logvar", lambda raw: raw.sqrt(), "variance"),
        ("std", lambda raw: (raw / 2).exp(), "log_variance"),
        ("var", lambda raw: raw, "std"),
    ],
)
def test_a_spread_drawn_as_another_than_its_name_says_is_refused(name, scale, spread):
    model, x = Told(("mu", name), scale), torch.rand(3, *SHAPE)
    with pytest.raises(AmbiguousPosteriorError, match=f"draws z with it as the {spread}"):
        PosteriorAdapter(model)(x)
    assert torch.equal(PosteriorAdapter(model, spread=spread)(x).mean, model.heads(x)[0])
