"""The benchmark against scikit-learn and direct computations on small data."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

from captum_vae.data import Sample, SampleDataset, collate_samples
from captum_vae.localization import (
    FeatureDifference,
    LatentAttention,
    MeanImageDifference,
    Protocol,
    ReconstructionError,
    benchmark,
)
from captum_vae.models import ConvVAE
from tests.localization.spots import Rows, Spots

NORMAL = Spots(10, defects=False)
TEST = Spots(9, defects=True)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return ConvVAE(4, image_size=16, channels=(4, 6), hidden=8).eval()


@pytest.fixture(scope="module")
def scorers(vae):
    attention = LatentAttention(
        vae, "encoder.conv1", rectifier="abs", order="channelwise", baselines="mean_activation"
    )
    return {
        "attention": (attention, Protocol(smoothing=1.5)),
        "attention, raw": attention,
        "control": FeatureDifference(vae, "encoder.conv2"),
        "reconstruction": (ReconstructionError(vae), Protocol(size="map")),
        "mean image": (MeanImageDifference(vae), Protocol(frames="anomalous")),
    }


@pytest.fixture(scope="module")
def evaluation(scorers):
    return benchmark(scorers, NORMAL, TEST, batch_size=4, resamples=20, per_image=["attention"])


def measured(scorers, normal=NORMAL, test=TEST, **options):
    """A benchmark without intervals, which most tests do not need."""
    return benchmark(
        scorers, normal, test, **{"units": "none", "batch_size": 4, "progress": "off", **options}
    )


def directly(scorer, protocol, dataset):
    """All scores and truths of a scorer, one image at a time, without the benchmark."""
    scores, truths = [], []
    for sample in dataset:
        maps, masks = protocol.prepare(scorer.score(sample.image[None]), [sample.mask])
        if masks[0] is not None:
            scores.append(maps[0].numpy().ravel())
            truths.append(masks[0].numpy().ravel())
    return np.concatenate(scores), np.concatenate(truths)


def apart(entry):
    return entry if isinstance(entry, tuple) else (entry, Protocol())


def test_every_scorer_equals_scikit_learn_on_maps_scored_one_by_one(scorers, evaluation):
    for name, entry in scorers.items():
        scores, truths = directly(*apart(entry), TEST)
        found = evaluation.row(name).pixel.scores
        assert found["auroc"].value == pytest.approx(roc_auc_score(truths, scores), abs=2e-6)
        wanted = average_precision_score(truths, scores)
        assert found["average_precision"].value == pytest.approx(wanted, abs=2e-6)


def test_image_auroc_is_that_of_the_maxima_of_the_prepared_maps(scorers, evaluation):
    scorer, protocol = scorers["attention"]
    maps = torch.cat([scorer.score(s.image[None]) for s in TEST])
    prepared, _ = protocol.prepare(maps, [s.mask for s in TEST])
    wanted = roc_auc_score([s.label for s in TEST], [float(m.max()) for m in prepared])
    assert evaluation.row("attention").image_auroc.value == pytest.approx(wanted)


def test_the_batch_size_changes_no_count(scorers, evaluation):
    for one, other in zip(measured(scorers, batch_size=1).rows, evaluation.rows, strict=True):
        assert one.pixel.counts.positives == other.pixel.counts.positives
        assert one.pixel.scores["auroc"].value == pytest.approx(
            other.pixel.scores["auroc"].value, abs=2e-6
        )


def test_measuring_twice_gives_the_same_to_the_bit(scorers, evaluation):
    again = benchmark(scorers, NORMAL, TEST, batch_size=4, resamples=20)
    found = [json.loads(json.dumps(e.to_dict(), allow_nan=False)) for e in (evaluation, again)]
    for results in found:
        for row in results["rows"]:
            del row["seconds"]
    assert found[0] == found[1]


def test_the_encoder_runs_once_per_batch_for_all_scorers_that_share_it(scorers, vae):
    calls = []
    handle = vae.encoder.conv1.register_forward_hook(lambda *_: calls.append(1))
    oracle = Protocol(threshold="oracle")
    measured({name: (apart(entry)[0], oracle) for name, entry in scorers.items()}, test=TEST)
    handle.remove()
    # The means of the normal images in 3 batches, the test images in 3.
    assert len(calls) == 3 + 3


def test_a_scorer_in_two_lines_scores_each_batch_once():
    calls = []

    class Counting(Rows):
        def score(self, images):
            calls.append(len(images))
            return super().score(images)

    scorer = Counting()
    oracle = Protocol(threshold="oracle")
    measured({"a": (scorer, oracle), "b": (scorer, Protocol(smoothing=1, threshold="oracle"))})
    assert calls == [4, 4, 1]


def test_memory_does_not_hold_the_maps():
    """Everything that is kept is counts: far fewer numbers than there were pixels."""
    counts = measured({"rows": (Rows(), Protocol(size="map"))}, test=Spots(40, defects=True))
    counts = counts.rows[0].pixel.counts
    assert counts.positives + counts.negatives == 40 * 16 * 16
    assert len(counts.thresholds) <= 16


def test_a_third_partys_scorer_needs_only_fit_and_score():
    scorer = Rows()
    found = measured({"rows": scorer}).rows[0].pixel.scores["auroc"].value
    assert scorer.images == 10
    scores, truths = directly(scorer, Protocol(), TEST)
    assert found == pytest.approx(roc_auc_score(truths, scores), abs=1e-9)


def test_maps_with_a_channel_axis_count_as_those_without():
    class WithChannel(Rows):
        def score(self, images):
            return super().score(images).unsqueeze(1)

    both = measured({"plain": Rows(), "channel": WithChannel()})
    assert both.rows[0].pixel.scores == both.rows[1].pixel.scores


def test_scorers_of_several_models_are_fitted_each_on_its_own(vae):
    torch.manual_seed(1)
    other = ConvVAE(3, image_size=16, channels=(5, 7), hidden=8).eval()
    alone = [measured({"a": FeatureDifference(m, "encoder.conv2")}).rows[0] for m in (vae, other)]
    together = measured(
        {
            "a": FeatureDifference(vae, "encoder.conv2"),
            "b": FeatureDifference(other, "encoder.conv2"),
        }
    )
    for one, row in zip(alone, together.rows, strict=True):
        assert one.pixel.scores["auroc"].value == row.pixel.scores["auroc"].value


def test_the_threshold_is_the_quantile_of_the_normal_maps_under_the_scorers_protocol(
    scorers, evaluation
):
    for name, entry in scorers.items():
        scorer, protocol = apart(entry)
        maps = scorer.score(torch.stack([sample.image for sample in NORMAL]))
        size = (16, 16) if protocol.size == "map" else (32, 32)
        scores = protocol.transform(maps, size).numpy().ravel()
        wanted = np.quantile(scores, 0.995, method="inverted_cdf")
        assert evaluation.row(name).threshold == pytest.approx(wanted, rel=1e-4)


def test_an_oracle_protocol_takes_no_threshold_from_normal_images():
    row = measured({"rows": (Rows(), Protocol(threshold="oracle"))}).rows[0]
    assert row.threshold is None and "recall" not in row.pixel.scores


def test_the_rates_at_the_threshold_are_those_of_the_calls_it_makes(scorers, evaluation):
    scores, truths = directly(scorers["attention, raw"], Protocol(), TEST)
    row = evaluation.row("attention, raw")
    called = scores >= row.threshold
    found = row.pixel.scores
    assert found["recall"].value == pytest.approx(called[truths].mean(), abs=1e-3)
    assert found["false_positive_rate"].value == pytest.approx(called[~truths].mean(), abs=1e-3)
    assert found["recall"].threshold_source == "train_quantile"


def test_a_scorer_lists_every_image_with_its_own_auroc_on_request(evaluation):
    images = evaluation.row("attention").images
    assert [image.index for image in images] == list(range(9))
    assert [image.auroc == image.auroc for image in images] == [True, False] * 4 + [True]
    assert evaluation.row("control").images == []


def test_a_paired_test_is_the_difference_of_the_two_areas(scorers, evaluation):
    lines = {name: scorers[name] for name in ("attention", "attention, raw", "control")}
    found = benchmark(lines, NORMAL, TEST, against="attention", resamples=20, batch_size=4)
    assert list(found.differences) == ["attention - attention, raw", "attention - control"]
    values = [evaluation.row(n).pixel.scores["auroc"].value for n in ("attention", "control")]
    difference = found.differences["attention - control"]
    assert difference.difference == pytest.approx(values[0] - values[1], abs=5e-3)
    assert "attention - control" in str(found)
    pairs = [("control", "attention")]
    found = benchmark(lines, NORMAL, TEST, against=pairs, resamples=20, batch_size=4)
    assert list(found.differences) == ["control - attention"]


class Wrapped(torch.utils.data.Dataset):
    """A user's own data set of (image, mask) pairs."""

    def __init__(self, dataset: SampleDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        sample = self.dataset[index]
        return sample.image, sample.mask[None].float()


IMAGES = {name: torch.stack([s.image for s in d]) for name, d in (("n", NORMAL), ("t", TEST))}
MASKS = torch.stack([sample.mask for sample in TEST])


@pytest.mark.parametrize(
    ("normal", "test"),
    [
        (IMAGES["n"], (IMAGES["t"], MASKS)),
        (IMAGES["n"], (IMAGES["t"], list(MASKS))),
        (IMAGES["n"], (IMAGES["t"], MASKS[:, None].to(torch.uint8), [s.label for s in TEST])),
        (list(IMAGES["n"].split(3)), [(IMAGES["t"][:5], MASKS[:5]), (IMAGES["t"][5:], MASKS[5:])]),
        (Wrapped(NORMAL), Wrapped(TEST)),
        (DataLoader(Wrapped(NORMAL), batch_size=3), DataLoader(Wrapped(TEST), batch_size=2)),
        (
            DataLoader(NORMAL, collate_fn=collate_samples),
            DataLoader(TEST, batch_size=2, collate_fn=collate_samples),
        ),
        (TensorDataset(IMAGES["n"], torch.arange(10)), TensorDataset(IMAGES["t"], MASKS)),
        (DataLoader(TensorDataset(IMAGES["n"], torch.arange(10)), 4), TEST),
    ],
    ids=[
        "tensors",
        "masks listed",
        "labels",
        "batches",
        "pairs",
        "loader",
        "samples",
        "set",
        "mix",
    ],
)
def test_whatever_holds_the_images_gives_the_same_numbers(vae, evaluation, normal, test):
    scorers = {"control": FeatureDifference(vae, "encoder.conv2")}
    found = measured(scorers, normal, test).rows[0]
    wanted = evaluation.row("control")
    assert found.pixel.counts.positives == wanted.pixel.counts.positives
    auroc = wanted.pixel.scores["auroc"].value
    assert found.pixel.scores["auroc"].value == pytest.approx(auroc, abs=2e-6)
    assert found.image_auroc.value == pytest.approx(wanted.image_auroc.value)


def test_images_of_the_same_name_are_units_of_their_own():
    class Alike(Spots):
        def __getitem__(self, index):
            return super().__getitem__(index)._replace(name="image.png")

    rows = benchmark({"r": Rows()}, NORMAL, Alike(9, defects=True), resamples=5).rows
    assert len(rows[0].pixel.units.units) == 9


def test_the_csv_holds_the_numbers_in_full(evaluation):
    lines = list(csv.DictReader(io.StringIO(evaluation.to_csv())))
    for line, row in zip(lines, evaluation.rows, strict=True):
        for metric in ("auroc", "aupro", "average_precision", "f1_max", "best_iou"):
            assert float(line[metric]) == row.pixel.scores[metric].value
            assert float(line[f"{metric}_low"]) == row.intervals[metric].low
            assert float(line[f"{metric}_high"]) == row.intervals[metric].high
        assert line["undefined"] == ""


def test_it_prints_as_the_table_with_the_protocols(evaluation):
    text, markdown, page = str(evaluation), evaluation.to_markdown(), evaluation._repr_html_()
    for words in (text, markdown, page):
        for row in evaluation.rows:
            assert row.name in words and f"{row.pixel.scores['auroc'].value:.3f}" in words
        assert "masks resized to the map's size" in words or "masks resized to the map" in words
    assert markdown.startswith("| scorer | sigma |")
    assert page.startswith("<table><thead><tr><th>scorer</th>")


@pytest.mark.parametrize("size", ["mask", "map", (16, 16)])
@pytest.mark.parametrize("scale", [1e-9, 1e-12, 1.0])
def test_scores_in_double_precision_keep_their_order(scale, size):
    """Differences below float32's resolution decide the areas, as in scikit-learn."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[2:6, 3:9] = True
    noise = torch.randn(16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Fine(Rows):
        def score(self, images):
            return (1 + scale * (noise + mask)).expand(len(images), 16, 16)

    lines = {"fine": (Fine(), Protocol(size=size, threshold="oracle"))}
    found = measured(lines, test=(torch.zeros(2, 1, 16, 16), torch.stack([mask, mask])))
    wanted = roc_auc_score(mask.numpy().ravel(), (1 + scale * (noise + mask)).numpy().ravel())
    assert found.rows[0].pixel.scores["auroc"].value == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("choices", [{"smoothing": 1.5}, {"size": (9, 9)}, {}])
def test_maps_in_half_precision_are_prepared_in_single(dtype, choices):
    maps = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    protocol = Protocol(**choices)
    found, _ = protocol.prepare(maps, [EMPTY, EMPTY])
    wanted, _ = protocol.prepare(maps.float(), [EMPTY, EMPTY])
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def sample(mask, label):
    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    return Sample(image, mask, label, "", "")


EMPTY, FULL = torch.zeros(16, 16, dtype=torch.bool), torch.ones(16, 16, dtype=torch.bool)


class Fixed(SampleDataset):
    def __init__(self, *samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]._replace(name=f"{index}.png")


@pytest.mark.parametrize(
    ("samples", "protocol", "words"),
    [
        ([sample(EMPTY, 0)] * 3, {}, "no pixel of the 3 test images that count is anomalous. Add"),
        ([sample(None, 0)] * 2, {}, "no pixel of the 2 test images that count is anomalous"),
        ([sample(None, None)] * 4, {}, "none of the 4 test images counts under the protocol (all"),
        ([sample(None, 1)] * 4, {}, "none of the 4 test images counts"),
        ([sample(None, 0)] * 4, {"frames": "with_masks"}, "none of the 4 test images counts"),
        ([sample(EMPTY, 0)] * 2, {"frames": "anomalous"}, "(frames with an anomalous pixel only)"),
        ([sample(FULL, 1)] * 3, {}, "every pixel of the 3 test images that count is anomalous"),
        ([sample(FULL, 1), sample(None, None)], {}, "every pixel of the 1 test images"),
        ([sample(EMPTY, 0)] * 3, {}, "the image AUROC, since there is no anomalous pixel or image"),
        ([sample(FULL, 1)] * 3, {}, "the image AUROC, since there is no normal pixel or image"),
        ([sample(FULL, None), sample(EMPTY, None)], {}, "labelled normal and others labelled"),
        ([sample(FULL, 1)], {}, "the image AUROC"),
    ],
)
def test_what_is_undefined_is_said_with_its_reason_wherever_a_person_looks(
    samples, protocol, words
):
    lines = {"a": (Rows(), Protocol(**protocol)), "b": (Rows(), Protocol(smoothing=1, **protocol))}
    found = benchmark(lines, NORMAL, Fixed(*samples), resamples=5, against="a", progress="off")
    plain = " ".join(str(found).split())
    assert (
        "undefined" in found.table.text()
        and f"Undefined for every scorer: {words}" in plain
        or (words in plain)
    )
    assert words in found.to_markdown()
    entries = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    reasons = [score["reason"] for score in entries["rows"][0]["scores"].values()]
    assert any(reasons)
    line = next(csv.DictReader(io.StringIO(found.to_csv())))
    assert line["undefined"]


def test_one_image_has_no_interval_and_the_page_says_why():
    half = EMPTY.clone()
    half[:4] = True
    found = benchmark({"r": Rows()}, NORMAL, Fixed(sample(half, 1)), resamples=5)
    assert "Undefined for every scorer: the intervals, since 1 unit" in str(found)


class Ignoring(SampleDataset):
    """Spots of which the left half does not count."""

    def __len__(self):
        return len(TEST)

    def __getitem__(self, index):
        sample = TEST[index]
        ignored = torch.zeros_like(sample.mask)
        ignored[:, :16] = True
        return sample._replace(ignored=ignored & ~sample.mask, name=f"{index}")


@pytest.mark.parametrize("protocol", [Protocol(), Protocol(size="map"), Protocol(size=(20, 24))])
def test_pixels_that_a_data_set_ignores_are_left_out(vae, protocol):
    scorer = ReconstructionError(vae)
    found = measured({"error": scorer}, test=Ignoring(), protocol=protocol, per_image=["error"])
    scores, truths = [], []
    for sample in Ignoring():
        maps, masks = protocol.prepare(scorer.score(sample.image[None]), [sample.mask])
        counted = torch.ones_like(masks[0])
        counted[:, : counted.shape[1] // 2] = False
        counted |= masks[0]
        scores.append(maps[0][counted].numpy())
        truths.append(masks[0][counted].numpy())
    row = found.rows[0]
    expected = roc_auc_score(np.concatenate(truths), np.concatenate(scores))
    assert row.pixel.scores["auroc"].value == pytest.approx(expected, abs=1e-12)
    labels = [sample.label for sample in Ignoring()]
    by_image = roc_auc_score(labels, [image.max() for image in scores])
    assert row.image_auroc.value == pytest.approx(by_image, abs=1e-12)
    first = roc_auc_score(truths[0], scores[0])
    assert row.images[0].auroc == pytest.approx(first, abs=1e-12)
