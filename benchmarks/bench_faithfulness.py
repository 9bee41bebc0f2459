r"""Are latent maps faithful? Deletion and insertion curves of layers and weightings, side by side.

    python -m benchmarks.bench_faithfulness demo --out docs/results/faithfulness_demo.json
    captum-vae fit --config bottle_conv --out runs/bottle_conv
    python -m benchmarks.bench_faithfulness runs/bottle_conv \
        --out docs/results/faithfulness_bottle.json

The first trains the demo's VAE; the second takes a run of MVTec AD bottle, whose images lie in
CAPTUM_VAE_DATA. Test images without a defect are explained, in the dimensions of the largest KL.
Beside the maps stand random ones, and the gradient times the input. ``area`` is larger for more
faithful maps; intervals are over images. ``randomization`` is the rank correlation of the maps with
those of an encoder whose weights are all drawn anew: near 0 for maps of what it learned.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_vae import LatentGradCAM
from captum_vae.data import MVTec, OneClassDigits
from captum_vae.experiments.demo import BATCH_SIZE, DemoSettings, train_demo_vae
from captum_vae.files import write_json
from captum_vae.metrics.activity import active_dimensions
from captum_vae.metrics.faithfulness import compare_areas, randomization_check, removal_curves
from captum_vae.provenance import Code, run_record
from captum_vae.training import Trainer, load_vae

DIMS = 6
STEPS = 10
SEED = 0
WEIGHTINGS = ("pooled", "elementwise", "integrated")


def demo() -> tuple[nn.Module, Tensor, list[str]]:
    """The demo's VAE of the digit 1, and test images of it."""
    settings = DemoSettings("digits", None, 1, (9, 7, 2, 4), "encoder.conv2", 32, 250, SEED)
    trainer = Trainer(
        steps=250, batch_size=BATCH_SIZE, seed=SEED, accelerator="cpu", save_every=250
    )
    vae, _, _ = train_demo_vae(settings, trainer)
    images = [sample.image for sample in OneClassDigits("test", digits=[1], image_size=28)]
    return vae, torch.stack(images[:32]), ["encoder.conv1", "encoder.relu1", "encoder.conv2"]


def bottle(run: str) -> tuple[nn.Module, Tensor, list[str]]:
    """A trained VAE of bottles, and the good bottles of the test set."""
    root = Path(os.environ["CAPTUM_VAE_DATA"]) / "mvtec_ad"
    data = MVTec(root, "bottle", split="test", image_size=128, image_channels=3)
    images = [sample.image for sample in data if sample.mask is None or not sample.mask.any()]
    return load_vae(run), torch.stack(images), ["encoder.conv1", "encoder.conv2", "encoder.conv3"]


def maps_by_name(vae: nn.Module, images: Tensor, layers: list[str], dims: list[int]) -> Any:
    """Name -> how maps (B, T, H, W) are made of a model."""
    found: dict[str, Callable[[nn.Module], Tensor]] = {}
    for layer in layers:
        for weighting in WEIGHTINGS:

            def attend(model: nn.Module, layer: str = layer, weighting: str = weighting) -> Tensor:
                cam = LatentGradCAM(model, layer)
                return cam.attribute(
                    images, target=dims, weighting=weighting, rectifier="abs", size="input"
                )

            found[f"{layer}, {weighting}"] = attend

    def gradient_times_input(model: Any) -> Tensor:
        x = images.clone().requires_grad_()
        mean = model.encode(x)[0]
        gradients = [torch.autograd.grad(mean[:, d].sum(), x, retain_graph=True)[0] for d in dims]
        return torch.stack([(g * images).sum(1).abs() for g in gradients], 1)

    found["gradient times input"] = gradient_times_input
    generator = torch.Generator().manual_seed(SEED)
    shape = (len(images), len(dims), *images.shape[2:])
    found["random"] = lambda _model: torch.rand(shape, generator=generator)
    return found


def measure(
    vae: nn.Module, images: Tensor, layers: list[str], fills: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A row per map, direction and fill."""
    with torch.no_grad():
        kl = active_dimensions(*vae.encode(images)[:2]).kl  # type: ignore[operator]
    dims = sorted(kl.argsort(descending=True)[:DIMS].tolist())
    makers = maps_by_name(vae, images, layers, dims)
    maps = {name: make(vae).detach() for name, make in makers.items()}
    fixed = ("random",)
    sanity = {
        name: list(randomization_check(vae, make, within="encoder", seed=SEED).values())[-1]
        for name, make in makers.items()
        if name not in fixed
    }

    def codes_of(x: Tensor) -> Tensor:
        return vae.encode(x)[0]  # type: ignore[operator,no-any-return]

    rows = []
    for direction in ("deletion", "insertion"):
        for fill in fills:
            curves = {
                name: removal_curves(
                    codes_of, images, found, dims, direction=direction, fill=fill, steps=STEPS
                )
                for name, found in maps.items()
            }
            for name, found in curves.items():
                rows.append(
                    {
                        "map": name,
                        "direction": direction,
                        "fill": fill,
                        "area": found.area().to_dict(),
                        "area_of_the_whole_latent": found.area("latent").to_dict(),
                        "minus_random": compare_areas(found, curves["random"]).to_dict(),
                        "minus_gradient_times_input": compare_areas(
                            found, curves["gradient times input"]
                        ).to_dict(),
                        "randomization": sanity.get(name),
                    }
                )
                print(direction, fill, name, found.area())
    return rows


def main() -> None:
    """Measure one VAE and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vae", help="demo, or the folder of a run on bottle")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    code = Code.now()
    vae, images, layers = demo() if options.vae == "demo" else bottle(options.vae)
    # The neighbours' means of a large image take too long: a sparse system for every mask.
    fills = ("blur", "noisy_linear" if images[0, 0].numel() < 2000 else "mean")
    rows = measure(vae, images, layers, fills)
    record = run_record(torch.device("cpu"), seed=SEED, code=code)
    protocol = {
        "images": len(images),
        "dimensions": DIMS,
        "steps": STEPS,
        "rectifier": "abs",
        "looked_at_while_building": "both VAEs",
    }
    write_json(options.out, {**record, "protocol": protocol, "rows": rows})


if __name__ == "__main__":
    main()
