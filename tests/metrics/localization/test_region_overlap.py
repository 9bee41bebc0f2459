import math
import sys

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from captum_vae.metrics import PixelMetrics, pro_curve, threshold_counts
from captum_vae.metrics.localization.region_overlap import region_sizes


def rectangles(images: int, size: int, seed: int) -> Tensor:
    """Masks with rectangles, some touching at corners; the last image is normal."""
    generator = np.random.default_rng(seed)
    masks = torch.zeros(images, size, size, dtype=torch.bool)
    for mask in masks[:-1]:
        for _ in range(3):
            top, left = generator.integers(0, size - 6, 2)
            height, width = generator.integers(1, 6, 2)
            mask[top : top + height, left : left + width] = True
    return masks


def direct_aupro(maps: Tensor, masks: Tensor, limit: float) -> float:
    """The definition, threshold by threshold over all distinct scores, with scipy's regions."""
    scores, truth = maps.numpy(), masks.numpy()
    regions = []
    for image, mask in enumerate(truth):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[image][labels == label] for label in range(1, count + 1)]
    normal = scores[~truth]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        rates.append(float((normal >= threshold).mean()))
        overlaps.append(float(np.mean([(region >= threshold).mean() for region in regions])))
    grid = np.array(rates)
    cut = np.searchsorted(grid, limit, side="right")
    x, y = grid[:cut], np.array(overlaps[:cut])
    if cut < len(grid):
        share = (limit - grid[cut - 1]) / (grid[cut] - grid[cut - 1])
        end = overlaps[cut - 1] + share * (overlaps[cut] - overlaps[cut - 1])
        x, y = np.append(x, limit), np.append(y, end)
    return float(np.trapezoid(y, x) / limit)


def aupro_of(maps: Tensor, masks: Tensor, limit: float = 0.3) -> float:
    metric = PixelMetrics(fpr_limit=limit)
    metric.update(maps, masks)
    return metric.compute().scores["aupro"].value


def maps_of(masks: Tensor, ties: bool) -> Tensor:
    maps = torch.rand(masks.shape) + 0.4 * masks
    return (maps * 6).round() / 6 if ties else maps


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_equals_a_direct_computation(ties: bool, limit: float) -> None:
    masks = rectangles(4, 24, seed=1)
    maps = maps_of(masks, ties)
    assert aupro_of(maps, masks, limit) == pytest.approx(direct_aupro(maps, masks, limit), abs=1e-6)


def test_aupro_of_a_constant_map_is_half_its_limit() -> None:
    """One threshold calls everything anomalous: PRO equals the false positive rate."""
    masks = rectangles(3, 16, seed=2)
    assert aupro_of(torch.full(masks.shape, 0.2), masks) == pytest.approx(0.15)


def test_a_perfect_map_has_aupro_one() -> None:
    masks = rectangles(3, 16, seed=3)
    assert aupro_of(masks.float(), masks) == pytest.approx(1.0)


@pytest.mark.parametrize("ties", [False, True])
def test_aupro_equals_anomalibs(ties: bool) -> None:
    aupro = pytest.importorskip("anomalib.metrics.aupro", reason="anomalib is not installed")
    masks = rectangles(6, 48, seed=4)
    maps = maps_of(masks, ties)
    metric = aupro._AUPRO(fpr_limit=0.3)
    metric.update(maps, masks.int())
    assert aupro_of(maps, masks) == pytest.approx(float(metric.compute()), abs=1e-3)
    assert "anomalib" in sys.modules


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], dtype=torch.bool)
    sizes, regions = region_sizes(mask)
    assert regions == 2
    assert sizes.tolist() == [2, 2, 2, 2]


def test_a_small_region_counts_as_much_as_a_large_one() -> None:
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:4, :5] = True  # 20 pixels
    mask[9, 9] = True
    maps = torch.zeros(10, 10)
    maps[9, 9] = 1.0  # only the one-pixel region is found
    metric = PixelMetrics()
    metric.update(maps[None], mask[None])
    _, overlap = pro_curve(metric.compute().counts)
    assert 0.5 in overlap.tolist()


def test_aupro_without_defects_is_nan_with_a_reason() -> None:
    metric = PixelMetrics()
    metric.update(torch.rand(2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.bool))
    score = metric.compute().scores["aupro"]
    assert math.isnan(score.value) and "no anomalous" in score.reason


def test_counts_without_regions_name_the_fix() -> None:
    counts = threshold_counts(torch.rand(4), torch.tensor([True, False, False, False]))
    with pytest.raises(ValueError, match="region"):
        pro_curve(counts)
