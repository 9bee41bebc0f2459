"""Scorers take the models that the attribution classes take, and decode as these do."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_vae.attr import LatentGradCAM, MeanActivation, MeanSumGradCAM, NormalDifferenceGradCAM
from captum_vae.localization import (
    ELBOGradient,
    FeatureDifference,
    GradientProjection,
    LatentAttention,
    ReconstructionError,
)
from captum_vae.models import ConvVAE

SIDE, D = 8, 3


class Encoding(nn.Module):
    """conv, act, fc_mu and fc_logvar on (B, 1, 8, 8); subclasses decode in their own way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.act = nn.Sigmoid()
        self.fc_mu = nn.Linear(64, D)
        self.fc_logvar = nn.Linear(64, D)
        self.to_image = nn.Linear(D, SIDE * SIDE)
        nn.init.normal_(self.fc_mu.weight)
        nn.init.normal_(self.to_image.weight, std=2.0)
        self.double().eval()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.act(self.conv(x)).flatten(1)
        return self.fc_mu(hidden), self.fc_logvar(hidden)

    def pixels(self, z: Tensor) -> Tensor:
        """What every subclass means by its reconstruction, (B, 1, 8, 8) in [0, 1]."""
        return self.to_image(z).sigmoid().reshape(-1, 1, SIDE, SIDE)

    def expected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        return self.pixels(mean), mean, log_variance


class LogitsDecoded(Encoding):
    """``decode`` gives logits; ``reconstruct`` gives pixels."""

    def decode(self, z: Tensor) -> Tensor:
        return self.to_image(z).reshape(-1, 1, SIDE, SIDE)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x)[0]).sigmoid()


class LogitsFromADecoder(Encoding):
    """As before, with a submodule ``decoder`` and no method ``decode``."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(self.to_image, nn.Unflatten(1, (1, SIDE, SIDE)))

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decoder(self.encode(x)[0]).sigmoid()


class DictDecoded(Encoding):
    """``decode`` returns a mapping."""

    def decode(self, z: Tensor) -> dict[str, Tensor]:
        return {"latent": z, "reconstruction": self.pixels(z)}


class FlatDecoded(Encoding):
    """``decode`` returns rows of pixels, (B, 64)."""

    def decode(self, z: Tensor) -> Tensor:
        return self.pixels(z).flatten(1)


class ForwardAlone(Encoding):
    """Neither decode nor decoder nor encode by name: forward gives everything."""

    def __init__(self) -> None:
        super().__init__()
        self.look = super().encode
        self.encode = None

    def expected(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self(x)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.look(x)
        return self.pixels(mean), mean, log_variance


def pythae() -> nn.Module:
    """pythae's VAE, whose encoder and decoder return a ModelOutput, and which has no decode."""
    vae = pytest.importorskip("pythae.models")
    base = pytest.importorskip("pythae.models.base.base_utils")
    networks = pytest.importorskip("pythae.models.nn")
    parts = DictDecoded()

    class Encoder(networks.BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = parts.conv, parts.act
            self.fc_mu, self.fc_logvar = parts.fc_mu, parts.fc_logvar

        def forward(self, x: Tensor):
            hidden = self.act(self.conv(x)).flatten(1)
            return base.ModelOutput(
                embedding=self.fc_mu(hidden), log_covariance=self.fc_logvar(hidden)
            )

    class Decoder(networks.BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.to_image = parts.to_image

        def forward(self, z: Tensor):
            return base.ModelOutput(reconstruction=parts.pixels(z))

    config = vae.VAEConfig(input_dim=(1, SIDE, SIDE), latent_dim=D)
    model = vae.VAE(config, encoder=Encoder(), decoder=Decoder()).eval()
    model.expected = parts.expected
    return model


MODELS = {
    "logits": LogitsDecoded,
    "logits from a decoder": LogitsFromADecoder,
    "pythae": pythae,
    "dict": DictDecoded,
    "flat": FlatDecoded,
    "forward alone": ForwardAlone,
    "ours": lambda: ConvVAE(
        D, image_size=SIDE, channels=(4,), hidden=None, output="logits"
    ).double(),
}


@pytest.fixture(params=MODELS)
def vae(request):
    torch.manual_seed(3)
    model = MODELS[request.param]().eval()
    if not hasattr(model, "expected"):
        model.expected = lambda x: (model.reconstruct(x), *model.encode(x))
    return model


@pytest.fixture
def images():
    return torch.rand(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).double()


@pytest.fixture
def normal():
    return torch.rand(6, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(2)).double()


@pytest.fixture
def layer(vae):
    return next(name for name, module in vae.named_modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("weighting", ["pooled", "elementwise", "integrated"])
@pytest.mark.parametrize("baselines", ["none", "reconstruction", "mean_activation", "mean_image"])
@pytest.mark.parametrize("method", ["per_dimension", "mean_sum", "normal_difference"])
def test_latent_attention_is_the_attribution_of_the_same_options_to_the_bit(
    vae, layer, images, normal, method, baselines, weighting
):
    kind = {
        "per_dimension": LatentGradCAM,
        "mean_sum": MeanSumGradCAM,
        "normal_difference": NormalDifferenceGradCAM,
    }[method]
    cam = kind(vae, layer)
    if method == "normal_difference":
        cam.fit([normal])
    given = {
        "none": None,
        "reconstruction": "reconstruction",
        "mean_activation": MeanActivation().fit(cam, [normal]),
        "mean_image": normal.mean(0, keepdim=True),
    }[baselines]
    options = {"preset": "replication_b", "weighting": weighting, "aggregate": "max"}
    wanted = cam.attribute(images, baselines=given, size="input", n_steps=3, **options)[:, 0]
    scorer = LatentAttention(vae, layer, method=method, baselines=baselines, n_steps=3, **options)
    found = scorer.fit([normal]).score(images)
    # The mean image is taken in float64 and a batch at a time, so that its last bit may differ.
    exact = baselines != "mean_image"
    torch.testing.assert_close(found, wanted, **({"rtol": 0, "atol": 0} if exact else {}))
    assert found.abs().max() > 0


def test_the_reconstruction_error_compares_pixels(vae, images):
    wanted = (images - vae.expected(images)[0]).square().mean(1).detach()
    torch.testing.assert_close(ReconstructionError(vae).score(images), wanted)


def test_the_feature_difference_is_that_of_the_pixels_reconstructed(vae, layer, images):
    conv = vae.get_submodule(layer)
    difference = conv(images) - conv(vae.expected(images)[0])
    wanted = F.interpolate(
        difference.abs().mean(1, keepdim=True).float(), (SIDE, SIDE), mode="bilinear"
    )[:, 0].detach()
    found = FeatureDifference(vae, layer, baselines="reconstruction").score(images)
    torch.testing.assert_close(found, wanted)


def test_the_elbo_gradient_is_autograds_of_the_transcribed_elbo(vae, images, normal):
    variance = (normal - vae.expected(normal)[0]).square().mean().detach()
    x = images.clone().requires_grad_()
    reconstruction, mean, log_variance = vae.expected(x)
    nll = (x - reconstruction).square().sum() / (2 * variance)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
    (nll + kl).backward()
    found = ELBOGradient(vae).fit([normal]).score(images)
    torch.testing.assert_close(found, x.grad.abs().mean(1))


def test_the_gradient_projection_takes_the_transcribed_steps(vae, images):
    x = images.clone()
    for _ in range(3):
        x.requires_grad_()
        error = x - vae.expected(x)[0]
        energy = error.square().sum() + 0.05 * (x - images).abs().sum()
        (gradient,) = torch.autograd.grad(energy, x)
        x = (x - 0.01 * gradient * error.square()).detach().clamp(0, 1)
    found = GradientProjection(vae, steps=3, step_size=0.01).score(images)
    torch.testing.assert_close(found, (images - x).square().mean(1))


@pytest.mark.parametrize("scorer", [ELBOGradient, GradientProjection, ReconstructionError])
def test_a_model_that_gives_no_image_is_refused(scorer, images):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, D)).double()
    with pytest.raises(ValueError, match=r"gives no reconstruction of the image's shape"):
        scorer(encoder, posterior="mean").fit([images]).score(images)


class Conditional(Encoding):
    """Encoder and decoder need the class of each image."""

    def encode(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = super().encode(x)
        return mean + label[:, None], log_variance

    def decode(self, z: Tensor, label: Tensor) -> Tensor:
        return self.pixels(z) * (1 + label.reshape(-1, 1, 1, 1)) / 4

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x, label)
        return self.decode(mean, label), mean, log_variance


class ConditionByAnotherName(Conditional):
    def decode(self, z: Tensor, condition: Tensor) -> Tensor:
        return super().decode(z, condition)


class ConditionalReconstruct(Conditional):
    def decode(self, z: Tensor, label: Tensor) -> Tensor:
        return super().decode(z, label).logit()

    def reconstruct(self, x: Tensor, label: Tensor) -> Tensor:
        return self.decode(self.encode(x, label)[0], label).sigmoid()


class DecodesWithOptions(Conditional):
    """An option of ``decode`` that the model's own further argument must not be taken for."""

    def decode(self, z: Tensor, shrink: bool = False) -> Tensor:
        return self.pixels(z) / (1000 if shrink is not False else 1)

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x, label)
        return self.decode(mean), mean, log_variance


@pytest.mark.parametrize("kind", [Conditional, ConditionByAnotherName, ConditionalReconstruct])
@pytest.mark.parametrize("given_as", ["input", "additional_forward_args"])
def test_a_conditional_model_reconstructs_under_the_same_condition(kind, given_as, images):
    torch.manual_seed(5)
    vae, label = kind(), torch.tensor([0.0, 1.0, 2.0, 1.0]).double()
    image = Conditional.decode(vae, vae.encode(images, label)[0], label).detach()
    difference = (vae.conv(images) - vae.conv(image))[:, None]
    cam = LatentGradCAM(vae, "conv", posterior="encode:[0],[1]")
    alpha = cam.attribute(
        images, None, label, rectifier="none", reduction="none", weighting="elementwise"
    )
    wanted = (alpha / vae.conv(images)[:, None] * difference).sum(2).detach()
    arguments = ((images, label),) if given_as == "input" else (images, None, label)
    options = {"rectifier": "none", "weighting": "elementwise"}
    found = cam.attribute(*arguments, baselines="reconstruction", **options)
    torch.testing.assert_close(found, wanted)


def test_an_option_of_decode_is_not_the_models_condition(images):
    from captum_vae.attr.reconstruction import reconstruct
    from captum_vae.posterior import as_adapter

    torch.manual_seed(5)
    vae, label = DecodesWithOptions(), torch.zeros(4).double()
    found = reconstruct(as_adapter(vae, "encode:[0],[1]"), (images, label))
    torch.testing.assert_close(found, vae.pixels(vae.encode(images, label)[0]).detach())
