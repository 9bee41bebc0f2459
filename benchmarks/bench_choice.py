"""What the choice without labels costs, over ten seeds on eight sets of images.

    export CAPTUM_VAE_DATA=FOLDER
    python -m benchmarks.bench_choice --features pretrained --out docs/results/choice.json
    python -m benchmarks.bench_choice --features scratch --out docs/results/choice_scratch.json
    python -m benchmarks.bench_choice --without_residual --out docs/results/choice_attention.json

On every set the candidates are fitted and measured on the test images once, whatever the seed. Then
each seed paints other defects and chooses. The cost of a choice is the pixel AUROC of the best
candidate minus that of the chosen one. A set's result says whether its test images were looked at
while the default and the way that defects are painted were worked out.

With ``--without_residual`` the candidates are latent attention alone, and attention beside the
reconstruction error, each in all scales. Beside the choice stands what unscaled candidates alone,
with the mean activation as baseline or the reconstruction error as default, would have cost, which
was the rule before maps could be shrunk.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.pretrained import BACKBONE, write_lite0
from captum_vae.data import UCSD, MovingPedestrians, MVTec
from captum_vae.data.defect_places import varying_places
from captum_vae.data.rendered_parts import RenderedParts
from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.files import write_json
from captum_vae.localization import Candidates, Choice, LatentAttention, Protocol, candidate_scorers
from captum_vae.localization.candidates import Family
from captum_vae.localization.choosing import (
    Variants,
    choose_among_fitted,
    comparable,
    split_held_out,
)
from captum_vae.localization.entries import entries_of
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.measuring import pixel_areas
from captum_vae.localization.samples import SampleSubset, evenly_spaced
from captum_vae.localization.scoring import fit_scorers
from captum_vae.models import ConvVAE, FrozenFeatures, LinearFeatureVAE
from captum_vae.provenance import run_record

SEEDS = 10
COMPARED = (128, 128)
"""Size at which maps and masks are compared, and painted defects and real ones alike."""

SETS = ("tile", "ped2", "bottle", "transistor", "hazelnut", "walk", "part", "fabric")

LOOKED_AT = {
    "pretrained": ("tile", "ped2", "bottle", "transistor", "hazelnut", "walk", "part", "fabric"),
    "scratch": ("tile", "ped2", "bottle", "transistor", "hazelnut", "walk", "part"),
}
"""Sets whose test images were looked at before the default was settled."""

LOOKED_AT_SCALES = ("tile", "bottle", "walk", "part")
"""Sets whose test images were looked at, as scaled maps, before the scale was settled."""


class InColour(SampleDataset):
    """A data set whose grey images are given as colour images."""

    def __init__(self, dataset: SampleDataset, channels: int) -> None:
        """Keep the data set."""
        self.dataset, self.channels = dataset, channels

    def __len__(self) -> int:
        """Count the images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Return an image with the channels asked for."""
        sample = self.dataset[index]
        return sample._replace(image=sample.image.expand(self.channels, -1, -1))


def data(name: str, size: int) -> tuple[SampleDataset, SampleDataset]:
    """Normal and test images of a set."""
    root = Path(os.environ.get("CAPTUM_VAE_DATA", "."))
    sets: list[SampleDataset] = []
    for split in ("train", "test"):
        of_split: Any = {"split": split, "image_size": size}
        if name == "ped2":
            found: SampleDataset = UCSD(root / "ucsd", subset="ped2", image_channels=1, **of_split)
        elif name == "tile":
            found = MVTec(root / "magnetic_tile", "mt", image_channels=1, **of_split)
        elif name == "walk":
            found = MovingPedestrians(clips=4, frames=25, **of_split)
        elif name in ("part", "fabric"):
            found = RenderedParts(name, count=100, **of_split)  # type: ignore[arg-type]
        else:
            found = MVTec(root / "mvtec_ad", name, image_channels=3, **of_split)
        sets.append(InColour(found, 3))
    return sets[0], sets[1]


def trained(normal: torch.Tensor, steps: int = 150) -> ConvVAE:
    """A small convolutional VAE from scratch: optimal Gaussian likelihood, Adam."""
    torch.manual_seed(0)
    vae = ConvVAE(
        32, image_size=normal.shape[-1], in_channels=3, channels=(32, 64, 128), hidden=256
    )
    optimizer = torch.optim.Adam(vae.parameters(), 5e-4)
    for step in range(steps):
        images = normal[torch.randint(len(normal), (16,))]
        mean, log_variance = vae.encode(images)[:2]
        decoded = vae.decode(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        fit = 0.5 * images[0].numel() * (decoded - images).square().mean().log()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        optimizer.zero_grad()
        (fit + min(1.0, step / 100) * kl).backward()
        optimizer.step()
    return vae.eval()


def measure(
    name: str, features: str, options: argparse.Namespace, weights: Path
) -> list[dict[str, Any]]:
    """Ten choices on one set with one kind of features, from each pool of candidates."""
    start = time.process_time()
    size = 256 if features == "pretrained" else 128
    training, testing = data(name, size)
    kept, held_out = split_held_out(len(training), 0.2)
    fitted_on = SampleSubset(training, evenly_spaced(kept, options.normal_images))
    on = SampleSubset(training, evenly_spaced(held_out, options.painted_images))
    tested = SampleSubset(testing, evenly_spaced(range(len(testing)), options.test_images))
    normal = torch.stack([fitted_on[index].image for index in range(len(fitted_on))])
    vae: Any
    if features == "pretrained":
        encoder = FrozenFeatures(BACKBONE, image_size=size, weights=weights, grid=32)
        vae = LinearFeatureVAE.fit(encoder, normal, 32, progress="off")
        layers = ["features"]
    else:
        vae = trained(normal)
        layers = ["encoder.conv1", "encoder.conv2", "encoder.conv3"]
    candidates = Candidates(layers, fused=True, seeds=options.turns, images=len(on))
    looked_at = LOOKED_AT[features]
    if options.without_residual:
        families: list[Family] = ["reconstruction_error", "latent_attention"]
        candidates = replace(candidates, families=families, scales=["none", "location"])
        looked_at = LOOKED_AT_SCALES
    protocol = Protocol(threshold="oracle", size=COMPARED)
    variants = candidate_scorers(candidates, vae, protocol=protocol)
    entries = entries_of(variants, None)
    passes: Mapping[str, Any] = {"batch_size": 8}
    images = ImageBatches(fitted_on, "normal", truth=False, **passes)
    fit_scorers([entry.scorer for entry in entries], images, "fitting")
    real = {
        k: v.value for k, v in pixel_areas(variants, ImageBatches(tested, "test", **passes)).items()
    }
    places = varying_places(normal.split(8), candidates.varying)
    pools: dict[str, Variants] = {"all": variants}
    if options.without_residual:
        attention = {n: v for n, v in variants.items() if isinstance(v[0], LatentAttention)}
        pools = {"attention": attention, "reconstruction error and attention": variants}
    bests = {pool: max(real[candidate] for candidate in among) for pool, among in pools.items()}
    choices: dict[str, list[dict[str, Any]]] = {pool: [] for pool in pools}
    for seed in range(options.seeds):
        with MapStore() as store:
            painting: Any = {"besides": [entry.scorer for entry in entries], "store": store}
            choose = partial(_choose, on, replace(candidates, seed=seed), places, passes, painting)
            for pool, among in pools.items():
                found = one_choice(
                    seed, choose(*comparable(among, candidates.varying)), real, bests[pool]
                )
                if options.without_residual:
                    found["former"] = one_choice(
                        seed, choose(unscaled(among), ()), real, bests[pool]
                    )
                choices[pool].append(found)
    facts = {
        "set": name,
        "features": features,
        "looked_at": name in looked_at,
        "normal_images": len(fitted_on),
        "painted_images": len(on) * candidates.seeds,
        "test_images": len(tested),
        "cpu_seconds": round(time.process_time() - start),
    }
    return [
        {**facts, "pool": pool, **summary({n: real[n] for n in among}, among, choices[pool])}
        for pool, among in pools.items()
    ]


def _choose(
    on: SampleSubset,
    candidates: Candidates,
    places: torch.Tensor,
    passes: Mapping[str, Any],
    painting: Mapping[str, Any],
    variants: Variants,
    left_out: tuple[str, ...],
) -> Choice:
    entries = entries_of(variants, None)
    return choose_among_fitted(entries, on, candidates, places, left_out, passes, **painting)


def unscaled(variants: Variants) -> Variants:
    """The candidates that are not scaled, with the default that they had among themselves."""
    kept = {n: v for n, v in variants.items() if getattr(v[0], "scale", "none") == "none"}
    first = next(iter(kept))
    default = first.replace(", reconstruction,", ", mean_activation,")
    return {default: kept[default], **kept}


def one_choice(seed: int, chosen: Choice, real: Mapping[str, float], best: float) -> dict[str, Any]:
    """What one seed chose, and its cost."""
    assert chosen.margin is not None
    bare = next(iter(chosen.synthetic))
    return {
        "seed": seed,
        "chosen": chosen.name,
        "cost": best - real[chosen.name],
        "best_painted": bare,
        "cost_of_best_painted": best - real[bare],
        "margin": chosen.to_dict()["margin"],
        "sure": chosen.sure,
        "warnings": chosen.warnings,
    }


def summary(
    real: Mapping[str, float], variants: Variants, choices: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The best candidate, the default, and the costs over all seeds."""
    best = max(real, key=lambda candidate: real[candidate])
    default = next(iter(variants))
    distinct = dict.fromkeys(choice["chosen"] for choice in choices)
    former = [choice["former"]["cost"] for choice in choices if "former" in choice]
    return {
        "best": best,
        "best_auroc": real[best],
        "default": default,
        "cost_of_default": real[best] - real[default],
        "chosen": {name: sum(c["chosen"] == name for c in choices) for name in distinct},
        "cost_of_worst_candidate": real[best] - min(real.values()),
        "largest_cost": max(choice["cost"] for choice in choices),
        **({"largest_former_cost": max(former)} if former else {}),
        "largest_cost_of_best_painted": max(c["cost_of_best_painted"] for c in choices),
        "candidates": dict(real),
        "choices": choices,
    }


def results(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result per set, kind of features and pool of candidates, as they come."""
    with TemporaryDirectory() as folder:
        weights = write_lite0(Path(folder) / "lite0.safetensors")
        with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
            pending = [
                pool.submit(measure, name, features, options, weights)
                for features in options.features
                for name in options.sets
            ]
            for found in (row for future in pending for row in future.result()):
                print(
                    f"{found['set']}, {found['features']}, {found['pool']}: cost "
                    f"{found['largest_cost']:.3f} at most (formerly "
                    f"{found.get('largest_former_cost', math.nan):.3f}), default "
                    f"{found['cost_of_default']:.3f}, best painted "
                    f"{found['largest_cost_of_best_painted']:.3f}; best {found['best']} "
                    f"{found['best_auroc']:.3f} ({found['cpu_seconds']} CPU s)",
                    flush=True,
                )
                yield found


def main() -> None:
    """Measure, and write the results after every set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument(
        "--features",
        nargs="+",
        default=["pretrained", "scratch"],
        choices=("pretrained", "scratch"),
    )
    parser.add_argument("--without_residual", action="store_true")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--normal_images", type=int, default=200)
    parser.add_argument("--painted_images", type=int, default=20)
    parser.add_argument("--test_images", type=int, default=200)
    options = parser.parse_args()
    facts = run_record(torch.device("cpu"))
    rows = []
    for row in results(options):
        rows.append(row)
        largest = max(found["largest_cost"] for found in rows)
        found = {**facts, "options": vars(options), "largest_cost": largest, "sets": rows}
        write_json(options.out, found)


if __name__ == "__main__":
    main()
