"""DCI and SAP on codes whose scores are known."""

import math

import numpy as np
import pytest
import torch

from captum_vae.metrics.disentanglement import dci_scores, sap_score
from captum_vae.metrics.disentanglement.prediction import _concentration


def independent_factors(rows: int = 3000) -> torch.Tensor:
    return torch.randint(0, 4, (rows, 2))


@pytest.mark.parametrize("trees", ["random_forest", "gradient_boosting"])
def test_codes_that_copy_the_factors_have_all_three_dci_scores_one(trees: str) -> None:
    factors = independent_factors()
    codes = torch.cat([factors.double(), torch.randn(3000, 1)], dim=1)
    scores = dci_scores(codes, factors, trees=trees)
    assert [score.value for score in scores] == pytest.approx([1, 1, 1], abs=0.01)
    assert [score.name for score in scores] == [
        "dci_disentanglement",
        "dci_completeness",
        "dci_informativeness",
    ]


def test_noise_predicts_at_chance() -> None:
    informativeness = dci_scores(torch.randn(6000, 3), independent_factors(6000))[2]
    assert informativeness.value == pytest.approx(0.25, abs=0.03)


def test_two_copies_of_each_factor_are_disentangled_but_incomplete() -> None:
    factors = independent_factors()
    noise = torch.randn(2, 3000, 2).double() * 0.3
    codes = torch.cat([factors + noise[0], factors + noise[1]], dim=1)
    disentanglement, completeness, _ = dci_scores(codes, factors)
    assert disentanglement.value > 0.7
    assert completeness.value < 0.6


def test_concentration_is_one_minus_the_weighted_entropy_computed_by_hand() -> None:
    importance = np.array([[3.0, 1.0], [0.0, 4.0], [0.0, 0.0]])
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    score = _concentration("x", importance, "factor", {})
    assert score.value == pytest.approx(((1 - entropy) * 4 + 1 * 4) / 8, abs=1e-12)


def test_dci_is_undefined_for_dead_codes_or_a_single_dimension_and_says_why() -> None:
    factors = independent_factors(300)
    dead = dci_scores(torch.zeros(300, 2), factors)
    assert math.isnan(dead[0].value) and "importance" in dead[0].reason
    single = dci_scores(factors[:, :1].double(), factors)
    assert math.isnan(single[1].value) and "single dimension" in single[1].reason


def test_sap_by_correlation_equals_numpys_correlation_coefficients() -> None:
    factors = torch.randint(0, 9, (500, 3))
    codes = factors.double() @ torch.randn(3, 4).double() + torch.randn(500, 4).double()
    table = np.corrcoef(codes.T.numpy(), factors.T.numpy())[:4, 4:] ** 2
    ranked = np.sort(table, axis=0)[::-1]
    score = sap_score(codes, factors, predictor="correlation")
    assert score.value == pytest.approx((ranked[0] - ranked[1]).mean(), abs=1e-12)


def test_sap_gaps_of_binary_factors_copied_by_one_dimension_are_half() -> None:
    # The dimension that copies a factor predicts it always, any other half the time.
    factors = torch.randint(0, 2, (6000, 2))
    score = sap_score(factors.double() * 2 - 1, factors)
    assert score.details["gaps"] == pytest.approx([0.5, 0.5], abs=0.05)


def test_the_same_seed_gives_the_same_dci_and_sap() -> None:
    factors, codes = independent_factors(300), torch.randn(300, 3)
    for metric in (
        lambda g: dci_scores(codes, factors, generator=g)[0].value,
        lambda g: sap_score(codes, factors, generator=g).value,
    ):
        runs = [metric(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
        assert runs[0] == runs[1] != runs[2]


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        sap_score(torch.randn(2, 1), torch.tensor([[0], [1]]))
