"""FactorVAE's terms against hand numbers, cross-entropy, and a Gaussian whose TC is known."""

import math

import pytest
import torch
from torch.nn import functional as F

from captum_vae.losses import discriminator_loss, permute_dims, total_correlation


def test_permuting_keeps_the_values_of_every_dimension() -> None:
    z = torch.randn(50, 4)
    torch.testing.assert_close(permute_dims(z).sort(0).values, z.sort(0).values)


def test_permuting_is_independent_between_dimensions() -> None:
    z = torch.arange(4000.0)[:, None].repeat(1, 2)
    permuted = permute_dims(z)
    assert torch.corrcoef(permuted.T)[0, 1].abs() < 0.08  # 5 / sqrt(4000)


def test_permuting_follows_the_generator() -> None:
    z = torch.randn(20, 3)
    first, second = (permute_dims(z, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)


def test_total_correlation_is_the_mean_difference_of_the_two_logits() -> None:
    output = torch.tensor([[2.0, 1.0], [0.0, -3.0]])
    assert total_correlation(output) == 2.0
    assert total_correlation(output[:, :1] - output[:, 1:]) == 2.0


def test_optimal_discriminator_recovers_the_total_correlation_of_a_gaussian() -> None:
    rho = 0.8
    covariance = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    joint = torch.distributions.MultivariateNormal(torch.zeros(2).double(), covariance)
    z = joint.sample((200_000,))
    independent = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    estimate = total_correlation(joint.log_prob(z) - independent)
    assert estimate.item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.01)


def test_discriminator_loss_is_the_cross_entropy_of_algorithm_2() -> None:
    joint, permuted = torch.randn(2, 6, 2, dtype=torch.float64)
    expected = 0.5 * (
        F.cross_entropy(joint, torch.zeros(6, dtype=torch.long))
        + F.cross_entropy(permuted, torch.ones(6, dtype=torch.long))
    )
    torch.testing.assert_close(discriminator_loss(joint, permuted), expected)


def test_undecided_discriminator_loses_log_two() -> None:
    assert discriminator_loss(torch.zeros(3), torch.zeros(3)).item() == pytest.approx(math.log(2))


def test_spatial_latent_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match="flatten a spatial latent"):
        permute_dims(torch.zeros(2, 3, 4, 4))


def test_discriminator_output_of_three_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        total_correlation(torch.zeros(2, 3))
