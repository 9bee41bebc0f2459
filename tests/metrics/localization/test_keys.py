"""Integer keys of scores, against the order of the floats themselves."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_vae.metrics.localization.keys import (
    float32_at_least,
    float64_keys,
    key_scores,
    nearest_float32,
    score_keys,
)

SPECIAL = [-math.inf, -3.4e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1e-38, 1.0, 3.4e38, math.inf]


def test_keys_of_float32_keep_the_order_and_give_the_scores_back() -> None:
    scores = torch.tensor(SPECIAL)
    keys = score_keys(scores)
    ordered = [int(key) for key in keys]
    assert ordered == sorted(ordered)
    assert ordered[4] == ordered[5]  # -0 and 0 are tied
    assert torch.equal(key_scores(keys), scores + 0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=30))
def test_keys_of_float64_keep_order_and_ties_and_give_the_scores_back(values: list[float]) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    keys = score_keys(scores)
    assert torch.equal(keys[:-1] < keys[1:], scores[:-1] < scores[1:])
    assert torch.equal(keys[:-1] == keys[1:], scores[:-1] == scores[1:])
    assert torch.equal(key_scores(keys), scores + 0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
def test_rounding_up_gives_the_smallest_float32_that_is_not_below(values: list[float]) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    keys = float32_at_least(score_keys(scores))
    assert (key_scores(keys).double() >= scores).all()
    # Key -1 is -0, which no score has: below 0 comes the key -2.
    below = key_scores((keys - 1 - (keys == 0).to(torch.int32)).clamp(min=-0x7F800001)).double()
    assert ((below < scores) | scores.isneginf()).all()


def test_float32_scores_have_one_key_in_float64_whichever_way_it_is_reached() -> None:
    scores = torch.randn(1000)
    assert torch.equal(float64_keys(score_keys(scores)), score_keys(scores.double()))
    assert torch.equal(nearest_float32(score_keys(scores.double())), score_keys(scores))
