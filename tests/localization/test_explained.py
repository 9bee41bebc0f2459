"""Features against what a linear latent explains of them, and under one covariance."""

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from torch.nn import functional as F

from captum_vae.localization import (
    ConstantMap,
    FeatureDifference,
    LatentAttention,
    Mahalanobis,
    ReconstructionError,
    model_pass,
)
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.model_pass import ModelPass
from captum_vae.localization.scoring import fit_scorers
from captum_vae.models import LinearFeatureVAE
from tests.attr.toys import SIDE, ToyVAE, assert_equal, features_and_gradients

DIMS = 2
FOLDS = (range(0, 4), range(4, 8), range(8, 12))


@pytest.fixture
def vae():
    return ToyVAE()


@pytest.fixture
def normal(vae):
    return vae.images(12, seed=1)


@pytest.fixture
def images(vae):
    return vae.images(4, seed=2)


def conv2(vae, images):
    return features_and_gradients(lambda x: vae.encode(x)[0], vae.conv2, images)[0].detach()


def explained_by_pca(train, features):
    """Probabilistic PCA by scikit-learn: shrunk towards the mean by 1 - noise / variance."""
    pca = PCA(DIMS, svd_solver="full").fit(train.flatten(1).numpy())
    width, count = train[0].numel(), len(train)
    # scikit-learn divides by N - 1, the maximum of the likelihood by N.
    values = pca.explained_variance_ * (count - 1) / count
    total = train.flatten(1).numpy().var(0).sum()
    noise = (total - values.sum()) / (width - DIMS)
    codes = pca.transform(features.flatten(1).numpy()) * (1 - noise / values)
    return torch.from_numpy(codes @ pca.components_ + pca.mean_).reshape(features.shape)


def residuals(vae, normal, images):
    """(held out residuals of the normal images, residuals of the images), by scikit-learn."""
    train, test = conv2(vae, normal), conv2(vae, images)
    scale = train.std((0, 2, 3), correction=0).reshape(-1, 1, 1)
    train, test = train / scale, test / scale
    held_out = torch.empty_like(train)
    for fold in FOLDS:
        others = [place for place in range(12) if place not in fold]
        held_out[list(fold)] = train[list(fold)] - explained_by_pca(
            train[others], train[list(fold)]
        )
    return held_out * scale, (test - explained_by_pca(train, test)) * scale


def upsampled(maps):
    return F.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]


@pytest.mark.parametrize("distance", ["l1", "l2", "mahalanobis"])
def test_the_unexplained_is_measured_on_the_scale_of_held_out_residuals(
    vae, normal, images, distance
):
    held_out, residual = residuals(vae, normal, images)
    scale = held_out.square().mean((0, 2, 3)).sqrt().reshape(-1, 1, 1)
    if distance == "l1":
        wanted = (residual / scale).abs().mean(1)
    elif distance == "l2":
        wanted = (residual / scale).square().mean(1).sqrt()
    else:
        vectors = held_out.transpose(0, 1).flatten(1).T.numpy()
        precision = np.linalg.inv(vectors.T @ vectors / len(vectors))
        wanted = (
            torch.einsum("nkhw,kl,nlhw->nhw", residual, torch.from_numpy(precision), residual)
            .div(residual.shape[1])
            .sqrt()
        )
    scorer = FeatureDifference(
        vae, "conv2", baselines="explained", distance=distance, latent_dim=DIMS
    )
    assert_equal(scorer.fit(normal.split(5)).score(images).double(), upsampled(wanted), 1e-4)


@pytest.mark.parametrize("baselines", ["explained", "mean_activation"])
def test_l2_or_mahalanobis_is_the_larger_of_both_on_the_scale_of_normal_images(
    vae, normal, images, baselines
):
    def fitted(distance):
        scorer = FeatureDifference(
            vae,
            "conv2",
            baselines=baselines,
            distance=distance,
            channel_scale="normal",
            latent_dim=DIMS,
        )
        return scorer.fit(normal.split(5))

    # Either distance has root mean square 1 over normal images: the residuals left out are
    # scaled, or whitened, by their own second moments.
    together = fitted("l2_or_mahalanobis")
    shared = ModelPass(images, vae, together.adapter, together.layers)
    lengths, whitened = (fitted(d)._distances(shared, "conv2") for d in ("l2", "mahalanobis"))
    wanted = lengths.maximum(whitened)[:, 0]
    assert (lengths > whitened).any() and (lengths < whitened).any()
    assert_equal(together.score(images), upsampled(wanted), 1e-4)
    assert together._part_scales["conv2"].flatten().tolist() == pytest.approx([1, 1], abs=1e-3)


def test_mahalanobis_is_scikit_learns_under_one_covariance_and_a_mean_for_each_place(
    vae, normal, images
):
    train, test = conv2(vae, normal), conv2(vae, images)
    mean = train.mean(0)
    rows = (train - mean).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    covariance = EmpiricalCovariance(assume_centered=True).fit(rows)
    squared = covariance.mahalanobis((test - mean).permute(0, 2, 3, 1).flatten(0, 2).numpy())
    wanted = torch.from_numpy(squared / rows.shape[1]).sqrt().reshape(4, *test.shape[2:])
    scorer = Mahalanobis(vae, "conv2").fit(normal.split(5))
    assert_equal(scorer.score(images).double(), upsampled(wanted), 1e-4)


def test_features_beyond_the_memory_are_computed_again_with_the_same_result(
    vae, normal, images, monkeypatch
):
    def score():
        scorer = FeatureDifference(vae, "conv2", baselines="explained", latent_dim=DIMS)
        return scorer.fit(normal.split(5)).score(images)

    kept = score()
    monkeypatch.setattr(model_pass, "_FEATURES_KEPT", 0)
    assert_equal(score(), kept, 1e-6)


def test_scorers_of_the_explained_fitted_together_equal_those_fitted_alone(vae, normal, images):
    def make():
        options = {"baselines": "explained", "latent_dim": DIMS}
        return [
            FeatureDifference(vae, ["conv1", "conv2"], distance="l2", **options),
            FeatureDifference(vae, "conv2", distance="l2", scale="location", **options),
            Mahalanobis(vae, "conv2", **options),
            LatentAttention(vae, "conv2", rectifier="abs", order="channelwise", **options),
        ]

    batches = list(normal.split(5))
    together = make()
    fit_scorers(together, ImageBatches(batches, "normal"), "fitting")
    for one, other in zip(together, make(), strict=True):
        assert_equal(one.score(images), other.fit(batches).score(images), 1e-12)


def test_attention_to_the_unexplained_is_weights_times_the_residual(vae, normal, images):
    _, residual = residuals(vae, normal, images)
    gradients = features_and_gradients(lambda x: vae.encode(x)[0], vae.conv2, images)[1]
    weights = gradients.mean((3, 4), keepdim=True)
    wanted = upsampled((weights * residual[:, None]).abs().sum(2).mean(1))
    scorer = LatentAttention(
        vae,
        "conv2",
        rectifier="abs",
        order="channelwise",
        baselines="explained",
        latent_dim=DIMS,
    )
    assert_equal(scorer.fit(normal.split(5)).score(images), wanted, 1e-4)


def test_shuffled_weights_are_those_of_other_channels(vae, normal, images):
    features, gradients = features_and_gradients(
        lambda x: vae.encode(x)[0], vae.conv2, torch.cat([images, normal])
    )
    difference = (features - features[4:].mean(0))[:4]
    weights = gradients.mean((3, 4), keepdim=True)[:4]
    order = torch.randperm(weights.shape[2], generator=torch.Generator().manual_seed(3))
    wanted = upsampled((weights * difference[:, None, order]).abs().sum(2).mean(1))
    options = {"rectifier": "abs", "order": "channelwise", "baselines": "mean_activation"}
    shuffled = LatentAttention(vae, "conv2", weights="shuffled", seed=3, **options)
    straight = LatentAttention(vae, "conv2", **options)
    fit_scorers([straight, shuffled], ImageBatches([normal], "normal"), "fitting")
    assert_equal(shuffled.score(images), wanted)
    assert not torch.allclose(straight.score(images), wanted)


def test_the_constant_map_is_the_standard_deviation_of_normal_pixels(vae, normal, images):
    wanted = torch.from_numpy(normal.numpy().var(0).mean(0)).sqrt()
    maps = ConstantMap(vae).fit(normal.split(5)).score(images)
    assert all(torch.allclose(one, wanted) for one in maps)


@pytest.fixture(scope="module")
def linear():
    generator = torch.Generator().manual_seed(0)
    normal = torch.rand(14, 3, 64, 64, generator=generator)
    return LinearFeatureVAE.fit("test_resnet", normal, 3, layers=["layer1", "layer2"]), normal


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_a_vae_of_features_explains_them_by_its_own_latent_layer_by_layer(linear, distance):
    vae, normal = linear
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    scorer = FeatureDifference(vae, "features", baselines="explained", distance=distance)
    with torch.no_grad():
        features = vae.features(images)
        residual = (features - vae.explained(features)) / scorer.fit(normal)._channel_scales[
            "features"
        ]
        parts = vae.features.by_layer(residual)
        norms = [p.abs().mean(1) if distance == "l1" else p.square().mean(1).sqrt() for p in parts]
    scales = scorer._part_scales["features"].flatten()
    wanted = sum(norm / scale for norm, scale in zip(norms, scales, strict=True)) / 2
    wanted = F.interpolate(wanted[:, None], (64, 64), mode="bilinear", align_corners=False)[:, 0]
    assert_equal(scorer.score(images), wanted, 1e-5)
    assert not any("explained" in name for name in scorer.state_dict())


def test_held_out_residuals_are_larger_than_those_of_the_images_fitted_on(linear):
    vae, normal = linear
    scorer = FeatureDifference(vae, "features", baselines="explained", distance="l2").fit(normal)
    with torch.no_grad():
        features = vae.features(normal)
        inside = (features - vae.explained(features)).square().mean((0, 2, 3)).sqrt()
    assert (scorer._channel_scales["features"].flatten() > inside).double().mean() > 0.9


def test_too_few_normal_images_to_leave_some_out_are_refused(vae, images):
    with pytest.raises(ValueError, match="on 4 normal images.*wanted at least 9"):
        FeatureDifference(vae, "conv2", baselines="explained").fit(images)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda vae: FeatureDifference(vae, "conv2", distance="l3"), "distance='l3'"),
        (lambda vae: FeatureDifference(vae, "conv2", channel_scale="all"), "channel_scale='all'"),
        (lambda vae: Mahalanobis(vae, "conv2", baselines="none"), "no difference"),
        (lambda vae: LatentAttention(vae, "conv2", weights="random"), "weights='random'"),
        (lambda vae: FeatureDifference(vae, "conv2", latent_dim=0), "latent_dim=0"),
    ],
)
def test_wrong_options_are_refused_by_name(vae, make, message):
    with pytest.raises(ValueError, match=message):
        make(vae)


def test_normal_images_without_variation_have_no_covariance(vae, images):
    with pytest.raises(ValueError, match="no covariance"):
        Mahalanobis(vae, "conv2").fit(images[:1].repeat(4, 1, 1, 1))


def test_a_constant_map_of_another_size_is_refused(vae, normal):
    scorer = ConstantMap(vae).fit(normal)
    with pytest.raises(ValueError, match=r"images are \(4, 4\).*wanted one size"):
        scorer.score(torch.zeros(1, 2, 4, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="call fit"):
        FeatureDifference(vae, "conv2", baselines="explained").score(normal)
    assert isinstance(ReconstructionError(vae).state_dict(), dict)
