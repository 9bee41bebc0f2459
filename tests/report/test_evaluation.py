"""The evaluation's report: what is on the page and in its figures."""

import math

import numpy as np
import pytest
import torch

from captum_vae.localization.evaluation import Evaluation, ImageResult, RowResult, compare
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.shown import spread_over_groups
from captum_vae.metrics.localization.bootstrap import bootstrap_interval
from captum_vae.metrics.localization.curves import LocalizationScore
from captum_vae.metrics.localization.metric import PixelMetrics
from captum_vae.report.color_scale import ColorScale
from captum_vae.report.evaluation import (
    ShownImage,
    draw_curves,
    draw_images,
    shared_scale,
    write_evaluation_report,
)


def row(name: str, *, noise: float) -> RowResult:
    """Four images whose left half is anomalous, scored with some noise."""
    mask = torch.zeros(4, 8, 8, dtype=torch.bool)
    mask[:3, :, :4] = True
    maps = mask.float() + noise * torch.randn(4, 8, 8)
    metric = PixelMetrics(units="images")
    metric.update(maps, mask, ["a", "b", "c", "d"])
    pixel = metric.compute()
    images = [
        ImageResult(i, f"kind/{i}.png", "kind", 0.9 if i < 3 else math.nan, 0.5 + i)
        for i in range(4)
    ]
    intervals = {"auroc": bootstrap_interval(pixel.units, resamples=20)}
    image_auroc = LocalizationScore("image_auroc", 0.75)
    return RowResult(name, Protocol(smoothing=2), pixel, image_auroc, intervals, images, 1.0)


@pytest.fixture
def evaluation():
    return Evaluation([row("good <maps>", noise=0.3), row("bad maps", noise=3.0)])


def shown(name: str = "kind/0.png", auroc: float = 0.9) -> ShownImage:
    image = torch.rand(3, 8, 8)
    return ShownImage(name, auroc, image, image[0] > 0.5, image[1])


def test_the_page_holds_table_pictures_choice_and_protocol_escaped(evaluation, tmp_path):
    page = write_evaluation_report(
        tmp_path / "report",
        evaluation,
        title="Bottles",
        main="good <maps>",
        worst=[shown()],
        best=[shown()],
        choice=["Chosen without labels."],
        facts=[("seed", "0")],
    )
    text = page.read_text()
    assert "good &lt;maps&gt;" in text and "<maps>" not in text
    for words in ("Bottles", "Chosen without labels.", "sigma 2 px", "worst.png", "curves.png"):
        assert words in text
    assert "normal.png" not in text
    auroc = evaluation.rows[0].pixel.scores["auroc"].value
    assert f"pixel AUROC {auroc:.3f} over 4 images" in text


def test_the_scale_ends_at_the_median_of_the_defective_images():
    images = [
        ImageResult(place, str(place), "g", auroc, highest)
        for place, (auroc, highest) in enumerate(
            [(0.9, 1.0), (0.9, 2.0), (0.9, 100.0), (math.nan, 7.0), (math.nan, 8.0)]
        )
    ]
    assert shared_scale(images) == ColorScale(0.0, 2.0)
    assert shared_scale(images[3:]) == ColorScale(0.0, 7.5)
    assert shared_scale([]) == ColorScale(0.0, 1.0)


def test_the_page_says_how_far_its_scale_goes(evaluation, tmp_path):
    page = write_evaluation_report(
        tmp_path, evaluation, title="t", main="bad maps", worst=[shown()], best=[]
    )
    scale = shared_scale(evaluation.row("bad maps").images)
    assert f"from 0 to {scale.high:.3g}:" in page.read_text()


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


def test_the_drawn_curves_are_those_of_the_counts(evaluation):
    figure = draw_curves(evaluation.rows)
    roc, pro = figure.axes
    assert (roc.get_title(), pro.get_title()) == ("ROC", "PRO")
    for line, result in zip(roc.lines, evaluation.rows, strict=False):
        area = torch.trapezoid(torch.as_tensor(line.get_ydata()), torch.as_tensor(line.get_xdata()))
        assert float(area) == pytest.approx(result.pixel.scores["auroc"].value, abs=1e-6)
    assert pro.get_xlim() == (0, 0.3)
    dashes = {(line.get_color(), line.get_linestyle()) for line in roc.lines[:2]}
    assert len(dashes) == 2


def test_paired_differences_stand_in_a_table_of_their_own(evaluation, tmp_path):
    compared = compare(evaluation, [("good <maps>", "bad maps")], resamples=20)
    page = write_evaluation_report(
        tmp_path, compared, title="t", main="bad maps", worst=[], best=[]
    )
    (difference,) = compared.differences.values()
    text = page.read_text()
    assert "<h2>Differences</h2>" in text
    assert f"<td>{difference.difference:+.3f}</td>" in text


def test_a_cell_of_the_page_breaks_before_an_interval_not_within(evaluation, tmp_path):
    compared = compare(evaluation, [("good <maps>", "bad maps")], resamples=20)
    page = write_evaluation_report(
        tmp_path, compared, title="t", main="bad maps", worst=[], best=[]
    )
    (d,) = compared.differences.values()
    first = compared.rows[0].intervals["auroc"]
    text = page.read_text(encoding="utf-8")
    assert f" [{first.low:.3f},\N{NO-BREAK SPACE}{first.high:.3f}]</td>" in text
    assert f"<td>[{d.low:+.3f},\N{NO-BREAK SPACE}{d.high:+.3f}]</td>" in text


def test_a_row_that_does_not_exist_is_a_key_error(evaluation, tmp_path):
    with pytest.raises(KeyError, match="no such row"):
        write_evaluation_report(
            tmp_path, evaluation, title="t", main="no such row", worst=[], best=[]
        )


def test_a_set_without_defects_still_gives_a_page(tmp_path):
    metric = PixelMetrics()
    metric.update(torch.rand(2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.bool))
    nothing = LocalizationScore("image_auroc", math.nan, "no anomalous image")
    only = RowResult("only", Protocol(), metric.compute(), nothing, {}, [], 0.0)
    page = write_evaluation_report(
        tmp_path, Evaluation([only]), title="t", main="only", worst=[], best=[]
    )
    assert "undefined" in page.read_text()


def test_the_worst_images_come_from_different_clips_first():
    images = [ImageResult(i, str(i), group, 0.1 * i, 1.0) for i, group in enumerate("aaabbc")]
    assert [image.group for image in spread_over_groups(images)] == list("abcaba")
