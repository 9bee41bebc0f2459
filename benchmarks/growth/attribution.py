"""Attribution in the number of latent dimensions, the side of the images and the batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.growth.measuring import Growth, Row, up_to
from benchmarks.memory import peak_bytes
from captum_vae import LatentGradCAM
from captum_vae.models import MNISTVAE, ResNet18VAE, TimmVAE

ROUNDS, BUDGET = 5, 2.0
"""A call is timed this often at most, and no more once so many seconds have passed."""


class PooledEncoder(nn.Module):
    """Two halving convolutions, the mean over positions, a Linear to 32 means; any image size."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU()
        self.pool, self.mean = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 32)

    def encode(self, x: Tensor) -> Tensor:
        """Means (B, 32) of images (B, 1, H, W)."""
        features = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.mean(self.pool(features).flatten(1))  # type: ignore[no-any-return]


def measure(smoke: bool, largest: float) -> list[Growth]:
    """All three growths."""
    torch.manual_seed(0)
    return [in_dimensions(smoke, largest), in_side(smoke, largest), in_batch(smoke, largest)]


def in_dimensions(smoke: bool, largest: float) -> Growth:
    """Latent dimensions, at a fixed batch."""
    sizes = up_to(largest, (10, 20) if smoke else (10, 32, 100, 320, 1024, 4096))
    layers = ("relu2",) if smoke else ("relu2", "conv2", "relu1")
    rows: list[Row] = []
    for dims in sizes:
        vae, images = MNISTVAE(dims).eval(), torch.rand(8, 1, 28, 28)
        rows += points("MNIST encoder", dims, vae, "encoder", layers, images)
    for dims in sizes if not smoke else ():
        deep, images = ResNet18VAE(dims, image_size=128).eval(), torch.rand(1, 3, 128, 128)
        rows += points("ResNet18", dims, deep, "encoder.backbone", ("layer4", "layer2"), images)
    return Growth(
        "Attribution in the number of latent dimensions",
        "latent dimensions",
        "Maps of every latent dimension of the published encoders: 8 images of 28 x 28 pixels, or "
        f"for ResNet18 one of 128 x 128. {_HOW}",
        rows,
        _expected(rows, 1.0),
    )


def in_side(smoke: bool, largest: float) -> Growth:
    """Image side, one image, 32 dimensions."""
    rows: list[Row] = []
    for side in up_to(largest, (28, 64) if smoke else (28, 64, 128, 256, 512, 1024, 2048)):
        image = torch.rand(1, 1, side, side)
        pooled = PooledEncoder().eval()
        rows += [
            point(f"two convolutions, {layer}", side, pooled, layer, image, posterior="encode:mean")
            for layer in ("relu2", "relu1")
        ]
        if side < 64:
            continue
        deep = TimmVAE(
            "resnet18",
            latent_dims=32,
            image_size=side,
            head="pool",
            hidden=None,
            decoder_channels=(8, 8),
        )
        images = torch.rand(1, 3, side, side)
        layers = ("layer4", "layer2")
        rows += points("ResNet18, pooled", side, deep.eval(), "encoder.backbone", layers, images)
    return Growth(
        "Attribution in the side of the image",
        "pixels a side",
        "Maps of 32 latent dimensions of one image, by encoders that end in a mean over positions "
        f"and so take any size. In proportion to the pixels is a slope of 2. {_HOW}",
        rows,
        _expected(rows, 2.0),
    )


def in_batch(smoke: bool, largest: float) -> Growth:
    """Batch, 32 dimensions."""
    rows: list[Row] = []
    vae = MNISTVAE(32).eval()
    layers = ("relu2",) if smoke else ("relu2", "conv2", "relu1")
    for batch in up_to(largest, (1, 4) if smoke else (1, 4, 16, 64, 256, 1024, 4096)):
        images = torch.rand(batch, 1, 28, 28)
        rows += points("MNIST encoder", batch, vae, "encoder", layers, images)
    return Growth(
        "Attribution in the batch",
        "images in a batch",
        f"Maps of 32 latent dimensions by the published MNIST encoder, 28 x 28 pixels. {_HOW}",
        rows,
        _expected(rows, 1.0),
    )


_HOW = (
    "Processor seconds are the least of up to five calls by one thread; memory is the most bytes "
    "of tensors alive at once above what was there before, the maps themselves included."
)


def points(
    name: str, size: int, vae: nn.Module, within: str, layers: Iterable[str], images: Tensor
) -> list[Row]:
    """One point for each layer of a part of the model."""
    return [point(f"{name}, {layer}", size, vae, f"{within}.{layer}", images) for layer in layers]


def point(
    series: str, size: int, vae: nn.Module, layer: str, images: Tensor, **options: Any
) -> Row:
    """One point: the call's cost, after a call that finds the path."""
    cam = LatentGradCAM(vae, layer, **options)
    call = partial(cam.attribute, images)
    call()
    row = {
        "series": series,
        "size": size,
        "cpu_seconds": round(min(seconds_of(call)), 6),
        "peak_mb": round(peak_bytes(call) / 2**20, 3),
        "path": cam.explain_plan(images)[0].path,
    }
    print(row, flush=True)
    return row


def seconds_of(call: Callable[[], object]) -> Iterable[float]:
    """Processor seconds of one call after another, within the budget."""
    begun = time.process_time()
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        now = time.process_time()
        yield now - start
        if now - begun > BUDGET:
            return


def _expected(rows: list[Row], at_most: float) -> dict[str, float]:
    return dict.fromkeys((row["series"] for row in rows), at_most)
