"""How fast the readers feed images: decoding each time, or from memory.

    CAPTUM_VAE_DATA=<folder> pytest benchmarks/bench_data_loading.py --benchmark-only

A round is one epoch of a ``DataLoader`` without workers, so that the numbers are those of one CPU
core. ``images_per_second`` is from the median round; ``decodes`` counts the image files decoded
during all measured rounds, which a filled cache brings to zero.
"""

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from captum_vae.data import (
    UCSD,
    Augmented,
    ImageFileDataset,
    MovingPedestrians,
    MVTec,
    SampleDataset,
    SyntheticDefects,
    collate_samples,
    image_dataset,
)

ROUNDS = 5


@pytest.fixture(scope="module")
def data_root() -> Path:
    root = os.environ.get("CAPTUM_VAE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("set CAPTUM_VAE_DATA to a folder with ucsd/ and mvtec_ad/")
    return Path(root)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The image files decoded so far."""
    decoded: list[str] = []
    original = image_dataset.read_image

    def counted(path: Path, *arguments: Any) -> Any:
        decoded.append(path.name)
        return original(path, *arguments)

    monkeypatch.setattr(image_dataset, "read_image", counted)
    yield decoded


def bottle(root: Path, **options: Any) -> ImageFileDataset:
    return MVTec(root / "mvtec_ad", "bottle", image_size=256, **options)


def ped2(root: Path, **options: Any) -> ImageFileDataset:
    return UCSD(root / "ucsd", "ped2", image_size=100, **options)


def epoch(dataset: SampleDataset) -> Callable[[], int]:
    loader = DataLoader(dataset, batch_size=32, collate_fn=collate_samples)
    return lambda: sum(len(batch.image) for batch in loader)


def measure(benchmark: Any, dataset: SampleDataset, rounds: int = ROUNDS) -> None:
    images = benchmark.pedantic(epoch(dataset), rounds=rounds, warmup_rounds=1)
    benchmark.extra_info.update(
        images=images,
        images_per_second=round(images / benchmark.stats.stats.median),
        machine=platform.processor() or platform.machine(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )


@pytest.mark.parametrize("cache", ["none", "memory"])
@pytest.mark.parametrize("reader", [bottle, ped2])
def test_loading(
    benchmark: Any,
    data_root: Path,
    decodes: list[str],
    reader: Callable[..., ImageFileDataset],
    cache: str,
) -> None:
    dataset = reader(data_root, cache=cache)
    dataset.preload()
    decodes.clear()
    measure(benchmark, dataset)
    benchmark.extra_info["decodes"] = len(decodes)
    # One warm-up round and the measured ones.
    expected = (ROUNDS + 1) * len(dataset) if cache == "none" else 0
    assert len(decodes) == expected


@pytest.mark.parametrize("reader", [bottle, ped2])
def test_filling_the_cache(
    benchmark: Any, data_root: Path, reader: Callable[..., ImageFileDataset]
) -> None:
    """Opening the data set and decoding everything once: what the first run pays."""

    def open_and_fill() -> int:
        dataset = reader(data_root)
        dataset.preload()
        return len(dataset)

    images = benchmark.pedantic(open_and_fill, rounds=3)
    benchmark.extra_info["images_per_second"] = round(images / benchmark.stats.stats.median)


def test_augmenting_bottle(benchmark: Any, data_root: Path) -> None:
    """The MVTec experiment's rotation and mirror, from the memory cache."""
    measure(benchmark, Augmented(bottle(data_root), rotation=30, mirror=0.5))


def test_painting_defects_on_bottle(benchmark: Any, data_root: Path) -> None:
    measure(benchmark, SyntheticDefects(bottle(data_root)), rounds=2)


def test_rendering_pedestrians(benchmark: Any) -> None:
    measure(benchmark, MovingPedestrians("test", clips=4, frames=40))
