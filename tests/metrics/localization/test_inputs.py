"""What the localization metrics refuse: every bad input is named, none is counted."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_vae.metrics import (
    AUPRO,
    ImageAUROC,
    PixelAUROC,
    PixelMetrics,
    bootstrap_interval,
    bootstrap_intervals,
    image_scores,
    paired_difference,
    scores_of_image,
    threshold_counts,
)
from captum_vae.metrics.localization.counts import ScoreCounts
from captum_vae.metrics.localization.curves import at_threshold, thinned
from captum_vae.metrics.localization.region_overlap import aupro, region_sizes
from captum_vae.metrics.localization.units import UnitTable

MAPS = torch.linspace(0, 1, 32).view(2, 4, 4)
MASKS = MAPS > 0.8


def broken(value: float) -> Tensor:
    maps = MAPS.clone()
    maps[1, 2, 3] = value
    return maps


def table() -> UnitTable:
    metric = PixelMetrics(units="images")
    metric.update(MAPS, MASKS, ["first", "second"])
    table = metric.compute().units
    assert table is not None
    return table


BAD_MAPS: dict[str, tuple[Any, type[Exception], str]] = {
    "none": (None, TypeError, "maps is a NoneType"),
    "numpy": (MAPS.numpy(), TypeError, "maps is a ndarray"),
    "numbers": ([0.1, 0.2], TypeError, r"maps\[0\] is a float"),
    "numpy in a list": ([MAPS[0].numpy(), MAPS[1].numpy()], TypeError, r"maps\[0\] is a ndarray"),
    "missing map": ([MAPS[0], None], TypeError, r"maps\[1\] is a NoneType"),
    "text": ("maps", TypeError, "maps is a str"),
    "one map": (MAPS[0], ValueError, r"maps has shape \(4, 4\); wanted \(B, H, W\)"),
    "colours": (MAPS.view(1, 2, 4, 4), ValueError, r"maps has shape \(1, 2, 4, 4\)"),
    "five axes": (MAPS[None, None], ValueError, r"maps has shape \(1, 1, 2, 4, 4\)"),
    "colours in a list": ([torch.zeros(3, 4, 4)] * 2, ValueError, r"maps\[0\] has shape"),
    "no image": (MAPS[:0], ValueError, "maps is empty"),
    "no map": ([], ValueError, "maps is empty"),
    "no pixel": (torch.zeros(2, 0, 4), ValueError, r"maps\[0\] has shape \(0, 4\)"),
    "integers": (MAPS.long(), TypeError, r"maps\[0\] has dtype torch.int64; wanted floats"),
    "bytes": (MAPS.byte(), TypeError, "uint8"),
    "bool": (MASKS, TypeError, "torch.bool; wanted floats"),
    "complex": (MAPS.to(torch.complex64), TypeError, "complex64; wanted floats"),
    "sparse": ([MAPS[0].to_sparse(), MAPS[1].to_sparse()], TypeError, "sparse"),
    "nan": (broken(math.nan), ValueError, r"maps\[1\] has 1 of 16 values that are NaN"),
    "infinite": (broken(math.inf), ValueError, r"maps\[1\] has 1 of 16"),
    "minus infinite": (broken(-math.inf).double(), ValueError, r"maps\[1\] has 1 of 16"),
    "overflown": (broken(1e6).half(), ValueError, "overflow"),
}
BAD_MASKS: dict[str, tuple[Any, type[Exception], str]] = {
    "none": (None, TypeError, "masks is a NoneType"),
    "numpy": (MASKS.numpy(), TypeError, "masks is a ndarray"),
    "floats": (MASKS.float(), TypeError, r"masks\[0\] has dtype torch.float32; wanted torch.bool"),
    "0 and 255": (MASKS.byte() * 255, TypeError, r"masks\[0\] has dtype torch.uint8"),
    "class numbers": (MASKS.long() * 3, TypeError, r"masks\[0\] has dtype torch.int64"),
    "complex": (MASKS.to(torch.complex64), TypeError, "complex64"),
    "labels": ([0, 1], TypeError, r"masks\[0\] is a int"),
    "too few": (MASKS[:1], ValueError, "2 maps and 1 masks; wanted one per map"),
    "too many": ([None] * 3, ValueError, "2 maps and 3 masks"),
    "empty": (MASKS[:0], ValueError, "masks is empty"),
    "larger": (torch.zeros(2, 8, 8, dtype=torch.bool), ValueError, "resize the map up"),
    "turned": (torch.zeros(2, 2, 8, dtype=torch.bool), ValueError, r"masks\[0\] \(2, 8\)"),
    "one mask": (MASKS[0], ValueError, r"masks has shape \(4, 4\)"),
    "two channels": (torch.zeros(2, 2, 4, 4, dtype=torch.bool), ValueError, "masks has shape"),
}
METRICS = [PixelMetrics, PixelAUROC, AUPRO]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", BAD_MAPS)
def test_bad_maps_are_refused_and_nothing_of_them_is_counted(metric: Any, kind: str) -> None:
    maps, error, message = BAD_MAPS[kind]
    counting = metric()
    with pytest.raises(error, match=message):
        counting.update(maps, MASKS)
    assert int(counting.images) == int(counting.normal_pixels) == 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", BAD_MASKS)
def test_bad_masks_are_refused_and_nothing_of_them_is_counted(metric: Any, kind: str) -> None:
    masks, error, message = BAD_MASKS[kind]
    counting = metric()
    with pytest.raises(error, match=message):
        counting.update(MAPS, masks)
    assert int(counting.images) == int(counting.normal_pixels) == 0


@pytest.mark.parametrize("kind", [kind for kind in BAD_MAPS if kind != "numbers"])
def test_image_scores_refuse_the_same_maps(kind: str) -> None:
    maps, error, message = BAD_MAPS[kind]
    with pytest.raises(error, match=message):
        image_scores(maps)
    with pytest.raises(error):
        ImageAUROC().update(maps, [0, 1])


COUNTS = threshold_counts(MAPS, MASKS)
OTHER_BAD_INPUTS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "ignored floats": (
        lambda: PixelMetrics().update(MAPS, MASKS, ignored=MASKS.float()),
        *(TypeError, r"ignored\[0\] has dtype"),
    ),
    "ignored of another size": (
        lambda: PixelAUROC().update(MAPS, MASKS, ignored=[None, MASKS[0, :2]]),
        *(ValueError, r"ignored\[1\] \(2, 4\)"),
    ),
    "too few ignored": (
        lambda: PixelAUROC().update(MAPS, MASKS, ignored=[None]),
        *(ValueError, "2 maps and 1 ignored"),
    ),
    "names missing": (
        lambda: PixelMetrics(units="images").update(MAPS, MASKS),
        *(ValueError, "needs names"),
    ),
    "one name": (
        lambda: PixelMetrics(units="images").update(MAPS, MASKS, "ab"),
        *(ValueError, "names, one per map; got one string"),
    ),
    "too few names": (
        lambda: PixelMetrics(units="groups").update(MAPS, MASKS, ["a"]),
        *(ValueError, "got 1 for 2 maps"),
    ),
    "numbers as names": (
        lambda: PixelMetrics(units="images").update(MAPS, MASKS, [1, 2]),
        *(TypeError, r"names\[0\] is a int"),
    ),
    "units": (lambda: PixelMetrics(units="clips"), ValueError, "units='clips'"),
    "units as a list": (lambda: PixelMetrics(units=["images"]), ValueError, "units="),
    "unknown option": (lambda: PixelMetrics(bins=3), ValueError, "bins"),
    "limit 0": (lambda: PixelMetrics(fpr_limit=0.0), ValueError, "fpr_limit"),
    "limit above 1": (lambda: AUPRO(fpr_limit=1.5), ValueError, "fpr_limit"),
    "limit nan": (lambda: AUPRO(fpr_limit=math.nan), ValueError, "fpr_limit"),
    "limit text": (lambda: PixelMetrics(fpr_limit="0.3"), TypeError, "fpr_limit"),
    "limit bool": (lambda: PixelMetrics(fpr_limit=True), TypeError, "fpr_limit"),
    "limit None": (lambda: aupro(COUNTS, fpr_limit=None), TypeError, "fpr_limit"),
    "threshold nan": (lambda: PixelMetrics(threshold=math.nan), ValueError, "threshold"),
    "threshold text": (lambda: PixelMetrics(threshold="high"), TypeError, "threshold"),
    "threshold array": (
        lambda: PixelMetrics(threshold=np.array([0.1, 0.2])),
        *(TypeError, "threshold"),
    ),
    "at a complex threshold": (
        lambda: at_threshold(COUNTS, 1j, 0, source="x"),
        *(TypeError, "threshold"),
    ),
    "pooling": (lambda: image_scores(MAPS, pooling="median"), ValueError, "max, mean, top_percent"),
    "pooling of the metric": (lambda: ImageAUROC(pooling=None), ValueError, "pooling"),
    "labels too few": (lambda: ImageAUROC().update(MAPS, [1]), ValueError, "labels"),
    "label 2": (lambda: ImageAUROC().update(MAPS, [1, 2]), ValueError, "labels"),
    "label text": (lambda: ImageAUROC().update(MAPS, ["good", "bad"]), ValueError, "labels"),
    "labels None": (lambda: ImageAUROC().update(MAPS, None), TypeError, "labels is a NoneType"),
    "one label": (lambda: ImageAUROC().update(MAPS, 1), TypeError, "labels is a int"),
    "pooled scores nan": (
        lambda: ImageAUROC().update(torch.tensor([1.0, math.nan]), [0, 1]),
        *(ValueError, "maps has 1 of 2 values"),
    ),
    "pooled integers": (
        lambda: ImageAUROC().update(torch.tensor([1, 2]), [0, 1]),
        TypeError,
        "maps",
    ),
    "scores of two images": (
        lambda: scores_of_image(MAPS, MASKS[0]),
        *(ValueError, r"scores has shape \(2, 4, 4\)"),
    ),
    "mask of floats": (lambda: scores_of_image(MAPS[0], MASKS[0].float()), TypeError, "mask > 0.5"),
    "array as scores": (lambda: threshold_counts(MAPS.numpy(), MASKS), TypeError, "scores is a"),
    "array as mask": (lambda: threshold_counts(MAPS, MASKS.numpy()), TypeError, "anomalous is a"),
    "nan scores": (lambda: threshold_counts(broken(math.nan), MASKS), ValueError, "scores has 1"),
    "counting a list": (lambda: ScoreCounts().add([0.1]), TypeError, "scores is a list"),
    "counting nan": (lambda: ScoreCounts().add(broken(math.nan)), ValueError, "NaN"),
    "counting integers": (lambda: ScoreCounts().add(MAPS.long()), TypeError, "int64"),
    "share 0": (lambda: ScoreCounts().quantile(0), ValueError, "share"),
    "share in per cent": (lambda: ScoreCounts().quantile(99.5), ValueError, "share"),
    "share text": (lambda: ScoreCounts().quantile("half"), TypeError, "share"),
    "quantile of nothing": (lambda: ScoreCounts().quantile(0.5), ValueError, "no score"),
    "at least nan": (lambda: ScoreCounts().at_least(math.nan), ValueError, "threshold"),
    "metric": (lambda: bootstrap_interval(table(), "mse"), ValueError, "auroc, average_precision"),
    "metric None": (lambda: bootstrap_interval(table(), None), ValueError, "metric"),
    "metrics as a string": (
        lambda: bootstrap_intervals(table(), "auroc"),
        *(TypeError, "metrics is one string"),
    ),
    "confidence in per cent": (
        lambda: bootstrap_interval(table(), confidence=95),
        *(ValueError, "confidence"),
    ),
    "confidence text": (
        lambda: bootstrap_interval(table(), confidence="95%"),
        *(TypeError, "confidence"),
    ),
    "confidence nan": (
        lambda: bootstrap_interval(table(), confidence=math.nan),
        *(ValueError, "confidence"),
    ),
    "no resample": (lambda: bootstrap_interval(table(), resamples=0), ValueError, "resamples"),
    "half a resample": (
        lambda: bootstrap_interval(table(), resamples=10.5),
        TypeError,
        "resamples",
    ),
    "resamples True": (lambda: bootstrap_interval(table(), resamples=True), TypeError, "resamples"),
    "large seed": (lambda: bootstrap_interval(table(), seed=2**70), ValueError, "seed"),
    "negative seed": (lambda: bootstrap_interval(table(), seed=-1), ValueError, "seed"),
    "seed text": (lambda: paired_difference(table(), table(), seed="0"), TypeError, "seed"),
    "value text": (lambda: bootstrap_interval(table(), value="0.9"), TypeError, "value"),
    "limit of an interval": (
        lambda: bootstrap_interval(table(), "aupro", fpr_limit=0),
        *(ValueError, "fpr_limit"),
    ),
    "no table": (lambda: bootstrap_interval(None), TypeError, "table is a NoneType"),
    "second no table": (lambda: paired_difference(table(), MAPS), TypeError, "second is a Tensor"),
    "one corner": (lambda: thinned(MAPS[0, 0], MAPS[0, 0], points=1), ValueError, "points"),
    "half a corner": (lambda: thinned(MAPS[0, 0], MAPS[0, 0], points=2.5), TypeError, "points"),
    "region of floats": (lambda: region_sizes(MAPS[0]), TypeError, "mask has dtype"),
    "regions of a batch": (lambda: region_sizes(MASKS), ValueError, r"mask has shape \(2, 4, 4\)"),
}


@pytest.mark.parametrize("kind", OTHER_BAD_INPUTS)
def test_other_bad_inputs_are_refused_by_name(kind: str) -> None:
    call, error, message = OTHER_BAD_INPUTS[kind]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("metric", METRICS)
def test_maps_count_the_same_in_every_shape_that_is_allowed(metric: Any) -> None:
    shapes = [
        (MAPS, MASKS),
        (MAPS[:, None], MASKS[:, None]),
        (MAPS[:, None], MASKS),
        (list(MAPS), list(MASKS)),
        (tuple(MAPS[:, None]), [mask[None] for mask in MASKS]),
    ]
    results = []
    for maps, masks in shapes:
        counting = metric()
        counting.update(maps, masks)
        results.append(counting.compute())
        assert int(counting.images) == 2
    values = [getattr(result, "scores", result) for result in results]
    assert all(value == values[0] for value in values)


def test_image_scores_take_every_shape_that_is_allowed() -> None:
    expected = MAPS.amax((1, 2))
    for maps in (MAPS, MAPS[:, None], list(MAPS), [MAPS[0], MAPS[1].view(2, 8)]):
        assert torch.equal(image_scores(maps), expected)
