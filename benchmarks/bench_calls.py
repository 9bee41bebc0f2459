"""What one call costs: a single dimension beside Captum, and the memory of an aggregate.

    python -m benchmarks.bench_calls --out docs/results/calls.json

``one_dimension``: a map of one latent dimension of one image, as ``LayerGradCam`` of Captum gives
it of the wrapped encoder, on a tiny encoder and on the published MNIST encoder. Each round times
Captum and then ours, twenty calls each, in processor time of one thread; the ratio is the median
over rounds. ``memory``: the most bytes that a call of two images at 1,024 pixels with 128 latent
dimensions holds at one moment, beside its result.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from benchmarks.memory import peak_bytes
from benchmarks.pairing import PairedTimer
from captum_vae import LatentGradCAM
from captum_vae.files import write_json
from captum_vae.models import MNISTVAE
from captum_vae.provenance import run_record

ROUNDS, CALLS, SIDE, DIMS = 31, 20, 1024, 128


class Tiny(nn.Module):
    """Two convolutions, a hidden Linear, mean and log-variance; images (B, 2, 6, 6)."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU()
        self.fc, self.relu3 = nn.Linear(36, 8), nn.ReLU()
        self.fc_mu, self.fc_logvar = nn.Linear(8, 3), nn.Linear(8, 3)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (B, 3) each."""
        features = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        hidden = self.relu3(self.fc(features.flatten(1)))
        return self.fc_mu(hidden), self.fc_logvar(hidden)


class Patches(nn.Module):
    """Patches of 16 x 16 pixels to ``DIMS`` latent dimensions."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 16, 16)
        self.fc_mu = nn.Linear(4, DIMS)

    def encode(self, x: Tensor) -> Tensor:
        """Means, (B, DIMS)."""
        return self.fc_mu(self.conv(x).square().mean((2, 3)))  # type: ignore[no-any-return]


def one_dimension(vae: nn.Module, layer: str, image: Tensor) -> dict[str, Any]:
    """Ours over Captum's time for one dimension of one image."""
    ours = LatentGradCAM(vae, layer, posterior="encode:[0],[1]")
    captum = LayerGradCam(lambda x: vae.encode(x)[0], vae.get_submodule(layer))
    calls = {
        "ours": partial(ours.attribute, image, target=1),
        "captum": partial(captum.attribute, image, target=1, relu_attributions=True),
    }
    assert torch.allclose(calls["ours"](), calls["captum"](), atol=1e-5)

    def several(name: str) -> None:
        for _ in range(CALLS):
            calls[name]()

    timer = PairedTimer(partial(several, "ours"), {"c": partial(several, "captum")}, clock="cpu")
    timer.run_rounds(ROUNDS)
    return {
        "what": "one_dimension",
        "encoder": type(vae).__name__,
        "layer": layer,
        "batch": 1,
        "milliseconds": round(1000 * min(timer.seconds) / CALLS, 3),
        "captum_milliseconds": round(1000 * min(timer.reference_seconds["c"]) / CALLS, 3),
        "ratio": {key: round(value, 3) for key, value in timer.ratios()["c"].items()},
    }


def memory(aggregate: str) -> dict[str, Any]:
    """Bytes that the authors' preset holds beside its result."""
    cam = LatentGradCAM(Patches().eval(), "conv", posterior="encode:mean")
    images = torch.rand(2, 1, SIDE, SIDE)
    call = partial(cam.attribute, images, preset="authors", aggregate=aggregate, size="input")
    result = call().nbytes
    return {
        "what": "memory",
        "preset": "authors",
        "aggregate": aggregate,
        "dims": DIMS,
        "image_size": SIDE,
        "batch": len(images),
        "result_mb": round(result / 2**20, 1),
        "beside_result_mb": round((peak_bytes(call) - result) / 2**20, 1),
        "all_maps_mb": round(result * DIMS / 2**20, 1),
    }


def main() -> None:
    """Measure everything and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tiny, mnist = Tiny().eval(), MNISTVAE(32).eval()
    rows = [
        one_dimension(tiny, layer, torch.rand(1, 2, 6, 6)) for layer in ("conv1", "conv2", "relu2")
    ]
    rows += [
        one_dimension(mnist, f"encoder.{layer}", torch.rand(1, 1, 28, 28))
        for layer in ("conv1", "conv2", "relu2")
    ]
    rows += [memory(aggregate) for aggregate in ("mean", "max", "sum")]
    record = run_record(torch.device("cpu"), seed=0)
    protocol = {"clock": "cpu", "rounds": ROUNDS, "calls": CALLS}
    write_json(options.out, {**record, "protocol": protocol, "rows": rows})
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
