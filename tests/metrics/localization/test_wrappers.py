"""Metrics inside torchmetrics' wrappers, casts, copies and inference mode: right, or refused."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers import BootStrapper, MetricTracker, Running

from captum_vae.metrics import AUPRO, ImageAUROC, PixelAUROC, PixelMetrics
from captum_vae.metrics.localization import counts as counts_module


def batches(count: int = 5) -> list[tuple[Tensor, Tensor]]:
    """Batches of 3 maps in one factor of two, float64 in every second batch."""
    generator = torch.Generator().manual_seed(4)
    drawn = []
    for index in range(count):
        masks = torch.rand(3, 16, 16, generator=generator) < 0.2
        maps = 1 + (torch.randn(3, 16, 16, generator=generator) + index / 3 * masks).sigmoid()
        drawn.append((maps.double() * (1 - 1e-9) if index % 2 else maps, masks))
    return drawn


def value(metric: type, parts: list[tuple[Tensor, Tensor]]) -> float:
    counting = metric()
    for maps, masks in parts:
        counting.update(maps, masks)
    return float(counting.compute())


@pytest.fixture(params=[False, True], ids=["waiting", "slabs"])
def in_slabs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count at once where the metric would wait, so that states are changed in place."""
    if request.param:
        monkeypatch.setattr(counts_module, "_WAITING", 300)
        monkeypatch.setattr(counts_module, "_PAIRS_WORTH_A_SLAB", 10)


METRICS = [PixelAUROC, AUPRO]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("forward", [False, True])
def test_running_gives_the_value_of_its_window(metric: type, forward: bool, in_slabs: None) -> None:
    running, parts = Running(metric(), window=2), batches()
    for index, (maps, masks) in enumerate(parts):
        if forward:
            assert float(running(maps, masks)) == value(metric, [parts[index]])
        else:
            running.update(maps, masks)
        expected = value(metric, parts[max(index - 1, 0) : index + 1])
        assert float(running.compute()) == expected
        assert float(running.compute()) == expected
    running.reset()
    running.update(*parts[0])
    assert float(running.compute()) == value(metric, parts[:1])


def test_running_image_auroc_is_that_of_its_window() -> None:
    running = Running(ImageAUROC(), window=2)
    scores = [torch.tensor([0.1, 0.9]), torch.tensor([0.9, 0.1]), torch.tensor([0.5, 0.6])]
    found = []
    for part in scores:
        running.update(part, [0, 1])
        found.append(running.compute().value)
    assert found == [1.0, 0.5, 0.25]


def test_running_cast_to_half_precision_is_refused() -> None:
    running = Running(PixelAUROC(), window=2)
    running.update(*batches()[0])
    running.set_dtype(torch.float16)
    with pytest.raises(TypeError, match="float16; wanted torch.int.*set_dtype"):
        running.compute()


@pytest.mark.parametrize("metric", METRICS)
def test_forward_gives_each_batch_and_adds_it(metric: type, in_slabs: None) -> None:
    counting, parts = metric(), batches()
    for maps, masks in parts:
        assert float(counting(maps, masks)) == value(metric, [(maps, masks)])
    assert float(counting.compute()) == value(metric, parts)


MERGES = pytest.mark.skipif(
    not hasattr(Metric, "merge_state"), reason="this torchmetrics merges no states"
)


@MERGES
@pytest.mark.parametrize("metric", METRICS)
def test_merged_states_are_added_and_the_other_metric_stays(metric: type, in_slabs: None) -> None:
    parts, first, second = batches(), metric(), metric()
    first.update(*parts[0])
    for part in parts[1:]:
        second.update(*part)
    first.merge_state(second)
    assert float(first.compute()) == value(metric, parts)
    first.update(*parts[0])
    assert float(second.compute()) == value(metric, parts[1:])


def test_a_collection_resets_clones_and_goes_on(in_slabs: None) -> None:
    parts = batches()
    collection = MetricCollection([PixelAUROC(), AUPRO()])
    collection.update(*parts[0])
    collection.reset()
    for part in parts[:3]:
        collection.update(*part)
    copied = collection.clone()
    collection.update(*parts[3])
    for found, seen in ((copied.compute(), parts[:3]), (collection.compute(), parts[:4])):
        assert {name: float(score) for name, score in found.items()} == {
            metric.__name__: value(metric, seen) for metric in METRICS
        }


@pytest.mark.parametrize("first", ["no defect", "all left out", "all defect"])
def test_a_collection_shares_no_counts_between_metrics_that_count_differently(first: str) -> None:
    parts = batches()
    maps, masks = parts[0]
    plain = [(maps, masks & False), (maps, masks | True)]
    begin = {"no defect": plain[0], "all left out": (maps, [None] * 3), "all defect": plain[1]}
    parts[0] = begin[first]
    collection = MetricCollection([PixelAUROC(), AUPRO()])
    for part in parts:
        collection.update(*part)
    for name, found in collection.compute().items():
        assert float(found) == value({"PixelAUROC": PixelAUROC, "AUPRO": AUPRO}[name], parts)


def test_a_collection_shares_no_scores_between_poolings() -> None:
    collection = MetricCollection({"max": ImageAUROC(), "mean": ImageAUROC(pooling="mean")})
    flat = torch.ones(2, 4, 4) * torch.tensor([0.1, 0.2]).view(2, 1, 1)
    collection.update(flat, [0, 0])  # the largest value is the mean
    peaked = flat * 0
    peaked[:, 0, 0] = torch.tensor([0.3, 0.0])
    collection.update(peaked, [1, 1])
    values = {name: metric.compute().value for name, metric in collection.items()}
    assert values == {"max": 0.5, "mean": 0.0}


def test_a_tracker_keeps_every_epoch_and_finds_the_best() -> None:
    tracker, parts = MetricTracker(PixelAUROC()), batches(3)
    for part in parts:
        tracker.increment()
        tracker.update(*part)
    expected = [value(PixelAUROC, [part]) for part in parts]
    assert tracker.compute_all().tolist() == expected
    best, step = tracker.best_metric(return_step=True)
    assert (best, step) == (max(expected), expected.index(max(expected)))


def test_a_bootstrapper_resamples_images() -> None:
    maps, masks = batches(1)[0]
    wrapped = BootStrapper(
        PixelAUROC(), num_bootstraps=8, raw=True, sampling_strategy="multinomial"
    )
    torch.manual_seed(0)
    wrapped.update(maps, masks)
    found = wrapped.compute()["raw"]
    torch.manual_seed(0)
    for score in found:
        rows = torch.multinomial(torch.ones(3), num_samples=3, replacement=True)
        assert float(score) == value(PixelAUROC, [(maps[rows], masks[rows])])


CASTS: dict[str, Callable[[Any], Any]] = {
    "set_dtype float16": lambda metric: metric.set_dtype(torch.float16),
    "set_dtype bfloat16": lambda metric: metric.set_dtype(torch.bfloat16),
    "set_dtype float64": lambda metric: metric.set_dtype(torch.float64),
    "to float16": lambda metric: metric.to(torch.float16),
    "half": lambda metric: metric.half(),
    "double": lambda metric: metric.double(),
    "half of a module": lambda metric: nn.ModuleList([metric]).half()[0],
    "to float16 of a module": lambda metric: nn.ModuleList([metric]).to(torch.float16)[0],
    "clone": lambda metric: metric.clone(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda metric: pickle.loads(pickle.dumps(metric)),
    "state_dict": lambda metric: loaded(metric),
}


def loaded(metric: Any) -> Any:
    metric.persistent(True)
    fresh = PixelMetrics(units="images")
    fresh.persistent(True)
    fresh.load_state_dict(metric.state_dict())
    return fresh


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_counts_survive_casts_and_copies_in_the_middle(cast: str, in_slabs: None) -> None:
    parts, metric, plain = batches(), PixelMetrics(units="images"), PixelMetrics(units="images")
    names = [[f"{index}{image}" for image in range(3)] for index in range(5)]
    for index, part in enumerate(parts):
        if index == 3:
            metric = CASTS[cast](metric)
        metric.update(*part, names[index])
        plain.update(*part, names[index])
    assert metric.compute().scores == plain.compute().scores
    assert torch.equal(metric.compute().units.overlap, plain.compute().units.overlap)


def test_image_scores_keep_their_order_when_cast() -> None:
    metric = ImageAUROC()
    metric.update(torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64), [0, 1])
    assert metric.to(torch.float16).compute().value == 1.0


INFERENCE: dict[str, list[str]] = {
    "first": ["update in", "update"],
    "second": ["update", "update in", "update"],
    "reset": ["update", "reset in", "update", "update in"],
    "compute": ["update", "compute in", "update"],
    "clone": ["update", "clone in", "update"],
    "forward": ["forward in", "update", "forward", "forward in", "update"],
    "all": ["update in", "clone in", "update in", "compute in", "compute"],
    "merge": ["update", "merge in", "update"],
    "move": ["update in", "move in", "update"],
    "pickle": ["update in", "pickle in", "update", "compute in"],
}


@pytest.mark.parametrize(
    "story", [pytest.param("merge", marks=MERGES), *(s for s in INFERENCE if s != "merge")]
)
def test_updates_in_and_out_of_inference_mode_are_counted(story: str, in_slabs: None) -> None:
    metric, seen, parts = PixelMetrics(), [], batches()
    for index, step in enumerate(INFERENCE[story]):
        word, *inside = step.split()
        with torch.inference_mode(bool(inside)):
            maps, masks = parts[index][0] + 0, parts[index][1] | False
            if word in ("update", "forward"):
                (metric.update if word == "update" else metric)(maps, masks)
                seen.append((maps, masks))
            elif word == "reset":
                metric.reset()
                seen = []
            elif word == "merge":
                other = PixelMetrics()
                other.update(maps, masks)
                metric.merge_state(other)
                seen.append((maps, masks))
            elif word == "compute":
                metric.compute()
            else:
                change = {"clone": "clone", "move": "to float16", "pickle": "pickle"}[word]
                metric = CASTS[change](metric)
    plain = PixelMetrics()
    for maps, masks in seen:
        plain.update(maps, masks)
    assert metric.compute().scores == plain.compute().scores


def test_maps_that_require_gradients_are_counted_without_them() -> None:
    maps, masks = batches()[0]
    metric = PixelAUROC()
    metric.update(maps.requires_grad_(), masks)
    assert float(metric.compute()) == value(PixelAUROC, [(maps.detach(), masks)])
    assert maps.grad is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("compute_on_cpu", [False, True])
def test_maps_may_lie_elsewhere_than_the_metric(
    device: str, compute_on_cpu: bool, in_slabs: None
) -> None:
    metric = PixelMetrics(compute_on_cpu=compute_on_cpu).to(device)
    plain = PixelMetrics()
    for maps, masks in batches():
        metric.update(maps.cuda(), masks)
        plain.update(maps, masks)
    assert metric.compute().scores == plain.compute().scores
