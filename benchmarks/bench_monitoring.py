"""What a latent monitor costs a training: one snapshot against one training step.

    python -m benchmarks.bench_monitoring --out docs/results/monitoring.json

Each round takes a training step and then a snapshot of eight images, with its picture and numbers
written to disk; both in processor time of one thread. ``share`` is the snapshot's time over that of
the steps from one snapshot to the next at the default interval: the median of paired ratios.
"""

import argparse
import inspect
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.pairing import PairedTimer
from captum_vae.files import write_json
from captum_vae.losses import ELBO
from captum_vae.models import MNISTVAE, UCSDVAE, ConvVAE, ResNet18VAE
from captum_vae.provenance import run_record
from captum_vae.training import LatentMonitor

INTERVAL = inspect.signature(LatentMonitor).parameters["every_n_steps"].default
ROUNDS = 9
MODELS = {
    "toy": (lambda: ConvVAE(8, image_size=28, channels=(8, 16), hidden=32), (1, 28, 28), 32),
    "MNIST": (MNISTVAE, (1, 28, 28), 128),
    "UCSD": (UCSDVAE, (1, 100, 100), 32),
    "ResNet18": (ResNet18VAE, (3, 256, 256), 8),
}
"""Name: how the VAE is built, the shape of its images, the batch of a training step."""


def measure(name: str) -> dict[str, Any]:
    """Seconds of a step and of a snapshot, and the share at the default interval."""
    build, shape, batch = MODELS[name]
    torch.manual_seed(0)
    vae = build().train()
    images = torch.rand(batch, *shape)
    elbo, optimizer = ELBO("optimal_gaussian"), torch.optim.Adam(vae.parameters())
    layers = [n for n, m in vae.encoder.named_modules() if isinstance(m, torch.nn.Conv2d)]

    def step() -> None:
        optimizer.zero_grad()
        output = vae(images)
        elbo(output[0], images, *output[1:3])["loss"].backward()
        optimizer.step()

    with tempfile.TemporaryDirectory() as folder:
        monitor = LatentMonitor(f"encoder.{layers[-1]}", images[:8].clone(), out=folder)
        steps = iter(range(1, 10**6))
        timer = PairedTimer(lambda: monitor.snapshot(vae, next(steps)), {"step": step}, clock="cpu")
        timer.run_rounds(ROUNDS + 1)
    ratio = timer.ratios()["step"]
    return {
        "model": name,
        "batch": batch,
        "step_milliseconds": round(1000 * min(timer.reference_seconds["step"]), 2),
        "snapshot_milliseconds": round(1000 * min(timer.seconds[1:]), 2),
        "share": {key: round(value / INTERVAL, 6) for key, value in ratio.items()},
    }


def main() -> None:
    """Measure every model and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(name) for name in MODELS]
    record = run_record(torch.device("cpu"), seed=0)
    protocol = {"every_n_steps": INTERVAL, "images": 8, "clock": "cpu", "rounds": ROUNDS}
    write_json(options.out, {**record, "protocol": protocol, "rows": rows})
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
