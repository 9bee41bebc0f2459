"""Maps kept from one pass serve later passes over the same images, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_vae.localization import Protocol, benchmark
from captum_vae.localization.map_store import MapStore


class Brightness:
    """The image itself as its map; counts its calls."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self.calls = 0

    def fit(self, normal: object) -> Brightness:
        return self

    def score(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.factor * images.mean(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_maps_come_back_bit_for_bit_in_any_order_and_batches(dtype: torch.dtype) -> None:
    scorer, maps = Brightness(), torch.rand(5, 3, 4).to(dtype)
    with MapStore() as store:
        store.put(scorer, [0, 1, 2], maps[:3], 3.0)
        store.put(scorer, [7, 9], maps[3:], 2.0)
        found = store.get(scorer, [9, 1])
        assert found is not None
        assert torch.equal(found[0], maps[[4, 1]])
        assert found[0].dtype == dtype
        assert found[1] == pytest.approx(2.0)


def test_an_image_or_a_scorer_that_is_not_known_gives_nothing() -> None:
    scorer = Brightness()
    with MapStore() as store:
        store.put(scorer, [0, 1], torch.rand(2, 3, 3), 1.0)
        assert store.get(scorer, [1, 2]) is None
        assert store.get(Brightness(), [0, 1]) is None


def test_beyond_its_room_a_store_keeps_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_vae.localization.map_store._MOST", 100)
    scorer = Brightness()
    with MapStore() as store:
        store.put(scorer, [0], torch.rand(1, 4, 4), 1.0)  # 64 bytes
        store.put(scorer, [1], torch.rand(1, 4, 4), 1.0)
        assert store.get(scorer, [0]) is not None
        assert store.get(scorer, [1]) is None


def test_a_second_benchmark_with_the_store_scores_no_test_image_again() -> None:
    torch.manual_seed(0)
    images = torch.rand(6, 1, 8, 8)
    masks = images[:, 0] > 0.8
    normal = torch.rand(4, 1, 8, 8)
    scorer = Brightness()
    options = {"protocol": Protocol(threshold="oracle"), "batch_size": 4, "progress": "off"}
    with MapStore() as store:
        first = benchmark({"a": scorer}, normal, (images, masks), store=store, **options)
        calls = scorer.calls
        options["batch_size"] = 2
        again = benchmark({"a": scorer}, normal, (images, masks), store=store, **options)
        assert scorer.calls == calls
    assert first.row("a").pixel.scores == again.row("a").pixel.scores
