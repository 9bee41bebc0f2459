import math

import pytest
import torch
from torch import Tensor

from captum_vae.metrics import (
    PixelMetrics,
    auroc,
    bootstrap_interval,
    bootstrap_intervals,
    paired_difference,
    threshold_counts,
)
from captum_vae.metrics.localization import units as units_module
from captum_vae.metrics.localization.bootstrap import BOOTSTRAP_METRICS, draw_units
from captum_vae.metrics.localization.units import UnitTable, unit_id


def images(count: int = 20, size: int = 32, shift: float = 0.4) -> tuple[Tensor, Tensor]:
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    masks[: count // 2, 3:12, 4:16] = True
    maps = torch.randn(count, size, size, generator=torch.Generator().manual_seed(1))
    maps = maps + shift * masks * torch.linspace(0, 4, count).view(-1, 1, 1)
    return maps, masks


def measured(maps: Tensor, masks: Tensor, names: list[str] | None = None, **options):
    metric = PixelMetrics(units="images", **options)
    metric.update(maps, masks, names or [str(index) for index in range(len(maps))])
    return metric.compute()


def table_of(maps: Tensor, masks: Tensor, names: list[str] | None = None) -> UnitTable:
    return measured(maps, masks, names).units


def test_the_table_counts_every_pixel_of_every_image() -> None:
    maps, masks = images()
    table = table_of(maps, masks)
    order = [table.units.tolist().index(unit_id(str(index))) for index in range(len(maps))]
    assert torch.equal(table.positives.sum(1)[order], masks.sum((1, 2)))
    assert torch.equal(table.negatives.sum(1)[order], (~masks).sum((1, 2)))
    assert table.overlap.sum(1)[order].tolist() == pytest.approx([1.0] * 10 + [0.0] * 10)


@pytest.mark.parametrize("metric", BOOTSTRAP_METRICS)
def test_the_grid_costs_little(metric: str) -> None:
    result = measured(*images())
    interval = bootstrap_interval(result.units, metric, resamples=10)
    assert interval.grid_value == pytest.approx(result.scores[metric].value, abs=3e-3)


def test_the_interval_moves_by_what_the_grid_costs() -> None:
    maps, masks = images()
    result = measured(1 - maps.sigmoid() * 1e-4, masks)
    exact = result.scores["auroc"].value
    plain = bootstrap_interval(result.units)
    moved = bootstrap_interval(result.units, value=exact)
    assert abs(plain.grid_value - exact) > 0.01
    assert moved.low < exact < moved.high
    shift = exact - plain.grid_value
    assert moved.low - plain.low == pytest.approx(shift)
    assert moved.high - plain.high == pytest.approx(shift)


@pytest.mark.parametrize("spread", [1e-5, 1e-7, 1e-9, 1e-12])
def test_scores_that_share_the_bins_of_the_grid_have_no_interval_and_a_reason(
    spread: float,
) -> None:
    """Their resamples hardly differ, so an interval would be far too narrow."""
    maps, masks = images()
    result = measured(1 - maps.double().sigmoid() * spread, masks)
    interval = bootstrap_interval(result.units, value=result.scores["auroc"].value)
    assert math.isnan(interval.low) and math.isnan(interval.high)
    assert "too close together" in interval.reason
    test = paired_difference(result.units, measured(maps, masks).units)
    assert math.isnan(test.low) and math.isnan(test.p_value) and "too close" in test.reason


def test_an_interval_never_leaves_the_range_of_its_metric() -> None:
    maps, masks = images(shift=6)
    for table, side in ((table_of(maps, masks), 1), (table_of(-maps, masks), -1)):
        plain = bootstrap_interval(table)
        moved = bootstrap_interval(table, value=plain.grid_value + side * 0.0099)
        assert (plain.high if side == 1 else 1 - plain.low) > 1 - 0.0099
        assert (moved.high if side == 1 else 1 - moved.low) == 1.0


def test_all_intervals_at_once_are_those_of_one_metric_each() -> None:
    result = measured(*images())
    table, exact = result.units, result.scores["aupro"].value
    together = bootstrap_intervals(table, values={"aupro": exact}, resamples=20)
    assert list(together) == list(BOOTSTRAP_METRICS)
    for metric, interval in together.items():
        value = exact if metric == "aupro" else None
        assert interval == bootstrap_interval(table, metric, value=value, resamples=20)


@pytest.mark.parametrize("metric", BOOTSTRAP_METRICS)
def test_the_grid_is_exact_where_scores_are_few(metric: str) -> None:
    maps, masks = images()
    result = measured((maps * 4).round() / 4, masks)
    interval = bootstrap_interval(result.units, metric, resamples=10)
    assert interval.grid_value == pytest.approx(result.scores[metric].value, abs=1e-12)


def test_the_grid_stays_fine_for_scores_in_a_narrow_range() -> None:
    maps, masks = images()
    result = measured(0.97 + maps / 500, masks)
    interval = bootstrap_interval(result.units, "auroc", resamples=10)
    assert interval.grid_value == pytest.approx(result.scores["auroc"].value, abs=1e-4)


def test_histograms_get_coarser_instead_of_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units_module, "_ENTRIES", 4000)
    monkeypatch.setattr(units_module, "_ENTRIES_PER_UNIT", 100)
    maps, masks = images()
    metric = PixelMetrics(units="images")
    for index in range(len(maps)):
        metric.update(maps[index : index + 1], masks[index : index + 1], [str(index)])
    result = metric.compute()
    assert int(metric.entry_shift) > units_module.FIRST_SHIFT
    assert torch.equal(result.units.negatives.sum(1).sort().values[:1], torch.tensor([916]))
    interval = bootstrap_interval(result.units, "auroc", resamples=10)
    assert interval.grid_value == pytest.approx(result.scores["auroc"].value, abs=5e-3)


def test_histograms_stay_bounded_however_many_images_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units_module, "_ENTRIES", 2000)
    monkeypatch.setattr(units_module, "_ENTRIES_PER_UNIT", 100)
    metric = PixelMetrics(units="groups")
    entries = []
    for seed in range(150):
        maps = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(seed))
        metric.update(maps, maps > 0.9, ["one clip"])
        entries.append(sum(len(part) for part in metric.parts("entry_bins")))
    # Twice the limit before they are merged, and what 32 parts bring until someone looks.
    assert max(entries) <= 2 * 2000 + 16 * 256
    assert entries[-1] < 150 * 100


def test_resamples_are_those_of_drawing_the_images_themselves() -> None:
    """Against drawing whole images and computing the exact AUROC of their pixels anew."""
    maps, masks = images()
    maps = (maps * 4).round() / 4  # exact on the grid
    table = table_of(maps, masks)
    order = [unit_id(str(index)) for index in range(len(maps))]
    row_image = [order.index(unit) for unit in table.units.tolist()]
    values = []
    for weights in draw_units(len(maps), 50, seed=3):
        rows = torch.repeat_interleave(torch.tensor(row_image), weights.long())
        values.append(auroc(threshold_counts(maps[rows], masks[rows])).value)
    expected = torch.quantile(
        torch.tensor(values, dtype=torch.float64), torch.tensor([0.05, 0.95], dtype=torch.float64)
    )
    interval = bootstrap_interval(table, "auroc", confidence=0.9, resamples=50, seed=3)
    assert [interval.low, interval.high] == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_interval_covers_the_value_of_the_population() -> None:
    """Of 60 data sets of 40 images each, about 95% of the intervals hold the true AUROC."""
    covered = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randn(40, generator=generator)
        anomalous = torch.arange(40) % 2 == 0
        maps = (scores + 1.0 * anomalous).view(-1, 1, 1)
        table = table_of(maps, anomalous.view(-1, 1, 1))
        interval = bootstrap_interval(table, "auroc", resamples=400)
        covered += interval.low <= 0.7602499 <= interval.high  # Phi(1 / sqrt 2)
    assert 50 <= covered <= 60


def test_frames_of_a_clip_are_drawn_together() -> None:
    maps, masks = images()
    clips = [f"clip{index // 5}" for index in range(20)]
    table = table_of(maps, masks, clips)
    assert len(table.units) == 4
    by_clip = bootstrap_interval(table, "auroc")
    by_frame = bootstrap_interval(table_of(maps, masks), "auroc")
    assert by_clip.grid_value == pytest.approx(by_frame.grid_value, abs=1e-3)
    assert by_clip.units == 4


def test_a_better_scorer_is_told_apart_although_the_intervals_overlap() -> None:
    maps, masks = images()
    better, worse = table_of(maps + 0.2 * masks, masks), table_of(maps, masks)
    test = paired_difference(better, worse, "auroc")
    assert test.low > 0
    assert test.p_value < 0.01
    overlap = bootstrap_interval(better, "auroc").low < bootstrap_interval(worse, "auroc").high
    assert overlap, "meant to be a case that only pairing decides"


def test_swapping_the_scorers_flips_the_difference() -> None:
    first, second = table_of(*images(shift=0.5)), table_of(*images(shift=0.4))
    one, other = paired_difference(first, second), paired_difference(second, first)
    assert one.difference == pytest.approx(-other.difference)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)


def test_a_scorer_does_not_differ_from_itself() -> None:
    table = table_of(*images())
    test = paired_difference(table, table)
    assert (test.difference, test.low, test.high, test.p_value) == (0, 0, 0, 1)


def test_other_images_cannot_be_paired() -> None:
    maps, masks = images()
    with pytest.raises(ValueError, match="same images"):
        paired_difference(table_of(maps, masks), table_of(maps[:10], masks[:10]))


def test_other_masks_cannot_be_paired() -> None:
    maps, masks = images()
    with pytest.raises(ValueError, match="positives"):
        paired_difference(table_of(maps, masks), table_of(maps, masks.flip(0)))


def test_one_unit_has_no_interval_and_a_reason() -> None:
    maps, masks = images(2)
    interval = bootstrap_interval(table_of(maps, masks, ["clip", "clip"]), "auroc")
    assert math.isnan(interval.low) and "1 unit" in interval.reason
    assert interval.to_dict()["low"] is None


def test_no_defect_has_no_interval_and_a_reason() -> None:
    maps, masks = images(6)
    interval = bootstrap_interval(table_of(maps, masks & False), "auroc")
    assert math.isnan(interval.high) and "lack anomalous" in interval.reason


def test_the_same_seed_gives_the_same_interval() -> None:
    table = table_of(*images())
    assert bootstrap_interval(table) == bootstrap_interval(table)
    assert bootstrap_interval(table, seed=1) != bootstrap_interval(table)


def test_draws_are_as_many_as_the_units() -> None:
    weights = draw_units(7, 100, seed=0)
    assert weights.sum(1).tolist() == [7] * 100
