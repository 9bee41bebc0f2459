"""FactorVAE and beta-VAE scores: known values, and a transcription on the same draws."""

import numpy as np
import pytest
import torch

from captum_vae.data.dsprites_factors import sample_classes
from captum_vae.metrics.disentanglement import (
    VOTE_PROTOCOLS,
    VoteProtocol,
    beta_vae_score,
    factor_vae_score,
    used_dimensions,
)
from captum_vae.metrics.disentanglement.votes import draw_rows, draw_votes

FEW = VoteProtocol(samples=50, training_votes=300, evaluation_votes=300)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perfect_codes(factors: torch.Tensor) -> torch.Tensor:
    codes = factors.double()
    return (codes - codes.mean(0)) / codes.std(0)


def transcribed_factor_vae(
    codes: np.ndarray, training: tuple, evaluation: tuple, std_threshold: float
) -> tuple[float, float]:
    """Kim and Mnih's algorithm, one vote at a time; draws are (factor, rows) arrays."""
    global_std = codes.std(axis=0, ddof=1)
    alive = [d for d in range(codes.shape[1]) if global_std[d] >= std_threshold]

    def vote(rows: np.ndarray) -> int:
        normalised = [np.var(codes[rows, d] / global_std[d], ddof=1) for d in alive]
        return alive[int(np.argmin(normalised))]

    table: dict[int, list[int]] = {}
    for factor, rows in zip(*training, strict=True):
        table.setdefault(vote(rows), []).append(int(factor))
    classifier = {d: int(np.bincount(named).argmax()) for d, named in table.items()}

    def accuracy(votes: tuple) -> float:
        hits = [
            classifier.get(vote(rows), 0) == factor for factor, rows in zip(*votes, strict=True)
        ]
        return float(np.mean(hits))

    return accuracy(training), accuracy(evaluation)


@pytest.mark.parametrize("name", sorted(VOTE_PROTOCOLS))
def test_a_perfect_code_scores_one_under_every_protocol(name: str) -> None:
    factors = sample_classes(20_000)
    score = factor_vae_score(perfect_codes(factors), factors, protocol=name)
    assert score.value == 1
    assert score.details["training_accuracy"] == 1
    assert score.details["predicted_factor"] == [0, 1, 2, 3, 4]


def test_a_permuted_flipped_and_stretched_perfect_code_still_scores_one() -> None:
    factors = sample_classes(20_000)
    codes = perfect_codes(factors)[:, [3, 1, 4, 0, 2]] * torch.tensor([-1, 5, 0.3, 2, -9])
    score = factor_vae_score(codes, factors, protocol=FEW)
    assert score.value == 1
    assert score.details["predicted_factor"] == [3, 1, 4, 0, 2]


def test_noise_scores_at_chance() -> None:
    # A dimension named at random predicts one of five factors: 0.2, here +- 4 standard errors.
    factors = sample_classes(20_000)
    score = factor_vae_score(torch.randn(20_000, 10), factors, protocol="dlib")
    assert score.value == pytest.approx(0.2, abs=4 * (0.16 / 5000) ** 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_transcription_of_the_algorithm_on_the_same_draws(seed: int) -> None:
    factors = sample_classes(10_000, generator=seeded(seed))
    mixing = torch.randn(5, 8, generator=seeded(seed + 10)).double()
    noise = torch.randn(10_000, 8, generator=seeded(seed + 20)).double()
    codes = perfect_codes(factors) @ mixing + 0.5 * noise
    codes[:, 2] *= 0.001
    score = factor_vae_score(codes, factors, protocol=FEW, generator=seeded(7))
    draws = seeded(7)
    training, evaluation = (draw_votes(factors, 300, 50, draws) for _ in range(2))
    expected = transcribed_factor_vae(
        codes.numpy(),
        (training.factor.numpy(), training.rows.numpy()),
        (evaluation.factor.numpy(), evaluation.rows.numpy()),
        std_threshold=0.05,
    )
    assert (score.details["training_accuracy"], score.value) == pytest.approx(expected, abs=1e-12)
    assert 0.2 < score.value < 1  # neither chance nor perfect, or the comparison shows little


def test_a_collapsed_dimension_that_gives_a_factor_away_is_pruned() -> None:
    # Dimension 0 copies the shape at a hundredth of a standard deviation: steadiest, yet collapsed.
    factors = sample_classes(10_000)
    codes = perfect_codes(factors)
    codes[:, 0] *= 0.01
    score = factor_vae_score(codes, factors, protocol=FEW)
    assert score.details["used_dimensions"] == [1, 2, 3, 4]
    assert score.value < 0.95


def test_constant_dimensions_are_pruned_even_where_their_kl_says_used() -> None:
    factors = sample_classes(10_000)
    codes = torch.cat([perfect_codes(factors), torch.ones(10_000, 2).double()], dim=1)
    score = factor_vae_score(codes, factors, protocol=FEW, kl=torch.ones(7))
    assert score.details["used_dimensions"] == [0, 1, 2, 3, 4]
    assert score.value == 1


def test_kl_decides_which_dimensions_are_used_where_given() -> None:
    codes = torch.tensor([[0.0, 0], [0.001, 5]])
    assert used_dimensions(codes).tolist() == [False, True]
    assert used_dimensions(codes, kl=torch.tensor([0.02, 0.01])).tolist() == [True, False]
    with pytest.raises(ValueError, match=r"\(3,\); wanted \(2,\)"):
        used_dimensions(codes, kl=torch.ones(3))


def test_a_collapsed_posterior_scores_zero_and_says_why() -> None:
    factors = sample_classes(1000)
    score = factor_vae_score(0.001 * torch.randn(1000, 4), factors)
    assert (score.value, score.details["training_accuracy"]) == (0, 0)
    assert "no latent dimension is used" in score.reason


def test_the_same_seed_gives_the_same_score() -> None:
    factors, codes = sample_classes(5000), torch.randn(5000, 6)
    scores = [factor_vae_score(codes, factors, generator=seeded(s)).value for s in (1, 1, 2, 3)]
    assert scores[0] == scores[1] and len(set(scores)) > 1


def test_rows_of_a_vote_share_the_value_of_its_factor_and_vary_in_the_others() -> None:
    factors = sample_classes(20_000)
    votes = draw_votes(factors, 200, 50)
    for factor, rows in zip(votes.factor.tolist(), votes.rows, strict=True):
        distinct = [len(set(column)) for column in factors[rows].T.tolist()]
        assert distinct[factor] == 1
        assert all(count > 1 for other, count in enumerate(distinct) if other != factor)


def test_values_of_the_fixed_factor_are_drawn_uniformly_even_where_they_are_unbalanced() -> None:
    factors = torch.tensor([[0]] * 90 + [[7]] * 10)
    rows = draw_rows(factors, torch.zeros(4000, dtype=torch.int64), 1)
    assert (factors[rows[:, 0], 0] == 7).double().mean() == pytest.approx(0.5, abs=0.04)


def test_beta_vae_scores_one_on_a_perfect_code_and_chance_on_noise() -> None:
    factors = sample_classes(20_000)
    assert beta_vae_score(perfect_codes(factors), factors).value == 1
    noise = beta_vae_score(torch.randn(20_000, 5), factors, protocol=VoteProtocol(20, 2000, 4000))
    assert noise.value == pytest.approx(0.2, abs=0.03)


def test_beta_vae_is_blind_to_rotated_axes() -> None:
    # Kim and Mnih's complaint: a linear classifier does not need the factors on separate axes.
    factors = torch.randint(0, 32, (20_000, 2))
    angle = torch.tensor(0.6)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]]).double()
    codes = perfect_codes(factors) @ turn
    assert beta_vae_score(codes, factors).value > 0.95
