"""The evaluator against scikit-learn and direct computations on small data."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from captum_vae.data import Sample, SampleDataset, collate_samples
from captum_vae.localization import (
    FeatureDifference,
    LatentAttention,
    MeanImageDifference,
    NormalImages,
    Protocol,
    ReconstructionError,
    Row,
    compare,
    fit_rows,
    fit_thresholds,
    layers_of,
    measure_rows,
)
from captum_vae.localization.choosing import load
from captum_vae.localization.tables import markdown, to_csv
from captum_vae.models import ConvVAE
from captum_vae.posterior import as_adapter


class Spots(SampleDataset):
    """Grey images with a bright square on every second one; masks at twice the size."""

    def __init__(self, count: int, *, defects: bool, size: int = 16) -> None:
        self.count, self.defects, self.size = count, defects, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index + 1000 * self.defects)
        image = 0.3 + 0.2 * torch.rand(1, self.size, self.size, generator=generator)
        mask = torch.zeros(2 * self.size, 2 * self.size, dtype=torch.bool)
        label = int(self.defects and index % 2 == 0)
        if label:
            row, column = torch.randint(0, self.size - 5, (2,), generator=generator).tolist()
            image[:, row : row + 4, column : column + 4] += 0.15
            mask[2 * row : 2 * row + 8, 2 * column : 2 * column + 8] = True
        return Sample(image, mask, label, f"{index}.png", f"clip{index // 3}")


@pytest.fixture
def vae():
    return ConvVAE(4, image_size=16, channels=(4, 6), hidden=8).eval()


@pytest.fixture
def rows(vae):
    attention = LatentAttention(
        vae, "encoder.conv1", rectifier="abs", order="channelwise", baselines="mean_activation"
    )
    return [
        Row("attention", attention, Protocol(smoothing=1.5)),
        Row("attention, raw", attention, Protocol()),
        Row("control", FeatureDifference(vae, "encoder.conv2"), Protocol()),
        Row("reconstruction", ReconstructionError(vae), Protocol(size="map")),
        Row("mean image", MeanImageDifference(vae), Protocol(frames="anomalous")),
    ]


@pytest.fixture
def fitted(rows, vae):
    normal = load(Spots(10, defects=False), 4)
    fit_rows(rows, NormalImages(normal, vae, as_adapter(vae), layers_of(rows)))
    return rows


def directly(row: Row, dataset: SampleDataset):
    """All scores and truths of a row, one image at a time, without the evaluator."""
    scores, truths = [], []
    for sample in (dataset[i] for i in range(len(dataset))):
        maps, masks = row.protocol.prepare(row.scorer.score(sample.image[None]), [sample.mask])
        if masks[0] is not None:
            scores.append(maps[0].numpy().ravel())
            truths.append(masks[0].numpy().ravel())
    return np.concatenate(scores), np.concatenate(truths)


def test_every_row_equals_scikit_learn_on_maps_scored_one_by_one(fitted):
    test = Spots(9, defects=True)
    evaluation = measure_rows(fitted, load(test, 4), resamples=20)
    for row in fitted:
        scores, truths = directly(row, test)
        found = evaluation.row(row.name).pixel.scores
        assert found["auroc"].value == pytest.approx(roc_auc_score(truths, scores), abs=2e-6)
        wanted = average_precision_score(truths, scores)
        assert found["average_precision"].value == pytest.approx(wanted, abs=2e-6)


def test_image_auroc_is_that_of_the_maxima_of_the_prepared_maps(fitted):
    test = Spots(9, defects=True)
    row = fitted[0]
    evaluation = measure_rows([row], load(test, 4), units="none")
    samples = [test[i] for i in range(len(test))]
    maps = torch.cat([row.scorer.score(s.image[None]) for s in samples])
    prepared, _ = row.protocol.prepare(maps, [s.mask for s in samples])
    wanted = roc_auc_score([s.label for s in samples], [float(m.max()) for m in prepared])
    assert evaluation.rows[0].image_auroc.value == pytest.approx(wanted)


def test_the_batch_size_changes_no_count(fitted):
    results = [
        measure_rows(fitted, load(Spots(9, defects=True), size), units="none") for size in (1, 9)
    ]
    for one, other in zip(results[0].rows, results[1].rows, strict=True):
        assert one.pixel.counts.positives == other.pixel.counts.positives
        assert one.pixel.scores["auroc"].value == pytest.approx(
            other.pixel.scores["auroc"].value, abs=2e-6
        )


def test_measuring_twice_gives_the_same_to_the_bit(fitted):
    def measure():
        return measure_rows(fitted, load(Spots(9, defects=True), 4), resamples=50).to_dict()

    first, second = measure(), measure()
    for results in (first, second):
        for row in results["rows"]:
            del row["seconds"]
    assert json.dumps(first) == json.dumps(second)


def test_the_encoder_runs_once_per_batch_for_all_scorers_that_share_it(fitted, vae):
    measure_rows(fitted, load(Spots(4, defects=True), 4), units="none")  # finds the posterior
    calls = []
    handle = vae.encoder.conv1.register_forward_hook(lambda *_: calls.append(1))
    measure_rows(fitted, load(Spots(8, defects=True), 4), units="none")
    handle.remove()
    assert len(calls) == 2  # two batches, though three scorers read the model


def test_a_scorer_in_two_rows_scores_each_batch_once(fitted):
    calls = []
    scorer = fitted[0].scorer
    plain = scorer.layer_map
    scorer.layer_map = lambda *args: calls.append(1) or plain(*args)
    measure_rows(fitted, load(Spots(8, defects=True), 4), units="none")
    assert len(calls) == 2


def test_memory_does_not_hold_the_maps(fitted):
    """Everything the counters keep is counts: far fewer numbers than there were pixels."""
    test = Spots(40, defects=True)
    constant = [replace(fitted[3], scorer=_Stripes())]
    evaluation = measure_rows(constant, load(test, 4), units="none")
    counts = evaluation.rows[0].pixel.counts
    assert counts.positives + counts.negatives == 40 * 16 * 16
    assert len(counts.thresholds) <= 16


class _Stripes:
    """A third party's scorer: no class of ours, the row number as score."""

    def fit(self, normal):
        self.images = sum(len(batch) for batch in normal)
        return self

    def score(self, images):
        return torch.arange(16.0)[None, :, None].expand(len(images), 16, 16)


def test_a_third_partys_scorer_needs_only_fit_and_score(vae):
    row = Row("stripes", _Stripes(), Protocol())
    fit_rows([row], NormalImages(load(Spots(10, defects=False), 4), vae, as_adapter(vae)))
    assert row.scorer.images == 10
    evaluation = measure_rows([row], load(Spots(9, defects=True), 4), units="none")
    scores, truths = directly(row, Spots(9, defects=True))
    found = evaluation.rows[0].pixel.scores["auroc"].value
    assert found == pytest.approx(roc_auc_score(truths, scores), abs=1e-9)


def test_the_threshold_is_the_quantile_of_the_normal_maps_under_the_rows_protocol(fitted):
    normal = Spots(10, defects=False)
    thresholds = fit_thresholds(fitted, load(normal, 4))
    for row in fitted:
        maps = row.scorer.score(torch.stack([normal[i].image for i in range(10)]))
        size = (16, 16) if row.protocol.size == "map" else (32, 32)
        scores = row.protocol.transform(maps, size).numpy().ravel()
        wanted = np.quantile(scores, 0.995, method="inverted_cdf")
        assert thresholds[row.name] == pytest.approx(wanted, rel=1e-4)


def test_an_oracle_protocol_takes_no_threshold_from_normal_images(fitted):
    row = replace(fitted[0], protocol=Protocol(threshold="oracle"))
    assert fit_thresholds([row], load(Spots(4, defects=False), 4)) == {}


def test_the_rates_at_the_threshold_are_those_of_the_calls_it_makes(fitted):
    test = Spots(9, defects=True)
    scores, truths = directly(fitted[1], test)
    threshold = float(np.quantile(scores, 0.9))
    evaluation = measure_rows(
        fitted[1:2], load(test, 4), units="none", thresholds={fitted[1].name: threshold}
    )
    found = evaluation.rows[0].pixel.scores
    called = scores >= threshold
    assert found["recall"].value == pytest.approx(called[truths].mean(), abs=1e-3)
    assert found["false_positive_rate"].value == pytest.approx(called[~truths].mean(), abs=1e-3)
    assert found["recall"].threshold_source == "train_quantile"


def test_detailed_rows_list_every_image_with_its_own_auroc(fitted):
    test = Spots(5, defects=True)
    evaluation = measure_rows(
        fitted, load(test, 2), units="none", detailed=["attention"], indices=[10, 11, 12, 13, 14]
    )
    images = evaluation.row("attention").images
    assert [image.index for image in images] == [10, 11, 12, 13, 14]
    assert [image.auroc == image.auroc for image in images] == [True, False, True, False, True]
    assert evaluation.row("control").images == []


def test_paired_tests_compare_rows_of_the_same_frames(fitted):
    evaluation = measure_rows(fitted[:4], load(Spots(12, defects=True), 4), resamples=50)
    compared = compare(evaluation, [("attention", "attention, raw")], resamples=50)
    found = compared.differences["attention - attention, raw"]
    values = [
        evaluation.row(n).pixel.scores["auroc"].value for n in ("attention", "attention, raw")
    ]
    assert found.difference == pytest.approx(values[0] - values[1], abs=5e-3)


def test_comparing_without_counts_per_image_says_what_to_do(fitted):
    evaluation = measure_rows(fitted, load(Spots(4, defects=True), 4), units="none")
    with pytest.raises(ValueError, match="units='images'"):
        compare(evaluation, [("attention", "control")])


def test_a_set_without_defects_is_undefined_with_a_reason_in_every_table(fitted):
    evaluation = measure_rows(fitted, load(Spots(4, defects=False), 4), resamples=5)
    score = evaluation.rows[0].pixel.scores["auroc"]
    assert np.isnan(score.value) and "no anomalous" in score.reason
    assert "undefined" in markdown(evaluation)
    assert json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    lines = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    assert lines[0]["auroc"] == "" and lines[0]["scorer"] == "attention"


def test_the_csv_holds_the_numbers_in_full(fitted):
    evaluation = measure_rows(fitted, load(Spots(9, defects=True), 4), resamples=20)
    lines = list(csv.DictReader(io.StringIO(to_csv(evaluation))))
    for line, row in zip(lines, evaluation.rows, strict=True):
        for metric in ("auroc", "aupro", "average_precision", "f1_max", "best_iou"):
            assert float(line[metric]) == row.pixel.scores[metric].value
            assert float(line[f"{metric}_low"]) == row.intervals[metric].low
            assert float(line[f"{metric}_high"]) == row.intervals[metric].high


def test_rows_of_the_same_name_are_refused(fitted):
    with pytest.raises(ValueError, match=r"share the names \['attention'\]"):
        measure_rows([fitted[0], fitted[0]], [])


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="rows is empty"):
        measure_rows([], [])


def test_maps_of_a_wrong_shape_are_refused_naming_the_scorer():
    class Wrong(_Stripes):
        def score(self, images):
            return images.mean()

    batch = collate_samples([Spots(1, defects=True)[0]])
    with pytest.raises(ValueError, match=r"Wrong.score gives \(\)"):
        measure_rows([Row("wrong", Wrong(), Protocol())], [batch])
