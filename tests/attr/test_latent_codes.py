"""What is explained besides the mean, on every way to the weights, against float64 autograd."""

import pytest
import torch
from torch import nn

from captum_vae import LatentGradCAM, MeanSumGradCAM, NormalDifferenceGradCAM, PosteriorAdapter
from captum_vae.attr.latent_codes import QUANTITIES
from tests.attr.random_networks import RandomEncoder
from tests.attr.toys import D, ToyVAE, assert_equal, features_and_gradients

SEED = 11
READ = "encode:[0],[1]"
LAYERS = ["conv1", "act1", "conv2", "act2"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def by_hand(of, mean, log_variance):
    """(B, D) of mean and log-variance, each formula written out."""
    if of in ("log_variance", "logvar"):
        return log_variance
    if of == "kl":
        return (mean**2 + log_variance.exp() - log_variance - 1) / 2
    if of == "sample":
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn(1, mean.shape[1], generator=generator, dtype=mean.dtype)
        return mean + log_variance.exp().sqrt() * noise
    return mean


def signal_to_noise(posterior):
    return posterior.mean / torch.exp(0.5 * posterior.log_variance)


def pooled_maps(features, gradients):
    alpha = gradients.flatten(3).mean(3)
    return (alpha[..., None] * features.flatten(2)[:, None]).sum(2).unflatten(2, features.shape[2:])


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("of", QUANTITIES)
def test_every_quantity_equals_float64_autograd(of, layer):
    vae = ToyVAE()
    x = vae.images(3)
    features, gradients = features_and_gradients(
        lambda x: by_hand(of, *vae.encode(x)), vae.get_submodule(layer), x
    )
    found = LatentGradCAM(vae, layer, of=of, seed=SEED, posterior=READ).attribute(
        x, rectifier="none"
    )
    assert_equal(found, pooled_maps(features, gradients))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("of", ["log_variance", "kl", "sample"])
def test_random_encoders_of_every_shape_agree_with_autograd(of, seed):
    torch.manual_seed(seed)
    model = RandomEncoder(seed).double().eval().requires_grad_()
    x = model.inputs(2).double()
    features, gradients = features_and_gradients(lambda x: by_hand(of, *model(x)), model.layer, x)
    cam = LatentGradCAM(model, model.layer, posterior="forward:0,1", of=of, seed=SEED)
    found = cam.attribute(x, rectifier="none")
    # Where positions cancel, an error has to be compared with what was added up.
    size = (gradients.abs().flatten(3).mean(3)[..., None] * features.abs().flatten(2)[:, None]).sum(
        2
    )
    error = (found - pooled_maps(features, gradients)).flatten(2).abs()
    assert bool((error <= 1e-10 * size + 1e-300).all())


@pytest.mark.parametrize(
    ("layer", "of", "path"),
    [
        ("act2", "mean", "pooled"),
        ("act2", "log_variance", "pooled"),
        ("act2", "kl", "pooled"),
        ("conv2", "sample", "masked"),
        ("act1", "kl", "convolved"),
    ],
)
def test_the_closed_form_serves_every_quantity(layer, of, path):
    vae = ToyVAE()
    assert (
        LatentGradCAM(vae, layer, of=of, posterior=READ).explain_plan(vae.images(2))[0].path == path
    )


@pytest.mark.parametrize("weighting", ["elementwise", "integrated"])
def test_the_other_weightings_explain_the_kl_too(weighting):
    vae = ToyVAE(activation=nn.Tanh)
    x = vae.images(2)
    cam = LatentGradCAM(vae, "conv2", of="kl", posterior=READ)
    found = cam.attribute(x, weighting=weighting, rectifier="none", baselines=0.0, n_steps=40)
    if weighting == "integrated":
        # The path form is complete: it adds up to the difference of the KL.
        kl = [by_hand("kl", *vae.encode(images)) for images in (x, torch.zeros_like(x))]
        assert_equal(found.sum((2, 3)), (kl[0] - kl[1]).detach(), 1e-8)
        return
    encode = lambda x: by_hand("kl", *vae.encode(x))  # noqa: E731
    features, gradients = features_and_gradients(encode, vae.conv2, x)
    origin, _ = features_and_gradients(encode, vae.conv2, torch.zeros_like(x))
    assert_equal(found, (gradients * (features - origin)[:, None]).sum(2))


@pytest.mark.parametrize("layer", ["act1", "conv2", "act2"])
def test_a_loss_on_maps_of_the_kl_trains_as_autograd_says(layer):
    vae = ToyVAE()
    x = vae.images(2)
    cam = LatentGradCAM(vae, layer, of="kl", posterior=READ)
    maps = cam.attribute(x, rectifier="none", create_graph=True)
    (found,) = torch.autograd.grad(maps.square().sum(), vae.conv1.weight)

    kept = []
    handle = vae.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: kept.append(output)
    )
    kl = by_hand("kl", *vae.encode(x))
    handle.remove()
    (features,) = kept
    gradients = torch.stack(
        [torch.autograd.grad(kl[:, d].sum(), features, create_graph=True)[0] for d in range(D)], 1
    )
    loss = pooled_maps(features, gradients).square().sum()
    (wanted,) = torch.autograd.grad(loss, vae.conv1.weight)
    assert_equal(found, wanted)


def test_a_callable_of_the_posterior_is_explained():
    vae = ToyVAE()
    x = vae.images(2)

    def mean_in_stds(x):
        mean, log_variance = vae.encode(x)
        return mean / log_variance.div(2).exp().detach()

    features, gradients = features_and_gradients(mean_in_stds, vae.act2, x)
    found = LatentGradCAM(
        vae,
        "act2",
        of=lambda p: p.mean / torch.exp(0.5 * p.log_variance.detach()),
        posterior=READ,
    ).attribute(x, rectifier="none", target=[2, 0])
    assert_equal(found, pooled_maps(features, gradients)[:, [2, 0]])


def test_a_callable_may_give_other_scalars_than_one_per_dimension():
    vae = ToyVAE()
    cam = LatentGradCAM(vae, "act2", of=lambda p: p.mean.norm(dim=1, keepdim=True))
    assert cam.attribute(vae.images(2)).shape == (2, 1, 3, 3)
    with pytest.raises(ValueError, match="target=1 is out of range"):
        cam.attribute(vae.images(2), target=1)


@pytest.mark.parametrize("of", ["kl", "sample"])
def test_method_2_sums_the_quantity(of):
    vae = ToyVAE()
    x = vae.images(2)
    maps = LatentGradCAM(vae, "conv2", of=of, seed=3, posterior=READ).attribute(x, rectifier="none")
    summed = MeanSumGradCAM(vae, "conv2", of=of, seed=3, posterior=READ).attribute(
        x, rectifier="none"
    )
    assert_equal(summed, maps.sum(1, keepdim=True))


def test_a_sample_depends_on_its_seed_alone():
    vae = ToyVAE()
    x = vae.images(3)
    cam = LatentGradCAM(vae, "act2", of="sample", seed=1, posterior=READ)
    maps = cam.attribute(x, rectifier="none")
    torch.rand(5)
    assert_equal(cam.attribute(x[1:], rectifier="none"), maps[1:])
    other = LatentGradCAM(vae, "act2", of="sample", seed=2, posterior=READ).attribute(
        x, rectifier="none"
    )
    assert not torch.allclose(other, maps)


class SpatialVAE(nn.Module):
    """A latent (B, D, 3, 3) by 1x1 convolutions."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.mean, self.log_variance = nn.Conv2d(4, D, 3, padding=1), nn.Conv2d(4, D, 1)
        self.double().eval()

    def encode(self, x):
        features = self.conv(x).tanh()
        return self.mean(features), self.log_variance(features)


@pytest.mark.parametrize("of", QUANTITIES)
@pytest.mark.parametrize("location", [(0, 2), (-1, 1)])
def test_one_location_of_a_spatial_latent_is_explained(of, location):
    vae = SpatialVAE()
    x = ToyVAE().images(2)
    i, j = location

    def there(x):
        mean, log_variance = (latent[:, :, i, j] for latent in vae.encode(x))
        return by_hand(of, mean, log_variance)

    features, gradients = features_and_gradients(there, vae.conv, x)
    cam = LatentGradCAM(vae, "conv", posterior=READ, of=of, location=location, seed=SEED)
    assert_equal(cam.attribute(x, rectifier="none"), pooled_maps(features, gradients))


def test_the_kl_of_a_spatial_latent_is_its_channels_share_of_the_models_kl():
    vae = SpatialVAE()
    x = ToyVAE().images(2)
    features, gradients = features_and_gradients(
        lambda x: by_hand("kl", *vae.encode(x)).sum((2, 3)), vae.conv, x
    )
    cam = LatentGradCAM(vae, "conv", posterior=READ, of="kl")
    assert_equal(cam.attribute(x, rectifier="none"), pooled_maps(features, gradients))


def test_a_location_reaches_the_normal_difference_too():
    vae = SpatialVAE()
    x = ToyVAE().images(2)
    cam = NormalDifferenceGradCAM(vae, "conv", posterior=READ, location=(1, 1))
    found = cam.fit([ToyVAE().images(3, seed=1)]).attribute(x, rectifier="none")
    features, gradients = features_and_gradients(
        lambda x: -vae.encode(x)[0][:, :, 1, 1].sum(1, keepdim=True), vae.conv, x
    )
    assert_equal(found, pooled_maps(features, gradients))


class TwoBranches(nn.Module):
    """Mean and log-variance from convolutions of their own."""

    def __init__(self):
        super().__init__()
        self.for_mean, self.for_spread = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1)
        self.fc_mu, self.fc_logvar = nn.Linear(108, D), nn.Linear(108, D)
        self.double().eval()

    def encode(self, x):
        return (
            self.fc_mu(self.for_mean(x).flatten(1)),
            self.fc_logvar(self.for_spread(x).flatten(1)),
        )


def test_a_layer_of_the_log_variance_alone_explains_it_and_not_the_mean():
    vae = TwoBranches()
    x = ToyVAE().images(2)
    features, gradients = features_and_gradients(lambda x: vae.encode(x)[1], vae.for_spread, x)
    options = {"posterior": READ}
    found = LatentGradCAM(vae, "for_spread", of="logvar", **options)
    assert_equal(found.attribute(x, rectifier="none"), pooled_maps(features, gradients))
    with pytest.raises(ValueError, match="not on the path"):
        LatentGradCAM(vae, "for_spread", **options).attribute(x)


@pytest.mark.parametrize("of", ["log_variance", "kl", "sample"])
def test_a_model_without_variance_is_told_so(of):
    vae = ToyVAE()
    cam = LatentGradCAM(lambda x: vae.encode(x)[0], vae.act2, of=of)
    with pytest.raises(ValueError, match=f"of='{of}' needs the posterior's log-variance"):
        cam.attribute(vae.images(2))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"of": "mu"}, ValueError, "of='mu' is not known; choose one of mean, log_variance"),
        ({"of": None}, TypeError, "of=None must be one of mean"),
        ({"of": lambda p: p.mean[0]}, ValueError, r"gave \(3,\) .* wanted .* \(2, T\)"),
        ({"of": lambda p: [p.mean]}, TypeError, "gave list; wanted a tensor"),
        ({"location": (1, 1)}, ValueError, r"location=\(1, 1\) needs a spatial latent"),
    ],
)
def test_a_quantity_that_does_not_fit_is_refused(options, error, words):
    vae = ToyVAE()
    with pytest.raises(error, match=words):
        LatentGradCAM(vae, "act2", posterior=READ, **options).attribute(vae.images(2))


def test_a_location_outside_the_latent_is_refused():
    cam = LatentGradCAM(SpatialVAE(), "conv", posterior=READ, location=(3, 0))
    with pytest.raises(ValueError, match=r"location=\(3, 0\) is not a position"):
        cam.attribute(ToyVAE().images(1))


def test_the_normal_difference_has_a_quantity_of_its_own():
    with pytest.raises(ValueError, match="of='kl'.*difference="):
        NormalDifferenceGradCAM(ToyVAE(), "act2", of="kl")


def test_the_repr_names_what_is_explained():
    vae = ToyVAE()
    assert "of='mean'" in repr(LatentGradCAM(vae, "act2"))
    assert "of='log_variance'" in repr(LatentGradCAM(vae, "act2", of="logvar"))
    assert "of='sample', seed=4" in repr(LatentGradCAM(vae, "act2", of="sample", seed=4))
    assert "of=signal_to_noise" in repr(LatentGradCAM(vae, "act2", of=signal_to_noise))
    spatial = LatentGradCAM(SpatialVAE(), "conv", posterior=PosteriorAdapter(SpatialVAE()), of="kl")
    assert "of='kl'" in repr(spatial)
    assert "location=(1, 2)" in repr(LatentGradCAM(vae, "act2", location=(1, 2)))
