import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_vae.metrics.localization import counts as counts_module
from captum_vae.metrics.localization.counts import ScoreCounts, append_block, reverse_
from captum_vae.metrics.localization.keys import score_keys

SPECIAL = [-math.inf, -3.4e38, -1.0, -1e-45, -0.0, 0.0, 1e-45, 1e-38, 1.0, 3.4e38, math.inf]


NEIGHBOURS = [
    *(base + step * 1e-12 for base in (-2.0, 0.1, 1.0) for step in range(-3, 4)),
    *(0.0, 0.1, -1e300, 1e300, 1e-320, 3.5e38, 2.0**-140),
]
"""Some are float32, some share their nearest float32, some lie beyond all of them."""


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every path of the large ones is taken by a few thousand scores."""
    monkeypatch.setattr(counts_module, "_WAITING", 1500)
    monkeypatch.setattr(counts_module, "_BLOCK", 700)
    monkeypatch.setattr(counts_module, "_CHUNK", 64)
    monkeypatch.setattr(counts_module, "_PAIRS_WORTH_A_SLAB", 400)


def brute(scores: Tensor, queries: Tensor) -> tuple[list[int], list[int]]:
    below = [int((scores < query).sum()) for query in queries]
    return below, [int((scores == query).sum()) for query in queries]


def assert_counts(counts: ScoreCounts, scores: Tensor, queries: Tensor) -> None:
    queries = queries.float().unique()
    below, tied = counts.below_and_tied(score_keys(queries))
    assert (below.tolist(), tied.tolist()) == brute(scores.float(), queries)
    assert counts.total() == scores.numel()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(NEIGHBOURS), min_size=1, max_size=80),
    st.lists(st.sampled_from(NEIGHBOURS), min_size=1, max_size=20),
    st.lists(st.sampled_from([torch.float32, torch.float64]), min_size=3, max_size=3),
)
def test_float64_is_counted_exactly_beside_float32(
    scores: list[float], queries: list[float], dtypes: list[torch.dtype]
) -> None:
    counts, added = ScoreCounts(), []
    for part, dtype in zip(
        torch.tensor(scores, dtype=torch.float64).chunk(3), dtypes, strict=False
    ):
        part = part.clamp(-3e38, 3e38).to(dtype) if dtype == torch.float32 else part
        counts.add(part)
        added.append(part.double())
    asked = torch.tensor(queries, dtype=torch.float64).unique()
    below, tied = counts.below_and_tied(score_keys(asked))
    assert (below.tolist(), tied.tolist()) == brute(torch.cat(added), asked)
    for query in queries[:3]:
        assert counts.at_least(query) == int((torch.cat(added) >= query).sum())


def test_float64_pairs_are_merged_when_as_many_wait(small_sizes: None) -> None:
    values = 1 + torch.arange(300, dtype=torch.float64) * 1e-13
    counts = ScoreCounts()
    for _ in range(40):
        counts.add(values)
        assert sum(len(part) for part in counts.float64_keys) <= 300 + 1500 + 300
    assert counts.total() == 40 * 300
    _, tied = counts.below_and_tied(score_keys(values))
    assert tied.tolist() == [40] * 300


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_counted_exactly(dtype: torch.dtype) -> None:
    scores = torch.randn(500).to(dtype)
    counts = ScoreCounts()
    counts.add(scores)
    assert_counts(counts, scores, scores[:50])


def maps_without_ties(n: int) -> Tensor:
    return torch.randn(n)


def maps_with_heavy_ties(n: int) -> Tensor:
    return (torch.randn(n) * 4).round() / 4


def maps_in_one_factor_of_two(n: int) -> Tensor:
    return 0.5 + torch.randint(5000, (n,)) / 10000


@pytest.mark.parametrize(
    "draw", [maps_without_ties, maps_with_heavy_ties, maps_in_one_factor_of_two]
)
def test_many_small_additions_equal_brute_force(small_sizes: None, draw) -> None:
    scores = draw(20_000)
    counts = ScoreCounts()
    for part in scores.split(333):
        counts.add(part)
    assert_counts(counts, scores, torch.cat([draw(100), scores[:100], torch.tensor(SPECIAL)]))


def test_a_counter_that_overflows_its_byte_is_carried_over(small_sizes: None) -> None:
    values = 1 + torch.arange(600) / 1024
    scores = values.repeat(1000)  # the same 600 scores, 1,000 times each
    counts = ScoreCounts()
    for part in scores.split(6000):
        counts.add(part)
    assert counts.slabs, "meant to count in slabs"
    counts.compact()
    below, tied = counts.below_and_tied(score_keys(values))
    assert tied.tolist() == [1000] * 600
    assert below.tolist() == [1000 * index for index in range(600)]


def test_blocks_hold_what_was_appended(small_sizes: None) -> None:
    values = torch.arange(5000)
    parts: list[Tensor] = []
    for part in values.split([1, 0, 699, 3, 1500, 2797]):
        append_block(parts, part)
    assert torch.equal(torch.cat(parts), values)
    assert len(parts) == 8  # 5000 / 700, rounded up


def test_querying_changes_nothing(small_sizes: None) -> None:
    scores = torch.randn(5000)
    counts = ScoreCounts()
    for part in scores.split(500):
        counts.add(part)
    assert_counts(counts, scores, scores[:100])
    assert_counts(counts, scores, scores[:100])


def test_concatenated_states_are_added(small_sizes: None) -> None:
    scores = torch.randn(8000)
    halves = []
    for half in scores.chunk(2):
        counts = ScoreCounts()
        for part in half.split(500):
            counts.add(part)
        halves.append(counts)
    names = ("waiting", "keys", "counts", "binades", "slabs")
    both = ScoreCounts(*([torch.cat(sum((getattr(h, n) for h in halves), []))] for n in names))
    assert_counts(both, scores, scores[:100])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20),
)
def test_any_floats_equal_brute_force(scores: list[float], queries: list[float]) -> None:
    counts = ScoreCounts()
    counts.add(torch.tensor(scores, dtype=torch.float32))
    counts.compact()
    counts.add(torch.tensor(scores, dtype=torch.float32))
    doubled = torch.tensor(scores + scores, dtype=torch.float32)
    assert_counts(counts, doubled, torch.tensor(queries, dtype=torch.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.001, 0.995, 1.0])
def test_quantile_is_numpys_inverted_cdf(
    small_sizes: None, share: float, dtype: torch.dtype
) -> None:
    scores = torch.randn(4001, dtype=dtype)
    scores[::7] = scores[::7].float().to(dtype)
    counts = ScoreCounts()
    for part in scores.split(500):
        counts.add(part)
    assert counts.quantile(share) == np.quantile(scores.numpy(), share, method="inverted_cdf")


def test_quantile_of_scores_beyond_float32_is_one_of_them() -> None:
    counts = ScoreCounts()
    counts.add(torch.tensor([-1e300, 0.0, 1.0, 1e300], dtype=torch.float64))
    assert [counts.quantile(share) for share in (0.25, 0.5, 0.75, 1.0)] == [-1e300, 0, 1, 1e300]


def test_at_least_counts_scores_at_a_float64_threshold_between_two_float32() -> None:
    counts = ScoreCounts()
    counts.add(torch.tensor([0.1, 0.1, 0.2]))
    just_above = float(torch.tensor(0.1)) + 1e-12
    assert counts.at_least(float(torch.tensor(0.1))) == 3
    assert counts.at_least(just_above) == 1


def test_memory_does_not_grow_with_the_number_of_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slab holds one byte per float32 of a factor of two, however many scores fall into it."""
    monkeypatch.setattr(counts_module, "_WAITING", 1 << 20)
    counts = ScoreCounts()
    for _ in range(6):
        counts.add(1 + torch.rand(1 << 20))
    counts.compact()
    held = sum(part.numel() * part.element_size() for part in (*counts.keys, *counts.counts))
    assert len(counts.slabs) == 1
    assert held < 12 * counts.total() / 256


@pytest.mark.parametrize("length", [0, 1, 2, 7, 1 << 19, (1 << 19) + 1])
def test_reversing_in_place_equals_flip(length: int) -> None:
    values = torch.arange(length)
    assert torch.equal(reverse_(values.clone()), values.flip(0))
