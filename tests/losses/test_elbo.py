"""The ELBO's terms against torch.distributions, closed forms worked by hand, and autograd."""

import math

import pytest
import torch
from torch import distributions as dist

from captum_vae.losses import (
    ELBO,
    bernoulli_nll,
    free_bits,
    gaussian_nll,
    kl_per_dimension,
    linear_warmup,
    optimal_gaussian_nll,
)


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64)


def test_bernoulli_is_the_summed_log_probability_of_each_image() -> None:
    p, x = images(3, 1, 4, 5), (images(3, 1, 4, 5) > 0.5).double()
    expected = -dist.Bernoulli(probs=p).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(p, x), expected)


def test_bernoulli_of_a_grey_pixel_by_hand() -> None:
    value = bernoulli_nll(torch.tensor([[0.5]]), torch.tensor([[0.3]]))
    assert value.item() == pytest.approx(math.log(2))


def test_bernoulli_from_logits_equals_from_probabilities() -> None:
    logits, x = torch.randn(2, 1, 3, 3, dtype=torch.float64), images(2, 1, 3, 3)
    torch.testing.assert_close(
        bernoulli_nll(logits, x, scale="logits"), bernoulli_nll(logits.sigmoid(), x)
    )


def test_bernoulli_runs_under_autocast_in_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = bernoulli_nll(torch.full((2, 4), 0.5).bfloat16(), torch.zeros(2, 4))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, torch.full((2,), 4 * math.log(2)))


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_bernoulli_names_the_argument_outside_the_unit_interval(value: float) -> None:
    with pytest.raises(ValueError, match=r"target must lie in \[0, 1\]"):
        bernoulli_nll(torch.full((1, 2), 0.5), torch.full((1, 2), value))


def test_fixed_variance_gaussian_is_the_summed_log_probability() -> None:
    mean, x = images(3, 2, 4), images(3, 2, 4)
    expected = -dist.Normal(mean, math.sqrt(0.25)).log_prob(x).sum((1, 2))
    torch.testing.assert_close(gaussian_nll(mean, x, variance=0.25), expected)


def test_optimal_gaussian_is_the_log_probability_at_the_batch_mse() -> None:
    mean, x = images(3, 2, 4), images(3, 2, 4)
    sigma = (mean - x).square().mean().sqrt()
    expected = -dist.Normal(mean, sigma).log_prob(x).sum((1, 2))
    torch.testing.assert_close(optimal_gaussian_nll(mean, x), expected)


def test_no_fixed_variance_beats_the_optimal_one() -> None:
    mean, x = images(3, 8), images(3, 8)
    best = optimal_gaussian_nll(mean, x).sum()
    for variance in (0.01, 0.05, 0.1, 0.2, 1.0):
        assert best <= gaussian_nll(mean, x, variance=variance).sum()


def test_optimal_gaussian_has_the_gradient_of_half_n_log_mse() -> None:
    mean, x = images(3, 1, 2, 4).requires_grad_(), images(3, 1, 2, 4)
    (ours,) = torch.autograd.grad(optimal_gaussian_nll(mean, x).mean(), mean)
    (formula,) = torch.autograd.grad(8 / 2 * (mean - x).square().mean().log(), mean)
    torch.testing.assert_close(ours, formula)


def test_perfect_reconstruction_stays_finite() -> None:
    x = images(2, 4).requires_grad_()
    optimal_gaussian_nll(x, x.detach()).mean().backward()
    assert x.grad is not None and x.grad.isfinite().all()


def test_kl_is_that_of_torch_distributions_per_dimension() -> None:
    mean, log_variance = torch.randn(2, 5, 3, dtype=torch.float64)
    posterior = dist.Normal(mean, (0.5 * log_variance).exp())
    expected = dist.kl_divergence(posterior, dist.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_per_dimension(mean, log_variance), expected)


def test_kl_of_a_spatial_latent_sums_positions() -> None:
    mean = torch.zeros(1, 2, 3, 3)
    mean[0, 1] = 2.0
    torch.testing.assert_close(
        kl_per_dimension(mean, torch.zeros_like(mean)), torch.tensor([[0.0, 9 * 2.0]])
    )


def test_free_bits_hold_the_batch_mean_of_a_dimension_at_the_floor() -> None:
    kl = torch.tensor([[0.0, 3.0], [0.2, 1.0]])
    torch.testing.assert_close(free_bits(kl, 0.5), torch.tensor([0.5, 2.0]))


def test_free_bits_give_no_gradient_below_the_floor() -> None:
    kl = torch.tensor([[0.1, 3.0]], requires_grad=True)
    free_bits(kl, 0.5).sum().backward()
    assert kl.grad is not None
    assert kl.grad.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("step", "warmup_steps", "weight"), [(0, 10, 0.0), (5, 10, 0.5), (99, 10, 1.0), (0, 0, 1.0)]
)
def test_warmup_is_linear_then_one(step: int, warmup_steps: int, weight: float) -> None:
    assert linear_warmup(step, warmup_steps) == weight


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "optimal_gaussian"])
def test_elbo_adds_the_likelihood_and_the_weighted_kl(likelihood: str) -> None:
    recon, x = images(4, 1, 3, 3), images(4, 1, 3, 3)
    mean, log_variance = torch.randn(2, 4, 5, dtype=torch.float64)
    terms = ELBO(likelihood, beta=3.0, warmup_steps=10)(recon, x, mean, log_variance, step=5)
    kl = kl_per_dimension(mean, log_variance).sum(1).mean()
    torch.testing.assert_close(terms["kl"], kl)
    torch.testing.assert_close(terms["loss"], terms["nll"] + 1.5 * kl)


def test_elbo_without_a_step_is_past_the_warmup() -> None:
    x, latent = images(1, 2), torch.ones(1, 2)
    assert ELBO(warmup_steps=10)(x, x, latent, latent)["beta"] == 1


def test_unknown_likelihood_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="likelihood='poisson' is not .*optimal_gaussian"):
        ELBO("poisson")  # type: ignore[arg-type]


def test_shapes_that_differ_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        gaussian_nll(torch.zeros(1, 2), torch.zeros(1, 3))
