"""The evaluation's report: what is on the page and in its figures."""

import math

import numpy as np
import pytest
import torch

from captum_vae.metrics.localization.metric import PixelMetrics
from captum_vae.report.color_scale import ColorScale
from captum_vae.report.evaluation import (
    ShownImage,
    Threshold,
    draw_curves,
    draw_images,
    shared_scale,
    write_evaluation_report,
)
from captum_vae.report.tables import Table


def counts(*, noise: float, defects: bool = True):
    """Four images whose left half is anomalous, scored with some noise."""
    mask = torch.zeros(4, 8, 8, dtype=torch.bool)
    mask[:3, :, :4] = defects
    metric = PixelMetrics()
    metric.update(mask.float() + noise * torch.randn(4, 8, 8), mask)
    return metric.compute()


def shown(name: str = "kind/0.png", auroc: float = 0.9) -> ShownImage:
    image = torch.rand(3, 8, 8)
    return ShownImage(name, auroc, image, image[0] > 0.5, image[1])


def write(folder, **options):
    values = {
        "title": "Bottles",
        "lead": "lead",
        "table": Table(["scorer", "pixel AUROC"], [["good <maps>", "0.812 [0.700, 0.900]"]]),
        "main": "good <maps>",
        "scale": ColorScale(0.0, 2.5),
        "curves": {"good <maps>": counts(noise=0.3).counts},
    }
    return write_evaluation_report(folder, **{**values, **options}).read_text(encoding="utf-8")


def test_the_page_holds_table_pictures_choice_and_facts_escaped(tmp_path):
    text = write(
        tmp_path / "report",
        worst=[shown()],
        best=[shown()],
        choice=["Chosen without labels."],
        facts=[("protocol", "sigma 2 px"), ("seed", "0")],
        undefined=["Undefined for every scorer: the intervals."],
        threshold=Threshold(0.25, "train_quantile"),
    )
    assert "good &lt;maps&gt;" in text and "<maps>" not in text
    for words in (
        *("Bottles", "lead", "Chosen without labels.", "sigma 2 px", "worst.png", "curves.png"),
        *(
            "Undefined for every scorer",
            "scores of 0.25 or more (train_quantile)",
            "from 0 to 2.5:",
        ),
    ):
        assert words in text
    assert "normal.png" not in text and "<h2>Differences</h2>" not in text


def test_paired_differences_stand_in_a_table_of_their_own(tmp_path):
    text = write(tmp_path, differences=Table(["first - second", "p"], [["a - b", "0.01"]]))
    assert "<h2>Differences</h2>" in text and "<td>a - b</td>" in text


def test_the_scale_ends_at_the_median_of_the_defective_images():
    images = [(0.9, 1.0), (0.9, 2.0), (0.9, 100.0), (math.nan, 7.0), (math.nan, 8.0)]
    assert shared_scale(images) == ColorScale(0.0, 2.0)
    assert shared_scale(images[3:]) == ColorScale(0.0, 7.5)
    assert shared_scale([]) == ColorScale(0.0, 1.0)
    assert shared_scale([(0.9, -3.0)]) == ColorScale(-3.0, 0.0)


def test_pixels_from_the_threshold_on_stand_beside_the_truth():
    item = shown("x/1.png")
    threshold = float(item.anomaly_map.flatten().median())
    figure = draw_images([item], ColorScale(0.0, 2.0), threshold)
    assert "called\nanomalous" in [text.get_text() for text in figure.texts]
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    called = (item.anomaly_map >= threshold).numpy()
    shades = [np.asarray(a).reshape(*called.shape, -1)[..., 0] for a in drawn]
    assert any(np.array_equal(shade > 0.5, called) for shade in shades)


def test_every_image_stands_under_the_same_scale_with_its_truth_beside():
    figure = draw_images([shown("x/1.png"), shown("x/2.png", math.nan)], ColorScale(0.0, 2.0))
    texts = [text.get_text() for text in figure.texts]
    assert "x/1.png\nAUROC 0.900" in texts and "x/2.png\nno defect" in texts
    assert {"image", "ground truth", "anomaly map"} <= set(texts)
    bar = figure.axes[-1]
    assert bar.get_ylabel() == "anomaly score"
    assert len(figure.axes) == 2 * 3 + 1


def test_the_drawn_curves_are_those_of_the_counts():
    results = {"good": counts(noise=0.3), "bad": counts(noise=3.0)}
    figure = draw_curves({name: result.counts for name, result in results.items()})
    roc, pro = figure.axes
    assert (roc.get_title(), pro.get_title()) == ("ROC", "PRO")
    for line, result in zip(roc.lines, results.values(), strict=False):
        area = torch.trapezoid(torch.as_tensor(line.get_ydata()), torch.as_tensor(line.get_xdata()))
        assert float(area) == pytest.approx(result.scores["auroc"].value, abs=1e-6)
    assert pro.get_xlim() == (0, 0.3)
    dashes = {(line.get_color(), line.get_linestyle()) for line in roc.lines[:2]}
    assert len(dashes) == 2


def test_curves_that_are_undefined_are_left_out():
    figure = draw_curves({"nothing": counts(noise=1.0, defects=False).counts})
    assert len(figure.axes[0].lines) == 1  # the diagonal
