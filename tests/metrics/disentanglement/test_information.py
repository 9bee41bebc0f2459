"""MIG and modularity against scikit-learn's mutual information and hand-made tables."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from captum_vae.metrics.disentanglement import mig_score, modularity_score
from captum_vae.metrics.disentanglement.information import binned, mutual_information

# Two binary factors, each combination once, and codes that copy them.
GRID = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])


def test_mutual_information_equals_scikit_learns() -> None:
    first, second = torch.randint(0, 7, (500, 3)), torch.randint(0, 5, (500, 2))
    first[:, 1] = second[:, 0] * 2 + first[:, 1] % 2
    expected = [[mutual_info_score(a, b) for b in second.T] for a in first.T]
    assert np.allclose(mutual_information(first, second).numpy(), expected, atol=1e-12)


def test_binning_equals_numpy_histogram_and_digitize() -> None:
    codes = torch.randn(1000, 3).double()
    codes[:, 2] = 1.5
    for dimension in (0, 1):
        column = codes[:, dimension].numpy()
        expected = np.digitize(column, np.histogram(column, 20)[1][1:-1])
        assert np.array_equal(binned(codes, 20)[:, dimension].numpy(), expected)
    assert binned(codes, 20)[:, 2].unique().numel() == 1


def test_mig_equals_its_formula_with_scikit_learns_information() -> None:
    factors = torch.randint(0, 6, (2000, 3))
    codes = factors.double() @ torch.randn(3, 5).double() + torch.randn(2000, 5).double()
    columns = [np.digitize(c, np.histogram(c, 20)[1][1:-1]) for c in codes.T.numpy()]
    gaps = []
    for factor in factors.T.numpy():
        ranked = sorted((mutual_info_score(column, factor) for column in columns), reverse=True)
        share = np.bincount(factor) / len(factor)
        gaps.append((ranked[0] - ranked[1]) / -(share * np.log(share)).sum())
    score = mig_score(codes, factors)
    assert score.value == pytest.approx(np.mean(gaps), abs=1e-10)
    assert score.details["gaps"] == pytest.approx(gaps, abs=1e-10)


def test_codes_that_copy_the_factors_have_mig_and_modularity_one() -> None:
    assert mig_score(GRID.double(), GRID).value == pytest.approx(1, abs=1e-12)
    assert modularity_score(GRID.double(), GRID).value == pytest.approx(1, abs=1e-12)


def test_two_copies_of_a_factor_close_its_gap() -> None:
    codes = torch.stack([GRID[:, 0], -GRID[:, 0], GRID[:, 1]], dim=1).double()
    score = mig_score(codes, GRID)
    assert score.details["gaps"] == pytest.approx([0, 1], abs=1e-12)
    assert score.value == pytest.approx(0.5, abs=1e-12)


def test_a_single_dimension_has_its_whole_information_as_gap() -> None:
    score = mig_score(GRID[:, :1].double(), GRID)
    assert score.details["gaps"] == pytest.approx([1, 0], abs=1e-12)


def test_a_dimension_that_mixes_two_factors_equally_has_modularity_zero() -> None:
    # The code a + b knows as much about a as about b.
    assert modularity_score(GRID.sum(1, keepdim=True).double(), GRID).value == pytest.approx(0)


def test_modularity_is_the_hand_computed_mean_with_a_dead_dimension_counting_zero() -> None:
    codes = torch.stack([GRID[:, 0], GRID.sum(1), torch.zeros(4)], dim=1).double()
    assert modularity_score(codes, GRID).details["per_dimension"] == pytest.approx([1, 0, 0])
    assert modularity_score(codes, GRID).value == pytest.approx(1 / 3)


def test_modularity_is_undefined_for_one_factor_or_dead_codes_and_says_why() -> None:
    single = modularity_score(GRID.double(), GRID[:, :1])
    dead = modularity_score(torch.zeros(4, 2), GRID)
    assert math.isnan(single.value) and "single factor" in single.reason
    assert math.isnan(dead.value) and "no dimension has information" in dead.reason
    assert mig_score(torch.zeros(4, 2), GRID).value == 0


def test_too_few_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="bins is 1"):
        mig_score(GRID.double(), GRID, bins=1)
