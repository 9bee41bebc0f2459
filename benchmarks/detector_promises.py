"""``captum-vae detect`` and ``predict`` as a user runs them, held against labels afterwards.

    python -m benchmarks.pretrained lite0.safetensors
    CAPTUM_VAE_DATA=DATA python -m benchmarks.detector_promises bottle \
        --weights lite0.safetensors --json docs/results/detector_bottle.json

``detect`` sees the normal training images, ``predict`` the test images without labels, each in a
process of its own whose processor seconds and memory are measured. Then the labels are read: which
share of the pixels of normal test images, and of these images, was called anomalous, against what
was promised; and whether the maps measure as those of ``captum_vae.localization.benchmark`` with
the same scorer fitted on the same images.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pretrained import BACKBONE
from captum_vae import AnomalyDetector
from captum_vae.data import UCSD, MVTec
from captum_vae.files import write_json
from captum_vae.localization import Protocol, benchmark
from captum_vae.localization.detector.normal_images import Unlabelled
from captum_vae.localization.detector.promise_check import AlarmCounts
from captum_vae.localization.detector.scorer_record import ScorerRecord
from captum_vae.localization.detector.splitting import split_normal
from captum_vae.metrics.localization.metric import PixelMetrics
from captum_vae.provenance import run_record

SETS = ("bottle", "hazelnut", "transistor", "tile", "ped2")
SIZE = 256


def read(name: str, data: Path, split: Any, cache: Any = "none") -> Any:
    if name == "ped2":
        return UCSD(data / "ucsd", "ped2", split, image_size=SIZE, image_channels=3, cache=cache)
    root = data / "magnetic_tile" / "mt" if name == "tile" else data / "mvtec_ad" / name
    return MVTec(root, split=split, image_size=SIZE, image_channels=3, cache=cache)


def listed(samples: Any, path: Path) -> tuple[Path, list[str]]:
    """A text file of the images' paths, and the names that predictions give them."""
    paths = [Path(os.path.abspath(file.path)) for file in samples.files]
    path.write_text("".join(f"{entry}\n" for entry in paths))
    root = os.path.commonpath([entry.parent for entry in paths])
    return path, [entry.relative_to(root).as_posix() for entry in paths]


def run(arguments: list[str]) -> dict[str, float]:
    """Run a command in a process of its own; its wall and processor seconds, and peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "captum_vae", *arguments])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"captum-vae {arguments[0]} ended with {status}")
    return {
        "wall_seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_mb": round(used.ru_maxrss / 1024),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--alpha", type=float, default=0.05)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given.out = Path(folder)
        measure(given, Path(os.environ["CAPTUM_VAE_DATA"]))


def measure(given: argparse.Namespace, data: Path) -> None:
    training, test = (read(given.name, data, split) for split in ("train", "test"))
    good, _ = listed(training, given.out / "good.txt")
    new, names = listed(test, given.out / "new.txt")
    of_clips = given.name == "ped2"
    detect = run(
        ["detect", "--images", str(good), "--out", str(given.out / "detector"), "--device", "cpu"]
        + ["--backbone", BACKBONE, "--weights", str(given.weights), "--image_size", str(SIZE)]
        + ["--alpha", str(given.alpha), "--units", "clips" if of_clips else "images"]
    )
    predict = run(
        ["predict", str(given.out / "detector"), str(new), "--out", str(given.out / "predictions")]
        + ["--maps", "npz", "--report", "none", "--device", "cpu"]
    )
    detector = AnomalyDetector.load(given.out / "detector")
    print(detector)
    write_json(
        given.json,
        {
            **run_record(torch.device("cpu")),
            "set": given.name,
            "images": {"normal": len(training), "test": len(test)},
            "detect": detect,
            "predict": predict | {"cpu_seconds_per_image": predict["cpu_seconds"] / len(test)},
            "detector": repr(detector).splitlines(),
            **against_labels(detector, training, test, names, given.out / "predictions", of_clips),
        },
    )
    print(given.json.read_text())


def against_labels(
    detector: Any, training: Any, test: Any, names: list[str], folder: Path, of_clips: bool
) -> dict[str, Any]:
    with open(folder / "predictions.csv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    fitted = detector.fitted
    protocol = Protocol(size="map", smoothing=fitted.protocol.smoothing)
    metrics = PixelMetrics(units="none", threshold=detector.threshold)
    alarms = AlarmCounts(fitted.pixel, fitted.image)
    called = []
    for index, name in enumerate(names):
        sample = test[index]
        found = torch.from_numpy(np.load(folder / "maps" / f"{name}.npz")["map"])
        scores, masks = Protocol(size="map").prepare(found[None], [sample.mask], [sample.label])
        metrics.update(scores, masks, [name])
        anomalous = rows[name]["verdict"] == "anomalous"
        if sample.label == 0:
            alarms.add(
                int((found >= detector.threshold).sum()),
                found.numel(),
                anomalous=anomalous,
                score=float(rows[name]["score"]),
                clip=sample.group if of_clips else None,
            )
        elif sample.label == 1:
            called.append(anomalous)
    auroc = metrics.compute().scores["auroc"].value
    split = split_normal(
        len(training), training.groups if of_clips else None, detector.promise, choose=False
    )
    record = ScorerRecord.of(fitted.scorers[0])
    scorer = record.build(fitted.model, None)
    measured = benchmark(
        {"detector": (scorer, protocol)},
        Unlabelled(training, split.fitting, normal="normal"),
        test,
        units="none",
        batch_size=16,
        progress="off",
    ).rows[0]
    return {
        "promised_and_seen": alarms.check().to_dict(),
        "anomalous_images_found": [int(np.sum(called)), len(called)],
        "pixel_auroc": {
            "of_predictions": auroc,
            "of_benchmark": measured.pixel.scores["auroc"].value,
        },
    }


if __name__ == "__main__":
    main()
