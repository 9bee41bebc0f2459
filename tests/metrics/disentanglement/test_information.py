"""MIG and modularity against their definitions and hand-made tables."""

import math

import numpy as np
import pytest
import torch

from captum_vae.metrics.disentanglement import mig_score, modularity_score
from captum_vae.metrics.disentanglement.information import binned, mutual_information

# Two binary factors, each combination once, and codes that copy them.
GRID = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])


def information(a: np.ndarray, b: np.ndarray) -> float:
    """The sum over all pairs of values of p(a, b) log(p(a, b) / (p(a) p(b))), in nats."""
    total = 0.0
    for value in set(a.tolist()):
        for other in set(b.tolist()):
            joint = float(((a == value) & (b == other)).mean())
            if joint:
                total += joint * math.log(joint / ((a == value).mean() * (b == other).mean()))
    return total


def test_mutual_information_equals_its_definition() -> None:
    first, second = torch.randint(0, 7, (500, 3)), torch.randint(0, 5, (500, 2))
    first[:, 1] = second[:, 0] * 2 + first[:, 1] % 2
    expected = [[information(a, b) for b in second.T.numpy()] for a in first.T.numpy()]
    assert np.allclose(mutual_information(first, second).numpy(), expected, atol=1e-12)


def test_bins_are_equally_wide_and_end_at_the_smallest_and_the_largest_code() -> None:
    codes = torch.stack([torch.linspace(-1, 3, 41), torch.full((41,), 1.5)], dim=1).double()
    found = binned(codes, 4)
    assert found[:, 0].bincount().tolist() == [10, 10, 10, 11]
    assert found[:, 1].unique().numel() == 1


def test_mig_equals_its_formula() -> None:
    factors = torch.randint(0, 6, (2000, 3))
    codes = factors.double() @ torch.randn(3, 5).double() + torch.randn(2000, 5).double()
    columns = [np.digitize(c, np.histogram(c, 20)[1][1:-1]) for c in codes.T.numpy()]
    gaps = []
    for factor in factors.T.numpy():
        ranked = sorted((information(column, factor) for column in columns), reverse=True)
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
