import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve
from torch import Tensor

from captum_vae.metrics import (
    LocalizationScore,
    aupro,
    auroc,
    average_precision,
    best_iou,
    f1_max,
    image_scores,
    roc_curve,
    scores_of_image,
    threshold_counts,
)
from captum_vae.metrics.localization.curves import ThresholdCounts, thinned

METRICS = [auroc, average_precision, f1_max, best_iou]


def scores_and_mask(kind: str, n: int = 3000) -> tuple[Tensor, Tensor]:
    mask = torch.rand(n) < 0.07
    scores = torch.randn(n) + 1.5 * mask
    if kind == "ties":
        scores = (scores * 5).round() / 5
    elif kind == "constant":
        scores = torch.full_like(scores, 0.3)
    return scores, mask


def brute_force(scores: Tensor, mask: Tensor) -> tuple[float, float]:
    """Best F1 and best IoU over all distinct thresholds, by predicting at each."""
    best = [0.0, 0.0]
    for threshold in scores.unique():
        predicted = scores >= threshold
        hit = int((predicted & mask).sum())
        either = int((predicted | mask).sum())
        best[0] = max(best[0], 2 * hit / (int(predicted.sum()) + int(mask.sum())))
        best[1] = max(best[1], hit / either)
    return best[0], best[1]


@pytest.mark.parametrize("kind", ["distinct", "ties", "constant"])
def test_auroc_and_average_precision_equal_scikit_learn(kind: str) -> None:
    scores, mask = scores_and_mask(kind)
    counts = threshold_counts(scores, mask)
    assert auroc(counts).value == pytest.approx(roc_auc_score(mask, scores), abs=1e-12)
    expected = average_precision_score(mask, scores)
    assert average_precision(counts).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["distinct", "ties", "constant"])
def test_best_f1_and_iou_equal_brute_force_over_all_distinct_thresholds(kind: str) -> None:
    scores, mask = scores_and_mask(kind, 800)
    counts = threshold_counts(scores, mask)
    f1, iou = brute_force(scores, mask)
    assert f1_max(counts).value == pytest.approx(f1, abs=1e-15)
    assert best_iou(counts).value == pytest.approx(iou, abs=1e-15)


def test_the_best_threshold_reproduces_the_best_value() -> None:
    scores, mask = scores_and_mask("distinct")
    best = best_iou(threshold_counts(scores, mask))
    predicted = scores >= best.threshold
    assert float((predicted & mask).sum() / (predicted | mask).sum()) == pytest.approx(best.value)


def test_ninety_nine_thresholds_miss_the_best_iou() -> None:
    """A published error: IoU searched on 99 thresholds between 0 and 1."""
    mask = torch.zeros(1000, dtype=torch.bool)
    mask[:10] = True
    scores = torch.linspace(0.0, 0.004, 1000)
    scores[:10] = 0.0051
    scores[999] = 1.0
    on_a_grid = max(
        float(((scores >= t) & mask).sum() / ((scores >= t) | mask).sum())
        for t in torch.arange(1, 100) / 100
    )
    assert on_a_grid == 0.0
    assert best_iou(threshold_counts(scores, mask)).value == pytest.approx(10 / 11)


def test_the_roc_curve_has_the_false_positive_rate_on_the_horizontal_axis() -> None:
    """A published error: the axes swapped, which turns an AUROC of A into 1 - A."""
    scores = torch.tensor([0.9, 0.8, 0.1, 0.2, 0.3, 0.7])
    mask = torch.tensor([True, True, False, False, False, True])
    curve = roc_curve(threshold_counts(scores, mask))
    assert curve.false_positive_rate.tolist() == [0, 0, 0, 0, 1]
    assert curve.true_positive_rate.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])


@pytest.mark.parametrize("kind", ["distinct", "ties", "constant"])
def test_the_roc_curve_is_scikit_learns_line(kind: str) -> None:
    scores, mask = scores_and_mask(kind)
    curve = roc_curve(threshold_counts(scores, mask))
    x, y, _ = sklearn_roc_curve(mask, scores, drop_intermediate=False)
    ours = [curve.false_positive_rate.numpy(), curve.true_positive_rate.numpy()]
    area = np.trapezoid(ours[1], ours[0])
    assert area == pytest.approx(np.trapezoid(y, x), abs=1e-12)
    slanted = np.interp(x, *ours)  # where our curve is not vertical, it is a function of x
    vertical = np.isin(x, ours[0])
    assert slanted[~vertical] == pytest.approx(y[~vertical], abs=1e-12)
    theirs = set(zip(x.round(12), y.round(12), strict=True))
    missed = [p for p in zip(*(axis.round(12) for axis in ours), strict=True) if p not in theirs]
    assert not missed, "corners that scikit-learn's full curve does not have"


def test_each_roc_threshold_gives_its_rates() -> None:
    scores, mask = scores_and_mask("ties", 500)
    curve = roc_curve(threshold_counts(scores, mask))
    for false, true, threshold in zip(*curve, strict=True):
        predicted = scores >= threshold
        assert float(predicted[mask].double().mean()) == pytest.approx(float(true))
        assert float(predicted[~mask].double().mean()) == pytest.approx(float(false))


def test_a_thinned_curve_keeps_both_ends_and_the_area() -> None:
    scores, mask = scores_and_mask("distinct", 30_000)
    curve = roc_curve(threshold_counts(scores, mask))
    x, y = thinned(curve.false_positive_rate, curve.true_positive_rate, points=200)
    assert len(x) == 200
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert float(torch.trapezoid(y, x)) == pytest.approx(roc_auc_score(mask, scores), abs=1e-2)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("anomalous", [False, True])
def test_a_single_class_is_nan_with_a_reason(metric, anomalous: bool) -> None:
    mask = torch.full((50,), anomalous)
    score = metric(threshold_counts(torch.rand(50), mask))
    assert math.isnan(score.value)
    assert ("no normal" if anomalous else "no anomalous") in score.reason
    assert score.to_dict()["value"] is None


@pytest.mark.parametrize("pixels", [10**3, 2**31, 3 * 10**9, 2**40])
def test_counts_beyond_64_bits_do_not_overflow(pixels: int) -> None:
    """Two thresholds: half of both classes at the upper one, so that every curve is a diagonal."""
    half = torch.tensor([pixels // 2, pixels])
    counts = ThresholdCounts(
        thresholds=torch.tensor([1.0, 0.0]),
        true_positives=half,
        false_positives=half,
        tied_negatives=torch.tensor([pixels // 2, pixels // 2]),
        positives=pixels,
        negatives=pixels,
        region_overlap=torch.tensor([0.5, 1.0], dtype=torch.float64),
        regions=1,
    )
    assert auroc(counts).value == average_precision(counts).value == 0.5
    assert f1_max(counts).value == pytest.approx(2 / 3)
    assert best_iou(counts).value == 0.5
    assert aupro(counts, fpr_limit=1.0).value == pytest.approx(0.5)
    assert roc_curve(counts).true_positive_rate.tolist() == [0, 0.5, 1]


def test_no_pixel_at_all_is_nan_with_a_reason() -> None:
    score = auroc(threshold_counts(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))
    assert math.isnan(score.value) and score.reason


def test_a_threshold_fitted_on_test_labels_says_so() -> None:
    """A published error: the threshold tuned on the test labels, reported as if it were not."""
    scores, mask = scores_and_mask("distinct")
    counts = threshold_counts(scores, mask)
    for score in (f1_max(counts), best_iou(counts)):
        assert score.to_dict()["threshold_source"] == "oracle"
        assert "oracle" in str(score)


def test_float64_scores_of_images_are_not_rounded() -> None:
    scores = torch.tensor([1.0, 1.0 + 1e-15], dtype=torch.float64)
    mask = torch.tensor([False, True])
    assert auroc(threshold_counts(scores, mask)).value == 1.0


def test_image_scores_pool_by_name() -> None:
    maps = torch.arange(200.0).view(1, 10, 20)
    assert image_scores(maps).tolist() == [199.0]
    assert image_scores(maps, pooling="mean").tolist() == [99.5]
    assert image_scores(maps, pooling="top_percent").tolist() == [198.5]


def test_scores_of_one_image_are_those_of_its_pixels() -> None:
    scores, mask = scores_and_mask("ties", 400)
    values = scores_of_image(scores.view(20, 20), mask.view(20, 20))
    assert values["auroc"].value == pytest.approx(roc_auc_score(mask, scores), abs=1e-12)
    assert values["best_iou"].value == pytest.approx(brute_force(scores, mask)[1])


def test_a_score_prints_its_value_or_its_reason() -> None:
    assert str(LocalizationScore("auroc", 0.5)) == "auroc 0.5000"
    assert str(LocalizationScore("auroc", math.nan, "no defect")) == "auroc undefined, no defect"
