"""The measurement of promises on images kept out: rates over seeds, features computed once."""

import pytest
import torch

from benchmarks.detector_unseen import Outcome, Remembered, over_seeds


def test_a_rate_is_pooled_over_seeds_and_its_interval_resamples_units_whole():
    runs = [
        [Outcome("a", True, False, 0.5), Outcome("a", True, False, 0.1)],
        [Outcome("a", True, False, 0.1), Outcome("b", False, False, 0.1)],
    ]
    found = over_seeds(runs, "beyond")
    assert found["seen"] == 3 / 4
    assert (found["smallest_of_seeds"], found["largest_of_seeds"]) == (1 / 2, 1)
    # Both units drawn, or one of them twice.
    assert (found["low"], found["high"]) == (0, 1)
    assert over_seeds(runs, "anomalous")["high"] == 0
    assert over_seeds(runs, "share")["seen"] == pytest.approx(0.2)


def test_features_of_an_image_are_computed_once_and_stay_with_it():
    seen = []

    def double(images):
        seen.append(len(images))
        return 2 * images

    remembered = Remembered(double)
    first, second = torch.rand(3, 1, 2, 2), torch.rand(2, 1, 2, 2)
    assert torch.equal(remembered(first), 2 * first)
    mixed = torch.cat([second[:1], first[1:2], second[1:]])
    assert torch.equal(remembered(mixed), 2 * mixed)
    assert torch.equal(remembered(first.flip(0)), 2 * first.flip(0)) and seen == [3, 2]
