"""What a detector promises, against what is seen on normal images of the same source.

    python -m benchmarks.pretrained lite0.safetensors
    CAPTUM_VAE_DATA=DATA python -m benchmarks.detector_unseen --weights lite0.safetensors \
        --json docs/results/detector_unseen.json

Over several seeds a fifth of the normal training images (of Ped2 whole clips) is kept out of the
fit altogether. A detector of the rest, as of ``captum-vae detect --backbone``, then says of each
image kept out whether it is anomalous, and how many of its pixels reach the threshold. The same
detectors look at the normal test images, which were not taken together with the others.

Rates are means over seeds; their intervals resample images, or clips, each with all that the
seeds said of it. Every image passes the network once: its features are remembered.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.detector_promises import SETS, SIZE, read
from benchmarks.pretrained import BACKBONE
from captum_vae import AnomalyDetector
from captum_vae.data import SampleDataset
from captum_vae.files import write_json
from captum_vae.localization.samples import SampleSubset
from captum_vae.progress import progress_bar
from captum_vae.provenance import run_record

KEPT = 0.2
EVERY = 10
"""Every how many-th frame of Ped2 is read: neighbours hardly differ."""


class Outcome(NamedTuple):
    """What a detector said of a normal image.

    Attributes:
        unit: The image, or its clip.
        beyond: Whether more of its pixels reach the threshold than promised.
        anomalous: Whether it was called anomalous.
        share: Share of its pixels at or above the threshold.
    """

    unit: str
    beyond: bool
    anomalous: bool
    share: float


class Remembered:
    """A function of batches of images that computes what it gives for each image once."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function
        self.known: dict[bytes, Tensor] = {}

    def __call__(self, images: Tensor) -> Tensor:
        keys = [hashlib.blake2b(image.detach().numpy().tobytes()).digest() for image in images]
        new = [place for place, key in enumerate(keys) if key not in self.known]
        if new:
            for place, found in zip(new, self.function(images[new]), strict=True):
                self.known[keys[place]] = found.detach().clone()
        return torch.stack([self.known[key] for key in keys])


class Normal(NamedTuple):
    """The normal images of a part of a data set.

    Attributes:
        samples: The data set.
        places: Numbers of the images.
        units: The name or the clip of each.
    """

    samples: SampleDataset
    places: list[int]
    units: list[str]

    def of(self, units: set[str]) -> Normal:
        """Those of some images or clips."""
        pairs = [(p, u) for p, u in zip(self.places, self.units, strict=True) if u in units]
        return Normal(self.samples, [p for p, _ in pairs], [u for _, u in pairs])

    @property
    def images(self) -> SampleDataset:
        """The images alone."""
        return SampleSubset(self.samples, self.places)


def normal(name: str, data: Path, split: Any) -> Normal:
    samples = read(name, data, split, cache="memory")
    of_clips = name == "ped2"
    places = list(range(0, len(samples), EVERY if of_clips else 1))
    if split == "test":
        places = [place for place in places if samples[place].label == 0]
    units = samples.groups if of_clips else [str(place) for place in range(len(samples))]
    return Normal(samples, places, [units[place] for place in places])


def looked_at(detector: AnomalyDetector, images: Normal) -> list[Outcome]:
    rate = detector.promise.pixel_rate
    found = detector.stream(images.images, progress="off")
    said = [one for part in found for one in part]
    return [
        Outcome(unit, one.area > rate, one.anomalous, one.area)
        for unit, one in zip(images.units, said, strict=True)
    ]


def over_seeds(runs: Sequence[Sequence[Outcome]], field: str) -> dict[str, float]:
    """The mean over seeds of a rate, and its 95% interval over images or clips."""
    units = sorted({one.unit for run in runs for one in run})
    sums = np.zeros((2, len(runs), len(units)))
    for number, run in enumerate(runs):
        for one in run:
            place = units.index(one.unit)
            sums[:, number, place] += getattr(one, field), 1
    drawn = np.random.default_rng(0).integers(0, len(units), (2000, len(units)))
    per_unit = sums.sum(1)
    shares = per_unit[0][drawn].sum(1) / per_unit[1][drawn].sum(1)
    by_seed = sums[0].sum(1) / sums[1].sum(1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return {
        "seen": float(sums[0].sum() / sums[1].sum()),
        "low": float(low),
        "high": float(high),
        "smallest_of_seeds": float(by_seed.min()),
        "largest_of_seeds": float(by_seed.max()),
    }


def measured(promised: dict[str, float], runs: list[list[Outcome]]) -> dict[str, Any]:
    """Promised against seen, for pixels and images."""
    units = {one.unit for run in runs for one in run}
    found: dict[str, Any] = {"units": len(units), "looked_at": sum(map(len, runs))}
    for words, field in (("pixels", "beyond"), ("images", "anomalous")):
        seen = over_seeds(runs, field)
        found[words] = {"promised": promised[words], **seen, "kept": seen["low"] <= promised[words]}
    return found | {"mean_share": over_seeds(runs, "share")}


def measure(name: str, data: Path, weights: Path, seeds: int, alpha: float) -> dict[str, Any]:
    training, test = normal(name, data, "train"), normal(name, data, "test")
    of_clips = name == "ped2"
    names = sorted(set(training.units), key=training.units.index)
    kept_out, on_test, detectors = [], [], []
    features: Remembered | None = None
    for seed in progress_bar("auto")(range(seeds), name):
        kept = set(random.Random(seed).sample(names, round(KEPT * len(names))))
        rest = training.of(set(names) - kept)
        detector = AnomalyDetector.from_backbone(
            BACKBONE,
            weights=weights,
            image_size=SIZE,
            alpha=alpha,
            units="clips" if of_clips else "images",
            seed=seed,
        )
        features = features or Remembered(detector.model.features.stacked)
        detector.model.features.stacked = features
        detector.fit(rest.images, clips=rest.units if of_clips else None, progress="off")
        kept_out.append(looked_at(detector, training.of(kept)))
        on_test.append(looked_at(detector, test))
        detectors.append(detector)
    calibrations = [(one.fitted.pixel, one.fitted.image) for one in detectors]
    promised = {
        "pixels": float(np.mean([pixel.alpha for pixel, _ in calibrations])),
        "images": alpha,
    }
    return {
        "unit": calibrations[0][1].unit,
        "normal": len(training.places),
        "seeds": seeds,
        "calibrating_units": [image.count for _, image in calibrations],
        "remarks": sorted({remark for one in detectors for remark in one.remarks}),
        "calibrated_share": float(np.mean([pixel.mean_share for pixel, _ in calibrations])),
        "unseen": measured(promised, kept_out),
        "test": measured(promised, on_test),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(SETS), metavar="SET")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--alpha", type=float, default=0.05)
    given = parser.parse_args()
    data = Path(os.environ["CAPTUM_VAE_DATA"])
    sets: dict[str, Any] = {}
    facts = run_record(torch.device("cpu"))
    for name in given.sets:
        sets[name] = measure(name, data, given.weights, given.seeds, given.alpha)
        about = {"kept_out": KEPT, "alpha": given.alpha, "pixel_rate": 0.005}
        write_json(given.json, {**facts, **about, "sets": sets})
        print(name, sets[name])


if __name__ == "__main__":
    main()
