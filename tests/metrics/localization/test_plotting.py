"""Every Metric class draws its curve, with the values of compute, as torchmetrics' users expect."""

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot

from captum_vae.metrics import (
    AUPRO,
    ImageAUROC,
    PixelAUROC,
    PixelAveragePrecision,
    PixelBestIoU,
    PixelF1Max,
    PixelMetrics,
    PixelROC,
)

mpl.use("Agg")
MAPS = torch.rand(4, 12, 12, generator=torch.Generator().manual_seed(0))
MASKS = torch.zeros(4, 12, 12, dtype=torch.bool)
MASKS[:2, 3:7, 4:9] = True
MAPS = MAPS + 0.5 * MASKS


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (PixelAUROC, "auroc"),
        (PixelAveragePrecision, "average_precision"),
        (PixelF1Max, "f1_max"),
        (PixelBestIoU, "best_iou"),
        (AUPRO, "aupro"),
        (PixelROC, "auroc"),
        (ImageAUROC, "image_auroc"),
    ],
)
def test_the_curve_is_drawn_with_its_value(kind, name):
    metric = kind()
    metric.update(MAPS, [1, 1, 0, 0] if kind is ImageAUROC else MASKS)
    figure, ax = metric.plot()
    value = metric.compute()
    if isinstance(value, dict):
        value = value[name]
    if name != "auroc" or kind is PixelAUROC:
        value = getattr(value, "value", value)
        label = labels(ax)[0].replace("image_", "").replace("auroc", name.replace("image_", ""))
        assert label.endswith(f"{float(value):.4f}")
    line = ax.get_lines()[0]
    assert len(line.get_xdata()) >= 4 and figure is ax.get_figure()
    own = pyplot.figure().add_subplot()
    assert metric.plot(ax=own)[1] is own


@pytest.mark.parametrize("kind", [PixelF1Max, PixelBestIoU])
def test_the_best_threshold_is_marked(kind):
    metric = kind()
    metric.update(MAPS, MASKS)
    name, threshold = metric.compute()
    _, ax = metric.plot()
    point = ax.get_lines()[1]
    value = metric.compute()
    assert point.get_xdata()[0] == pytest.approx(float(value[threshold]))
    assert point.get_ydata()[0] == pytest.approx(float(value[name]))


def test_roc_and_pro_carry_the_point_of_the_threshold():
    metric = PixelMetrics(threshold=1.0)
    metric.update(MAPS, MASKS)
    figure, axes = metric.plot()
    scores = metric.compute().scores
    (roc, pro) = (ax.get_lines() for ax in axes)
    assert roc[1].get_xdata()[0] == pytest.approx(scores["false_positive_rate"].value)
    assert roc[1].get_ydata()[0] == pytest.approx(scores["recall"].value)
    assert pro[-1].get_ydata()[0] > 0 and figure is axes[0].get_figure()
    assert metric.plot(metric.compute())[0] is not figure


def test_values_of_several_steps_are_points():
    metric = PixelAUROC()
    values = []
    for image in range(2):
        metric.update(MAPS[image : image + 1], MASKS[image : image + 1])
        values.append(metric.compute())
    _, ax = metric.plot(values)
    assert ax.get_lines()[0].get_ydata() == pytest.approx([float(v) for v in values])
    images = ImageAUROC()
    images.update(MAPS, [1, 1, 0, 0])
    images.plot(images.compute())


def test_an_undefined_curve_says_why():
    metric = PixelAUROC()
    metric.update(MAPS, torch.zeros_like(MASKS))
    _, ax = metric.plot()
    assert "undefined" in labels(ax)[0]


def test_a_curve_that_was_computed_is_drawn_again():
    metric = PixelROC()
    metric.update(MAPS, MASKS)
    area = PixelAUROC()
    area.update(MAPS, MASKS)
    _, ax = metric.plot(metric.compute())
    assert labels(ax)[0] == f"auroc {float(area.compute()):.4f}"
