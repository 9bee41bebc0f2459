import math
import pickle

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor
from torchmetrics import MetricCollection

from captum_vae.metrics import (
    AUPRO,
    ImageAUROC,
    PixelAUROC,
    PixelAveragePrecision,
    PixelBestIoU,
    PixelF1Max,
    PixelMetrics,
    PixelROC,
    auroc,
    threshold_counts,
)
from captum_vae.metrics.localization import counts as counts_module


def images(count: int = 12, size: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    masks[: count // 2, 3:9, 4:12] = True
    maps = torch.rand(count, size, size, generator=generator) + 0.3 * masks
    return (maps * 50).round() / 50, masks


def test_batches_give_what_all_pixels_at_once_give() -> None:
    maps, masks = images()
    metric = PixelMetrics()
    for start in range(0, len(maps), 5):
        metric.update(maps[start : start + 5], masks[start : start + 5])
    result = metric.compute()
    whole = threshold_counts(maps, masks)
    for name in ("thresholds", "true_positives", "false_positives", "tied_negatives"):
        assert torch.equal(getattr(result.counts, name), getattr(whole, name)), name
    assert result.scores["auroc"].value == pytest.approx(
        roc_auc_score(masks.flatten(), maps.flatten()), abs=1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ties", "distinct", "constant"])
def test_five_million_pixels_equal_scikit_learn(kind: str) -> None:
    masks = torch.zeros(80, 250, 250, dtype=torch.bool)
    masks[::4, 30:80, 40:90] = True
    maps = torch.randn(masks.shape) + masks
    if kind == "ties":
        maps = (maps * 8).round() / 8
    elif kind == "constant":
        maps = torch.full_like(maps, 0.1)
    metric = PixelMetrics()
    metric.update(maps, masks)
    scores = metric.compute().scores
    truth, values = masks.flatten().numpy(), maps.flatten().numpy()
    assert scores["auroc"].value == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    expected = average_precision_score(truth, values)
    assert scores["average_precision"].value == pytest.approx(expected, abs=1e-12)


def test_counting_in_slabs_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = images()
    plain = PixelMetrics()
    plain.update(maps, masks)
    monkeypatch.setattr(counts_module, "_WAITING", 300)
    monkeypatch.setattr(counts_module, "_PAIRS_WORTH_A_SLAB", 10)
    slabs = PixelMetrics(threshold=0.7)
    for image, mask in zip(maps, masks, strict=True):
        slabs.update(image[None], mask[None])
    result = slabs.compute()
    assert slabs.slabs, "meant to count in slabs"
    assert {n: result.scores[n] for n in plain.compute().scores} == plain.compute().scores
    assert result.scores["false_positive_rate"].value == pytest.approx(
        float((maps[~masks].double() >= 0.7).double().mean())
    )


def test_images_with_an_unknown_mask_are_left_out_and_not_counted_as_normal() -> None:
    """A published error: clips without masks taken for normal ones."""
    maps, masks = images()
    unknown = torch.rand(4, 20, 20) + 5  # bright, and of unknown truth
    metric = PixelMetrics()
    metric.update([*maps, *unknown], [*masks, None, None, None, None])
    result = metric.compute()
    only_known = roc_auc_score(masks.flatten(), maps.flatten())
    assert result.scores["auroc"].value == pytest.approx(only_known, abs=1e-12)
    assert (result.images, result.left_out) == (12, 4)
    as_normal = roc_auc_score(
        torch.cat([masks, torch.zeros(4, 20, 20, dtype=torch.bool)]).flatten(),
        torch.cat([maps, unknown]).flatten(),
    )
    assert as_normal < only_known - 0.1


def test_nothing_is_padded_with_zero_frames() -> None:
    """A published error: score arrays padded with zero frames, whose pixels are easy negatives."""
    maps, masks = images()
    metric = PixelMetrics()
    metric.update(maps, masks)
    result = metric.compute()
    assert result.counts.positives + result.counts.negatives == maps.numel()
    padded_maps = torch.cat([maps, torch.zeros(30, 20, 20)])
    padded_masks = torch.cat([masks, torch.zeros(30, 20, 20, dtype=torch.bool)])
    padded = roc_auc_score(padded_masks.flatten(), padded_maps.flatten())
    assert padded > result.scores["auroc"].value + 0.05


def test_a_map_does_not_depend_on_its_batch_mates() -> None:
    """A published error: maps normalised per batch."""
    maps, masks = images()
    maps = maps * torch.linspace(0.2, 3, len(maps)).view(-1, 1, 1)
    values = []
    for batch in (1, 4, 12):
        metric = PixelAUROC()
        for part, mask in zip(maps.split(batch), masks.split(batch), strict=True):
            metric.update(part, mask)
        values.append(float(metric.compute()))
    assert values[0] == values[1] == values[2]
    normalised = torch.cat([part / part.max() for part in maps.split(4)])
    assert abs(float(roc_auc_score(masks.flatten(), normalised.flatten())) - values[0]) > 1e-3


def test_images_may_differ_in_size() -> None:
    maps = [torch.rand(8, 9), torch.rand(5, 4)]
    masks = [map_ > 0.7 for map_ in maps]
    metric = PixelMetrics()
    metric.update(maps, masks)
    pixels = torch.cat([map_.flatten() for map_ in maps])
    truth = torch.cat([mask.flatten() for mask in masks])
    assert metric.compute().scores["auroc"] == auroc(threshold_counts(pixels, truth))


def test_a_threshold_from_training_maps_says_so() -> None:
    maps, masks = images()
    metric = PixelMetrics(threshold=0.9)
    metric.update(maps, masks)
    scores = metric.compute().scores
    predicted = maps.double() >= 0.9
    assert scores["iou"].value == pytest.approx(
        float((predicted & masks).sum() / (predicted | masks).sum())
    )
    assert scores["recall"].value == pytest.approx(float(predicted[masks].double().mean()))
    assert scores["iou"].threshold_source == "train_quantile"
    assert scores["best_iou"].threshold_source == "oracle"
    assert scores["best_iou"].value >= scores["iou"].value


def test_a_set_without_defects_is_nan_with_a_reason() -> None:
    metric = PixelMetrics(threshold=0.5)
    metric.update(torch.rand(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))
    result = metric.compute()
    assert all(math.isnan(score.value) and score.reason for score in result.scores.values())
    assert all(entry["value"] is None for entry in result.to_dict()["scores"].values())


def test_an_empty_metric_is_nan_with_a_reason() -> None:
    metric = PixelMetrics(units="images")
    with pytest.warns(UserWarning, match="before the ``update``"):
        result = metric.compute()
    assert math.isnan(result.scores["auroc"].value)
    assert result.units is None


def test_metrics_of_one_name_warn_when_undefined() -> None:
    metric = PixelAUROC()
    metric.update(torch.rand(1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.bool))
    with pytest.warns(UserWarning, match="no anomalous"):
        assert metric.compute().isnan()


def test_a_collection_gives_what_each_metric_gives_and_shares_the_counts() -> None:
    maps, masks = images()
    collection = MetricCollection(
        [PixelAUROC(), PixelAveragePrecision(), PixelF1Max(), PixelBestIoU(), PixelROC(), AUPRO()]
    )
    for part, mask in zip(maps.split(4), masks.split(4), strict=True):
        collection.update(part, mask)
    values = collection.compute()
    assert len(collection.compute_groups) == 2  # AUPRO alone looks at regions
    metric = PixelMetrics()
    metric.update(maps, masks)
    scores = metric.compute().scores
    assert float(values["PixelAUROC"]) == scores["auroc"].value
    assert float(values["PixelAveragePrecision"]) == scores["average_precision"].value
    assert float(values["f1_max"]) == scores["f1_max"].value
    assert float(values["best_iou_oracle_threshold"]) == pytest.approx(scores["best_iou"].threshold)
    assert float(values["AUPRO"]) == scores["aupro"].value


@pytest.mark.parametrize("metric", [PixelF1Max, PixelBestIoU])
def test_the_oracle_threshold_of_float64_maps_finds_what_it_says(metric: type) -> None:
    maps, masks = images()
    maps = 1 + maps.double() * 1e-12
    counting = metric()
    counting.update(maps, masks)
    name, found = next(iter(counting.compute().items()))
    predicted = maps >= counting.compute()[f"{name}_oracle_threshold"]
    hits, either = int((predicted & masks).sum()), int((predicted | masks).sum())
    expected = hits / either if name == "best_iou" else 2 * hits / (hits + either)
    assert float(found) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_float64_maps_are_scored_as_scikit_learn_scores_them(seed: int) -> None:
    """Ten sets whose scores differ by less than float32 can tell, partly tied, in float32 too."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(4, 12, 12, generator=generator) < 0.2
    maps = torch.randn(4, 12, 12, dtype=torch.float64, generator=generator) + masks
    maps = (10.0 ** (seed - 5) * (1 + 1e-13 * maps)).round(decimals=12 + seed % 3)
    maps[0] = maps[0].float().double()
    metric = PixelMetrics(units="images")
    metric.update(maps[:1].float(), masks[:1], ["0"])
    metric.update(maps[1:, None], masks[1:, None], ["1", "2", "3"])
    scores = metric.compute().scores
    truth, values = masks.flatten(), maps.flatten()
    assert scores["auroc"].value == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
    expected = average_precision_score(truth, values)
    assert scores["average_precision"].value == pytest.approx(expected, abs=1e-12)


def test_reset_forgets() -> None:
    maps, masks = images()
    metric = PixelMetrics(units="images")
    names = [str(index) for index in range(len(maps))]
    metric.update(maps.neg(), masks, names)
    metric.reset()
    metric.update(maps, masks, names)
    fresh = PixelMetrics(units="images")
    fresh.update(maps, masks, names)
    assert metric.compute().scores == fresh.compute().scores
    assert metric.compute().images == 12


def test_a_pickled_metric_goes_on() -> None:
    maps, masks = images()
    metric = PixelAUROC()
    metric.update(maps[:6], masks[:6])
    metric = pickle.loads(pickle.dumps(metric))
    metric.update(maps[6:], masks[6:])
    assert float(metric.compute()) == auroc(threshold_counts(maps, masks)).value


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_are_those_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "_WAITING", 300)
    monkeypatch.setattr(counts_module, "_PAIRS_WORTH_A_SLAB", 10)
    maps, masks = images()
    names = [str(index) for index in range(len(maps))]
    results = []
    for device in ("cpu", "cuda"):
        metric = PixelMetrics(units="images").to(device)
        metric.update(maps.to(device), masks.to(device), names)
        results.append(metric.compute())
    assert results[0].scores == results[1].scores
    assert torch.equal(results[0].units.negatives, results[1].units.negatives.cpu())


def test_image_auroc_equals_scikit_learn_and_leaves_out_unknown_labels() -> None:
    maps, masks = images()
    metric = ImageAUROC()
    labels = [int(mask.any()) for mask in masks]
    metric.update(maps[:6], [*labels[:5], None])
    metric.update(maps[6:], labels[6:])
    kept = [0, 1, 2, 3, 4, *range(6, 12)]
    expected = roc_auc_score([labels[i] for i in kept], maps.amax((1, 2))[kept])
    assert metric.compute().value == pytest.approx(expected, abs=1e-12)
    assert int(metric.left_out) == 1


def test_image_auroc_of_normal_images_is_nan_with_a_reason() -> None:
    metric = ImageAUROC()
    metric.update(torch.rand(3, 4, 4), [0, 0, 0])
    assert math.isnan(metric.compute().value) and metric.compute().reason


@pytest.mark.parametrize("units", ["none", "images"])
def test_ignored_pixels_count_neither_as_anomalous_nor_as_normal(units: str) -> None:
    maps, masks = images()
    ignored = torch.rand(maps.shape, generator=torch.Generator().manual_seed(3)) < 0.3
    ignored &= ~masks
    metric = PixelMetrics(units=units)  # type: ignore[arg-type]
    names = [str(place) for place in range(len(maps))]
    left: list[Tensor | None] = [*ignored[:-1], None]
    metric.update(maps, masks, names, ignored=left)
    ignored[-1] = False
    result = metric.compute()
    scores, truth = maps[~ignored].numpy(), masks[~ignored].numpy()
    assert result.scores["auroc"].value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    expected = average_precision_score(truth, scores)
    assert result.scores["average_precision"].value == pytest.approx(expected, abs=1e-12)
    assert result.counts.positives == truth.sum()
    assert result.counts.negatives == (~truth).sum()


def test_ignored_pixels_need_masks_of_the_maps_sizes() -> None:
    maps, masks = images(2)
    with pytest.raises(ValueError):
        PixelMetrics().update(maps, masks, ignored=[torch.zeros(3, 3, dtype=torch.bool)] * 2)
