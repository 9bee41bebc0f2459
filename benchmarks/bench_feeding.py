"""Whether the readers keep up with training: loading a batch against a training step on it.

    CAPTUM_VAE_DATA=<folder> pytest benchmarks/bench_feeding.py --benchmark-only [--clock cpu]

Each round loads one batch (augmentation included, from the filled memory cache, in this process)
and then takes one optimizer step on a batch of the same size. ``feeds`` is how many times faster
loading was: the median of paired ratios, which holds on a busy machine.
"""

import os
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import captum_vae.commands
from benchmarks.pairing import PairedTimer, spread
from captum_vae.training.batches import SeededImages, image_of
from captum_vae.training.building import build_dataset, build_objective, build_vae
from captum_vae.training.configuration import DataConfig, ModelConfig, ObjectiveConfig

CONFIGS = Path(captum_vae.commands.__file__).parent / "configs" / "fit"
ROUNDS = 12


@pytest.mark.parametrize("name", ["mnist_one", "ped2_ucsd", "bottle_conv", "bottle_resnet18"])
def test_loading_against_training(
    benchmark: Any, request: pytest.FixtureRequest, name: str
) -> None:
    if not os.environ.get("CAPTUM_VAE_DATA"):
        pytest.skip("set CAPTUM_VAE_DATA to a folder with mnist/, ucsd/ and mvtec_ad/")
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    size = config["trainer"]["batch_size"]
    dataset = build_dataset(DataConfig(**config["data"]))
    model = build_vae(ModelConfig(**config["model"]), image_of(dataset[0]).shape).train()
    objective = build_objective(ObjectiveConfig(**config["objective"]), model)
    optimizer = objective.optimizers(model)["loss"]
    images = SeededImages(dataset, seed=0)
    total = len(dataset)  # type: ignore[arg-type]
    starts = cycle(range(0, total - size, size))

    def load() -> torch.Tensor:
        start = next(starts)
        return torch.stack(images.__getitems__([(start, start + i) for i in range(size)]))

    for _ in range(-(-total // size) if total < 5000 else 2 * ROUNDS):
        batch = load()  # fills the cache

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective(model, batch, 1)["loss"].backward()
        optimizer.step()

    timer = PairedTimer(step, {"load": load}, clock=request.config.getoption("--clock"))
    benchmark.pedantic(
        timer.run, setup=timer.run_references, rounds=ROUNDS, warmup_rounds=1, iterations=1
    )
    feeds = timer.ratios()["load"]
    benchmark.extra_info.update(
        feeds=feeds,
        images_per_second_loading=round(size / spread(timer.reference_seconds["load"])["median"]),
        images_per_second_training=round(size / spread(timer.seconds)["median"], 1),
        threads=torch.get_num_threads(),
    )
    print(f"\n{name}: loading feeds {feeds['median']:.1f}x what training consumes")
