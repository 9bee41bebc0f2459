import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from captum_vae.posterior import Posterior, posterior_of_latent


def latent(*shape):
    return torch.randn(*shape, dtype=torch.float64), torch.randn(*shape, dtype=torch.float64)


def test_kl_equals_torch_distributions():
    mean, log_variance = latent(3, 4)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(Posterior(mean, log_variance, (4,)).kl(), expected)


def test_kl_of_a_spatial_latent_sums_over_the_positions_of_each_channel():
    mean, log_variance = latent(2, 3, 4, 5)
    elementwise = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    kl = posterior_of_latent(mean, log_variance).kl()
    torch.testing.assert_close(kl, elementwise.sum((2, 3)))


def test_kl_and_sample_without_log_variance_say_what_is_missing():
    posterior = Posterior(torch.zeros(2, 3), None, (3,))
    with pytest.raises(ValueError, match=r"kl\(\) needs the posterior's log-variance"):
        posterior.kl()
    with pytest.raises(ValueError, match=r"sample\(\) needs the posterior's log-variance"):
        posterior.sample()


def test_a_seeded_sample_does_not_depend_on_the_place_in_the_batch():
    mean, log_variance = latent(5, 4)
    whole = Posterior(mean, log_variance, (4,)).sample(seed=3)
    last = Posterior(mean[4:], log_variance[4:], (4,)).sample(seed=3)
    assert torch.equal(whole[4:], last)


def test_samples_from_a_generator_have_the_posteriors_moments():
    mean = torch.full((40_000, 1), 2.0)
    posterior = Posterior(mean, torch.full_like(mean, math.log(9.0)), (1,))
    z = posterior.sample(generator=torch.Generator().manual_seed(0))
    # standard errors: 3 / 200 = 0.015 and about 3 / 283 = 0.011
    assert abs(z.mean() - 2.0) < 0.06
    assert abs(z.std() - 3.0) < 0.05


def test_a_seed_and_a_generator_together_are_refused():
    with pytest.raises(ValueError, match="not both"):
        Posterior(*latent(2, 3), (3,)).sample(seed=1, generator=torch.Generator())


def test_a_sample_carries_gradients_to_mean_and_log_variance():
    mean, log_variance = (part.requires_grad_() for part in latent(2, 3))
    z = Posterior(mean, log_variance, (3,)).sample(seed=0)
    to_mean, to_log_variance = torch.autograd.grad(z.sum(), (mean, log_variance))
    assert torch.equal(to_mean, torch.ones_like(mean))
    torch.testing.assert_close(to_log_variance, 0.5 * (z - mean).detach())


def test_the_spatial_mean_has_the_law_of_the_averaged_latent():
    mean, log_variance = latent(2, 3, 4, 5)
    posterior = posterior_of_latent(mean, log_variance)
    torch.testing.assert_close(posterior.mean, mean.mean((2, 3)))
    variance = log_variance.exp().sum((2, 3)) / 20**2  # of a mean of 20 independent variables
    torch.testing.assert_close(posterior.log_variance, variance.log())
    assert posterior.latent_shape == (3, 4, 5)


def test_flatten_makes_each_element_a_dimension():
    mean, log_variance = latent(2, 3, 4, 5)
    posterior = posterior_of_latent(mean, log_variance, spatial="flatten")
    assert torch.equal(posterior.mean[:, 1 * 20 + 2 * 5 + 3], mean[:, 1, 2, 3])
    assert posterior.log_variance.shape == (2, 60)


def test_one_position_is_read_from_mean_and_log_variance():
    mean, log_variance = latent(2, 3, 4, 5)
    posterior = posterior_of_latent(mean, log_variance, spatial=(3, 0))
    assert torch.equal(posterior.mean, mean[:, :, 3, 0])
    assert torch.equal(posterior.log_variance, log_variance[:, :, 3, 0])


@pytest.mark.parametrize("position", [(4, 0), (0,), (0, -6)])
def test_a_position_outside_the_latent_is_refused(position):
    with pytest.raises(ValueError, match="not a position of the latent"):
        posterior_of_latent(torch.zeros(2, 3, 4, 5), None, spatial=position)


def test_a_position_of_a_latent_without_positions_is_refused():
    with pytest.raises(ValueError, match="has no positions"):
        posterior_of_latent(torch.zeros(2, 3), None, spatial=(0, 0))


def test_a_latent_of_one_position_keeps_its_values():
    mean, log_variance = latent(2, 3, 1, 1)
    posterior = posterior_of_latent(mean, log_variance)
    assert torch.equal(posterior.mean, mean[:, :, 0, 0])
    torch.testing.assert_close(posterior.log_variance, log_variance[:, :, 0, 0])
    assert posterior.latent_shape == (3, 1, 1)
