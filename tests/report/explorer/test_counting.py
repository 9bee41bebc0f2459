import math

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_vae.metrics.localization.curves import threshold_counts
from captum_vae.metrics.localization.region_overlap import region_sizes
from captum_vae.report.explorer.counting import Counts, SummedCounts, Thresholds


def at_or_above(counts: Counts, threshold: float) -> tuple[int, int, float]:
    reached = counts.edges >= threshold
    return (
        int(counts.normal[reached].sum()),
        int(counts.anomalous[reached].sum()),
        float(counts.overlap[reached].sum()),
    )


def image(seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(24, 31, generator=generator, dtype=torch.float64).to(dtype)
    mask = torch.rand(24, 31, generator=generator) > 0.8
    return scores, mask


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_counts_are_those_of_comparing_every_pixel(dtype: torch.dtype) -> None:
    scores, mask = image(0, dtype)
    thresholds = Thresholds([0.123456789, -0.7, 1 / 3])
    counts = thresholds.count(scores, mask)
    exact = scores.double()
    offered = [e for e in counts.edges if abs(e) >= thresholds.least or e in (0.123456789,)]
    assert len(offered) > 200
    for threshold in offered:
        called = exact >= threshold
        normal, anomalous, _ = at_or_above(counts, threshold)
        assert normal == int((called & ~mask).sum())
        assert anomalous == int((called & mask).sum())


def test_a_named_threshold_is_exact_between_steps() -> None:
    scores = torch.tensor([[0.1, 0.3000001, 0.30000012, 0.9]])
    named = float(scores[0, 2])
    counts = Thresholds([named]).count(scores)
    assert at_or_above(counts, named)[0] == int((scores.double() >= named).sum()) == 2


def test_float64_is_not_rounded_over_a_threshold() -> None:
    just_below = 0.5 - 1e-12
    scores = torch.tensor([[just_below, 0.5]], dtype=torch.float64)
    counts = Thresholds().count(scores)
    assert at_or_above(counts, 0.5)[0] == 1


def test_tiny_scores_share_a_bin_and_cost_nothing_at_larger_thresholds() -> None:
    scores = 10.0 ** -torch.linspace(0, 37, 4000, dtype=torch.float64).reshape(40, 100).float()
    thresholds = Thresholds()
    counts = thresholds.count(scores)
    assert len(counts.edges) < 13 * 128 + 2
    for threshold in counts.edges[counts.edges >= thresholds.least]:
        assert at_or_above(counts, threshold)[0] == int((scores.double() >= threshold).sum())


def test_sums_over_images_are_exact_where_a_later_image_is_brighter() -> None:
    thresholds, summed, every = Thresholds(), SummedCounts(), []
    for seed, factor in enumerate((1e-6, 1e-3, 1.0)):
        scores, mask = image(seed)
        scores = scores.abs() * factor
        summed.add(thresholds.count(scores, mask))
        every.append((scores, mask))
    total = summed.total()
    offered = total.edges[np.abs(total.edges) >= thresholds.least]
    for threshold in offered[:: len(offered) // 50]:
        normal, anomalous, _ = at_or_above(total, threshold)
        assert normal == sum(int(((s >= threshold) & ~m).sum()) for s, m in every)
        assert anomalous == sum(int(((s >= threshold) & m).sum()) for s, m in every)


def test_recall_and_rate_are_points_of_the_exact_roc_curve() -> None:
    scores, mask = image(3)
    counts = Thresholds().count(scores, mask)
    exact = threshold_counts(scores, mask)
    for threshold in counts.edges[::40]:
        normal, anomalous, _ = at_or_above(counts, threshold)
        reached = int((exact.thresholds.double() >= threshold).sum())
        assert anomalous == (int(exact.true_positives[reached - 1]) if reached else 0)
        assert normal >= (int(exact.false_positives[reached - 1]) if reached else 0)


def test_overlap_is_the_mean_share_of_a_region() -> None:
    scores, mask = image(4)
    counts = Thresholds().count(scores, mask)
    sizes, regions = region_sizes(mask)
    assert counts.regions == regions
    for threshold in counts.edges[::60]:
        share = ((scores[mask].double() >= threshold) / sizes).sum() / regions
        assert at_or_above(counts, threshold)[2] / regions == pytest.approx(float(share))


def test_ignored_pixels_count_neither_way() -> None:
    scores, mask = image(5)
    ignored = torch.zeros_like(mask)
    ignored[:5] = True
    counts = Thresholds().count(scores, mask, ignored)
    assert counts.normal.sum() == int((~mask & ~ignored).sum())
    assert counts.anomalous.sum() == int((mask & ~ignored).sum())


def test_a_map_of_zeros_has_one_bin() -> None:
    counts = Thresholds().count(torch.zeros(4, 5))
    assert counts.edges.tolist() == [0.0]
    assert counts.normal.tolist() == [20]


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    thresholds, summed = Thresholds(), SummedCounts()
    for seed in range(600):
        summed.add(thresholds.count(image(seed % 7)[0]))
    held = sum(len(part.edges) for part in summed._parts)
    assert held < (1 << 17) + 2000
    assert summed.total().normal.sum() == 600 * 24 * 31
    assert math.isfinite(summed.total().edges.min())
