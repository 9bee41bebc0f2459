"""Scorers against transcriptions of their formulas on a small VAE in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_vae.attr import LatentGradCAM, MeanActivation, MeanSumGradCAM, NormalDifferenceGradCAM
from captum_vae.localization import (
    AnomalyScorer,
    ConstantMap,
    ELBOGradient,
    FeatureDifference,
    GradientProjection,
    LatentAttention,
    Mahalanobis,
    MeanImageDifference,
    ReconstructionError,
)
from captum_vae.localization.model_pass import ModelPass
from captum_vae.localization.scoring import score_batch, sharing_a_pass
from captum_vae.models import ConvVAE
from tests.attr.toys import SIDE, ToyVAE, assert_equal, features_and_gradients


@pytest.fixture
def vae():
    return ToyVAE()


@pytest.fixture
def normal(vae):
    return list(vae.images(12, seed=1).split(5))


@pytest.fixture
def images(vae):
    return vae.images(4, seed=2)


ALL = {
    "attention": lambda vae: LatentAttention(
        vae, "act2", rectifier="abs", order="channelwise", baselines="mean_activation"
    ),
    "attention_fused": lambda vae: LatentAttention(
        vae, ["conv1", "conv2"], rectifier="abs", baselines="reconstruction"
    ),
    "attention_integrated": lambda vae: LatentAttention(
        vae, "conv1", rectifier="abs", weighting="integrated", baselines="mean_image"
    ),
    "normal_difference": lambda vae: LatentAttention(
        vae, "conv2", method="normal_difference", difference="mahalanobis", rectifier="abs"
    ),
    "control": lambda vae: FeatureDifference(vae, "conv2"),
    "control_fused": lambda vae: FeatureDifference(
        vae, ["conv1", "conv2"], baselines="reconstruction"
    ),
    "unexplained": lambda vae: FeatureDifference(
        vae, ["conv1", "conv2"], baselines="explained", distance="l2", latent_dim=2
    ),
    "attention_unexplained": lambda vae: LatentAttention(
        vae, "conv2", rectifier="abs", baselines="explained", latent_dim=2, weights="shuffled"
    ),
    "mahalanobis": lambda vae: Mahalanobis(vae, "conv2"),
    "constant": lambda vae: ConstantMap(vae),
    "reconstruction": lambda vae: ReconstructionError(vae),
    "mean_image": lambda vae: MeanImageDifference(vae, distance="absolute"),
    "elbo": lambda vae: ELBOGradient(vae),
    "projection": lambda vae: GradientProjection(vae, steps=3, step_size=0.01),
}


@pytest.fixture(params=ALL)
def scorer(request, vae, normal):
    return ALL[request.param](vae).fit(normal)


def test_every_scorer_gives_one_finite_map_per_image_at_the_images_size(scorer, images):
    maps = scorer.score(images)
    assert maps.shape == (4, SIDE, SIDE)
    assert torch.isfinite(maps).all() and not maps.requires_grad
    assert isinstance(scorer, AnomalyScorer)


def test_a_map_does_not_depend_on_its_batch_mates(scorer, images):
    together = scorer.score(images)
    for index in range(len(images)):
        assert_equal(scorer.score(images[index : index + 1]), together[index : index + 1], 1e-9)


def test_scoring_twice_gives_the_same_maps_to_the_bit(scorer, images):
    assert torch.equal(scorer.score(images), scorer.score(images))


def test_maps_from_a_pass_shared_with_others_equal_those_from_the_scorers_own(scorer, vae, images):
    shared = ModelPass(images, vae, scorer.adapter, ["conv1", "act2", "conv2"])
    assert_equal(scorer.score_pass(shared), scorer.score(images), 1e-12)


def test_a_state_restores_a_scorer_of_the_same_options_to_the_bit(request, scorer, vae, images):
    restored = ALL[request.node.callspec.params["scorer"]](vae)
    restored.load_state_dict(scorer.state_dict())
    assert torch.equal(restored.score(images), scorer.score(images))


def test_a_state_with_what_a_scorer_does_not_learn_is_refused(vae, normal):
    state = ALL["control"](vae).fit(normal).state_dict()
    with pytest.raises(ValueError, match="normal_features.conv2.*does not learn"):
        ALL["mean_image"](vae).load_state_dict(state)
    with pytest.raises(ValueError, match="of layers .'conv1'.*does not learn"):
        FeatureDifference(vae, "conv1").load_state_dict(state)


def test_scoring_under_no_grad_changes_nothing(scorer, images):
    wanted = scorer.score(images)
    with torch.no_grad():
        assert torch.equal(scorer.score(images), wanted)


@pytest.mark.parametrize("weighting", ["pooled", "elementwise"])
@pytest.mark.parametrize("layer", ["conv1", "act2"])
def test_latent_attention_is_the_mean_rectified_map_of_weights_times_the_feature_difference(
    vae, normal, images, layer, weighting
):
    module = vae.get_submodule(layer)
    features, gradients = features_and_gradients(lambda x: vae.encode(x)[0], module, images)
    everything = torch.cat(normal)
    mean = features_and_gradients(lambda x: vae.encode(x)[0], module, everything)[0].mean(0)
    if weighting == "pooled":
        gradients = gradients.mean((3, 4), keepdim=True)
    maps = (gradients * (features - mean)[:, None]).abs().sum(2).mean(1, keepdim=True)
    wanted = F.interpolate(maps, (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]

    scorer = LatentAttention(
        vae,
        layer,
        rectifier="abs",
        order="channelwise",
        weighting=weighting,
        baselines="mean_activation",
    )
    assert_equal(scorer.fit(normal).score(images), wanted)


@pytest.mark.parametrize("weighting", ["pooled", "elementwise", "integrated"])
@pytest.mark.parametrize("baselines", ["none", "reconstruction", "mean_activation", "mean_image"])
@pytest.mark.parametrize("method", ["per_dimension", "mean_sum", "normal_difference"])
def test_latent_attention_equals_the_attribution_class_of_the_same_options(
    vae, normal, images, method, baselines, weighting
):
    kind = {
        "per_dimension": LatentGradCAM,
        "mean_sum": MeanSumGradCAM,
        "normal_difference": NormalDifferenceGradCAM,
    }[method]
    cam = kind(vae, vae.conv2)
    if method == "normal_difference":
        cam.fit(normal)
    given = {
        "none": None,
        "reconstruction": "reconstruction",
        "mean_activation": MeanActivation().fit(cam, normal),
        "mean_image": torch.cat(normal).mean(0, keepdim=True),
    }[baselines]
    wanted = cam.attribute(
        images,
        rectifier="abs",
        weighting=weighting,
        aggregate="mean",
        baselines=given,
        size="input",
        n_steps=4,
    )[:, 0]

    scorer = LatentAttention(
        vae, "conv2", method=method, rectifier="abs", weighting=weighting, baselines=baselines
    )
    assert_equal(scorer.fit(normal).score(images), wanted)


def test_the_paper_preset_is_the_published_map_without_a_baseline(vae, images):
    wanted = LatentGradCAM(vae, vae.conv2).attribute(images, aggregate="mean", size="input")[:, 0]
    assert_equal(LatentAttention(vae, "conv2").fit(images).score(images), wanted)


def test_fused_layers_weigh_alike_on_the_scale_of_normal_images(vae, normal, images):
    options = {"rectifier": "abs", "baselines": "reconstruction"}
    everything = torch.cat(normal)
    wanted = torch.zeros_like(images[:, 0])
    for layer in ("conv1", "conv2"):
        single = LatentAttention(vae, layer, **options).fit(normal)
        scale = single.score(everything).square().mean().sqrt()
        wanted += single.score(images) / scale / 2
    fused = LatentAttention(vae, ["conv1", "conv2"], **options).fit(normal)
    assert_equal(fused.score(images), wanted)


def test_the_control_is_the_mean_feature_difference_and_knows_no_latent(vae, normal, images):
    def features(x):
        return features_and_gradients(lambda y: vae.encode(y)[0], vae.conv2, x)[0]

    wanted = (features(images) - features(vae(images)[0].detach())).abs().mean(1, keepdim=True)
    wanted = F.interpolate(wanted, (SIDE, SIDE), mode="bilinear")[:, 0]
    control = FeatureDifference(vae, "conv2", baselines="reconstruction").fit(normal)
    before = control.score(images)
    # The control runs in float32: what it compares needs no more.
    assert_equal(before.double(), wanted, 1e-6)
    nn.init.normal_(vae.fc_logvar.weight)
    assert torch.equal(control.score(images), before)


def test_reconstruction_error_is_the_channel_mean_of_the_squared_difference(vae, normal, images):
    wanted = (images - vae(images)[0]).detach().square().mean(1)
    assert_equal(ReconstructionError(vae).fit(normal).score(images), wanted)


def test_mean_image_difference_compares_with_the_mean_over_all_batches(vae, normal, images):
    wanted = (images - torch.cat(normal).mean(0)).abs().mean(1)
    scorer = MeanImageDifference(vae, distance="absolute").fit(normal)
    assert_equal(scorer.score(images), wanted, 1e-12)


def test_elbo_gradient_equals_autograd_of_the_transcribed_elbo(vae, normal, images):
    everything = torch.cat(normal)
    variance = (everything - vae(everything)[0]).square().mean().detach()
    x = images.clone().requires_grad_()
    reconstruction, mu, logvar = vae(x)
    negative_elbo = ((x - reconstruction) ** 2).sum() / (2 * variance) - 0.5 * (
        1 + logvar - mu**2 - logvar.exp()
    ).sum()
    negative_elbo.backward()
    assert_equal(ELBOGradient(vae).fit(normal).score(images), x.grad.abs().mean(1), 1e-9)


def test_gradient_projection_takes_the_transcribed_steps(vae, normal, images):
    start = images.clamp(0, 1)
    x = start.clone()
    for _ in range(3):
        x.requires_grad_()
        energy = ((x - vae(x)[0]) ** 2).sum() + 0.05 * (x - start).abs().sum()
        (gradient,) = torch.autograd.grad(energy, x)
        x = (x - 0.01 * gradient * (x - vae(x)[0]) ** 2).detach().clamp(0, 1)
    scorer = GradientProjection(vae, steps=3, step_size=0.01).fit(normal)
    assert_equal(scorer.score(start), (start - x).square().mean(1), 1e-9)


def test_gradient_projection_lowers_the_energy(vae, images):
    images = images.clamp(0, 1)
    scorer = GradientProjection(vae, steps=20, step_size=0.05, sparsity=0.0)
    moved = scorer.project(images)
    assert (moved - vae(moved)[0]).square().sum() < (images - vae(images)[0]).square().sum()


def test_logits_are_compared_as_intensities():
    vae = ConvVAE(4, image_size=8, channels=(3,), hidden=None, output="logits").eval()
    images = torch.rand(2, 1, 8, 8)
    wanted = (images - torch.sigmoid(vae(images)[0])).square().mean(1).detach()
    torch.testing.assert_close(ReconstructionError(vae).fit(images).score(images), wanted)


def test_a_model_is_left_as_it_was(vae, normal, images):
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    for make in ALL.values():
        make(vae).fit(normal).score(images)
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())
    assert all(p.grad is None for p in vae.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in vae.modules())


def test_scoring_before_fitting_says_so(vae, images):
    for make in (ALL["attention"], ALL["attention_fused"], ALL["mean_image"], ALL["elbo"]):
        with pytest.raises(ValueError, match="call fit"):
            make(vae).score(images)


def test_an_iterator_of_normal_images_is_refused_since_it_can_be_read_only_once(vae, normal):
    with pytest.raises(TypeError, match="pass a list of batches"):
        ALL["mean_image"](vae).fit(iter(normal))


def test_no_normal_images_are_refused(vae):
    for make in (ALL["attention"], ALL["mean_image"], ALL["elbo"]):
        with pytest.raises(ValueError, match="normal is empty"):
            make(vae).fit([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda vae: LatentAttention(vae, "conv9"), "conv9.*its layers are"),
        (lambda vae: LatentAttention(vae, []), "empty"),
        (lambda vae: LatentAttention(vae, "conv2", method="both"), "method='both'"),
        (lambda vae: LatentAttention(vae, "conv2", baselines="zero"), "baselines='zero'"),
        (lambda vae: LatentAttention(vae, "conv2", aggregate="none"), "one map per image"),
        (lambda vae: FeatureDifference(vae, "conv2", baselines="none"), "no difference"),
        (lambda vae: ReconstructionError(vae, distance="cosine"), "distance='cosine'"),
        (lambda vae: ELBOGradient(vae, likelihood="laplace"), "likelihood='laplace'"),
        (lambda vae: GradientProjection(vae, steps=0), "steps=0"),
    ],
)
def test_wrong_options_are_refused_by_name(vae, make, message):
    with pytest.raises(ValueError, match=message):
        make(vae)


def test_one_image_without_its_batch_axis_is_refused(vae):
    with pytest.raises(
        ValueError, match=r"images has shape \(1, 8, 8\).*wanted floating point \(B, C, H, W\)"
    ):
        ReconstructionError(vae).score(torch.zeros(1, 8, 8))


@pytest.mark.parametrize("readings", [("encode:[0],[1]", "encode:[1],[0]"), (None, "encode:[1]")])
def test_scorers_that_read_the_posterior_differently_share_nothing(vae, normal, images, readings):
    scorers = [LatentAttention(vae, "conv2", posterior=words) for words in readings]
    alone = [scorer.fit(normal).score(images) for scorer in scorers]
    assert not torch.allclose(*alone)
    together = [maps for _, maps, _ in score_batch(scorers, images)]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_scorers_that_ask_for_the_same_reading_share_a_pass(vae):
    scorers = [LatentAttention(vae, layer) for layer in ("conv1", "conv2")]
    assert [len(group) for group in sharing_a_pass(scorers).values()] == [2]
