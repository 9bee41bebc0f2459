"""LinearLatent: against scikit-learn's PCA, dense linear algebra, and what is known by hand."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from captum_vae.models import LinearLatent, fit_linear_latent

SHAPE = (6, 4, 4)


def correlated(count: int, dims: int = 5, *, shape=SHAPE, noise: float = 1.0) -> torch.Tensor:
    """Features of ``dims`` directions of falling variance on top of noise of variance one."""
    width = int(np.prod(shape))
    directions = torch.linalg.qr(torch.randn(width, dims, dtype=torch.float64))[0].T
    scales = torch.linspace(12, 6, dims, dtype=torch.float64)
    codes = torch.randn(count, dims, dtype=torch.float64) * scales
    flat = codes @ directions + noise * torch.randn(count, width, dtype=torch.float64) + 3
    return flat.reshape(count, *shape)


@pytest.fixture
def features() -> torch.Tensor:
    return correlated(150)


@pytest.fixture
def few_rows(monkeypatch) -> None:
    monkeypatch.setattr("captum_vae.models.linear_latent.MOST_ROWS", 60)


def test_the_parameters_are_scikit_learns_up_to_the_sign_and_the_count(features):
    latent = fit_linear_latent(features.split(32), 5)
    flat = features.flatten(1).numpy()
    pca = PCA(5).fit(flat)
    np.testing.assert_allclose(latent.mean.flatten(), pca.mean_, rtol=1e-12)
    maximum_likelihood = (len(flat) - 1) / len(flat)
    np.testing.assert_allclose(
        latent.eigenvalues, pca.explained_variance_ * maximum_likelihood, rtol=1e-12
    )
    np.testing.assert_allclose(latent.noise, pca.noise_variance_ * maximum_likelihood, rtol=1e-12)
    products = latent.directions.numpy() @ pca.components_.T
    np.testing.assert_allclose(np.abs(products), np.eye(5), atol=1e-10)


def test_the_posterior_is_that_of_the_gaussian_model(features):
    latent = fit_linear_latent([features], 5)
    loadings = latent.directions.T * (latent.eigenvalues - latent.noise).sqrt()
    precision = loadings.T @ loadings / latent.noise + torch.eye(5, dtype=torch.float64)
    difference = (features - latent.mean).flatten(1)
    mean, variance = latent.encode(features)
    expected = torch.linalg.solve(precision, (difference @ loadings / latent.noise).T).T
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(variance[0].diag(), torch.linalg.inv(precision))
    assert variance.shape == mean.shape == (150, 5)


def test_what_is_explained_is_decoded_from_the_posterior_mean(features):
    latent = fit_linear_latent([features], 3)
    difference = (features - latent.mean).flatten(1)
    shrinkage = 1 - latent.noise / latent.eigenvalues
    expected = difference @ latent.directions.T @ (shrinkage[:, None] * latent.directions)
    explained = latent.explained(features)
    torch.testing.assert_close((explained - latent.mean).flatten(1), expected)
    torch.testing.assert_close(latent.decode(latent.encode(features)[0]), explained)
    torch.testing.assert_close(latent(features)[0], explained)


def test_batches_of_any_size_give_the_same_fit(features):
    whole = fit_linear_latent([features], 4)
    for size in (1, 7, 149):
        parts = fit_linear_latent(features.split(size), 4)
        torch.testing.assert_close(parts.explained(features), whole.explained(features))


def test_auto_finds_the_number_of_directions_that_vary_together():
    for dims in (1, 3, 8):
        assert fit_linear_latent(correlated(150, dims).split(32)).latent_dims == dims


def test_auto_finds_it_where_there_are_far_more_features_than_images():
    many = correlated(40, 4, shape=(20000,), noise=0.02).float()
    assert fit_linear_latent(many.split(16)).latent_dims == 4


def test_features_beyond_memory_give_the_exact_optimum_where_the_axes_hold_all_of_it(few_rows):
    features = correlated(500, shape=(30,))
    latent = fit_linear_latent(features.split(32), 5)
    pca = PCA(5).fit(features.numpy())
    np.testing.assert_allclose(latent.eigenvalues, pca.explained_variance_ * 499 / 500, rtol=1e-10)
    products = latent.directions.numpy() @ pca.components_.T
    np.testing.assert_allclose(np.abs(products), np.eye(5), atol=1e-8)


def test_features_beyond_memory_nearly_give_the_exact_optimum_elsewhere(features, few_rows):
    features = correlated(500)
    latent = fit_linear_latent(features.split(32), 5)
    flat = features.flatten(1).numpy()
    pca = PCA(5).fit(flat)
    np.testing.assert_allclose(latent.eigenvalues, pca.explained_variance_ * 499 / 500, rtol=1e-3)
    overlap = np.linalg.svd(latent.directions.numpy() @ pca.components_.T)[1]
    assert overlap.min() > 0.999
    total = flat.var(0).sum()
    noise = (total - float(latent.eigenvalues.sum())) / (flat.shape[1] - 5)
    assert float(latent.noise) == pytest.approx(noise, rel=1e-12)


def test_auto_beyond_memory_goes_through_the_batches_twice(few_rows):
    features = correlated(500)

    class Counting:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter(features.split(32))

    batches = Counting()
    latent = fit_linear_latent(batches)
    assert latent.latent_dims == 5
    assert batches.passes == 2
    torch.testing.assert_close(
        latent.explained(features), fit_linear_latent(features.split(32), 5).explained(features)
    )
    with pytest.raises(TypeError, match="pass a list or a DataLoader"):
        fit_linear_latent(iter(features.split(32)))


def test_a_generator_is_enough_where_one_pass_is(features):
    latent = fit_linear_latent(part for part in features.split(32))
    assert latent.latent_dims == 5


def test_single_precision_features_give_orthonormal_directions_of_small_eigenvalues():
    spread = torch.logspace(0, -2.5, 30)[:, None] * torch.randn(30, 5000)
    features = (torch.randn(60, 30) @ spread + 1e-3 * torch.randn(60, 5000)).split(16)
    latent = fit_linear_latent(features, 30)
    products = latent.directions.double() @ latent.directions.double().T
    assert latent.directions.dtype == torch.float32
    torch.testing.assert_close(products, torch.eye(30, dtype=torch.float64), atol=1e-6, rtol=0)


def test_half_precision_features_are_fitted_in_single_precision(features):
    latent = fit_linear_latent([features.bfloat16()], 5)
    assert latent.mean.dtype == torch.float32
    assert bool((latent.eigenvalues > 1).all())


def test_a_state_dict_and_a_config_that_went_through_json_rebuild_it(features):
    latent = fit_linear_latent([features], 3)
    twin = LinearLatent(**json.loads(json.dumps(latent.config))).double()
    twin.load_state_dict(latent.state_dict())
    assert torch.equal(twin.explained(features), latent.explained(features))
    other = LinearLatent.from_state_dict(latent.state_dict())
    assert torch.equal(other.explained(features), latent.explained(features))
    assert other.config == latent.config


def test_digits_are_explained_as_well_as_by_scikit_learn():
    images = torch.from_numpy(load_digits().images).float()[:, None]
    latent = fit_linear_latent(images.split(100), 10)
    pca = PCA(10).fit(load_digits().data)
    expected = pca.inverse_transform(pca.transform(load_digits().data))
    residual = float((images - latent.explained(images)).square().sum())
    # The posterior mean shrinks, so it explains slightly less than the projection.
    projected = float(np.square(load_digits().data - expected).sum())
    assert projected < residual < 1.02 * projected


@pytest.mark.parametrize(
    ("batches", "options", "error", "words"),
    [
        ([], {}, ValueError, "batches hold 0 images"),
        ([torch.rand(2, 3)], {}, ValueError, "batches hold 2 images"),
        ([torch.ones(9, 3, 2, 2)], {}, ValueError, "are the same"),
        ([torch.rand(9, 3), torch.rand(9, 4)], {}, ValueError, "batch 1 has features of shape"),
        ([torch.full((9, 3), torch.nan)], {}, ValueError, "batch 0 has features that are not"),
        ([torch.ones(9, 3, dtype=torch.int64)], {}, TypeError, "batch 0 holds torch.int64"),
        ([(torch.rand(9, 3), 1)], {}, TypeError, "batch 0 is a tuple"),
        ([torch.rand(9)], {}, ValueError, "batch 0 has shape"),
        ([torch.rand(9, 30)], {"latent_dim": 8}, ValueError, "at most 7"),
        ([torch.rand(90, 5)], {"latent_dim": 5}, ValueError, "at most 4"),
        ([torch.rand(9, 30)], {"latent_dim": 0}, ValueError, "latent_dim=0"),
        ([torch.rand(9, 30)], {"latent_dim": "all"}, TypeError, 'or "auto"'),
        ([torch.rand(4, 30).repeat(4, 1)], {"latent_dim": 5}, ValueError, "no more than"),
        ([torch.rand(9, 30)], {"memory_gb": 1e-7}, ValueError, "memory_gb"),
        ([torch.rand(90, 300)], {"latent_dim": 20, "memory_gb": 3e-5}, ValueError, "too small"),
        ([torch.rand(9, 30)], {"memory_gb": 0}, ValueError, "memory_gb=0"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_name(batches, options, error, words):
    with pytest.raises(error, match=words):
        fit_linear_latent(batches, **options)


def test_features_of_another_shape_and_states_of_something_else_are_refused(features):
    latent = fit_linear_latent([features], 3)
    with pytest.raises(ValueError, match=r"features have shape .* wanted \(B, 6, 4, 4\)"):
        latent.encode(features[:, :5])
    with pytest.raises(ValueError, match=r"wanted \(B, 3\)"):
        latent.decode(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="none of a LinearLatent"):
        LinearLatent.from_state_dict({"mean": latent.mean})
