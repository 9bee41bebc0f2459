"""Predict over a folder of images with Ray Data, on this machine or a cluster.

    pip install captum-vae 'ray[data]'
    python examples/predict_with_ray.py DETECTOR IMAGES... --out predictions.csv [--workers 2]

DETECTOR is a folder that ``captum-vae detect`` wrote; on a cluster it and the images lie where
every node finds them under the same path. Each worker loads the detector once and keeps it. Images
are listed and decoded as ``captum-vae predict`` does, and the table holds its numbers: image,
score, p_value, verdict, area, and the reason why an image could not be read.
"""

import argparse
import csv
import os
from pathlib import Path

import numpy as np

from captum_vae import AnomalyDetector
from captum_vae.data import ImageSources
from captum_vae.files import DamagedFileError

COLUMNS = ("image", "score", "p_value", "verdict", "area", "reason")


class Predict:
    """What a worker of Ray Data keeps: the detector, loaded once, and where the images are."""

    def __init__(self, detector: str, sources: ImageSources) -> None:
        """Load the detector in the worker."""
        self.detector = AnomalyDetector.load(detector)
        self.sources = sources

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows of a batch whose column ``id`` numbers the images; the numbers stay beside them."""
        numbers = batch["id"].tolist()
        rows = {number: dict.fromkeys(("score", "p_value", "area"), np.nan) for number in numbers}
        images = {}
        for number, row in rows.items():
            row |= {"image": self.sources.name(number), "verdict": "unreadable", "reason": ""}
            try:
                images[number] = self.sources.read(number).pixels
            except (DamagedFileError, FileNotFoundError, PermissionError) as error:
                row["reason"] = " ".join(str(error).split())
        if images:
            found = self.detector({"image": list(images.values())}, maps=False)
            for place, number in enumerate(images):
                row = rows[number]
                row |= {name: found[name][place] for name in ("score", "p_value", "area")}
                row["verdict"] = "anomalous" if found["anomalous"][place] else "normal"
        columns = {name: np.array([row[name] for row in rows.values()]) for name in COLUMNS}
        return {**batch, **columns, "process": np.full(len(rows), os.getpid())}


def predict(detector: str, images: list[str], *, workers: int = 2, batch_size: int = 16):
    """Predictions as a data set of Ray, in any order, with the image's number in ``id``."""
    import ray

    size, channels = AnomalyDetector.load(detector).wanted_images
    sources = ImageSources(images, image_size=size, channels=channels)
    # Numbers that are there already: reading them would need a processor that no worker holds.
    numbers = ray.data.from_items([{"id": number} for number in range(len(sources))])
    return numbers.map_batches(
        Predict,
        fn_constructor_args=(str(Path(detector).absolute()), sources),
        batch_size=batch_size,
        batch_format="numpy",
        concurrency=workers,
    )


def main() -> None:
    """Predict, and write the rows in the order of the images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detector", nargs="?")
    parser.add_argument("images", nargs="*")
    parser.add_argument("--out", default="predictions.csv")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not options.images:
        print(__doc__)
        return
    # Nodes have folders of their own that they work in.
    images = [str(Path(image).absolute()) for image in options.images]
    found = predict(options.detector, images, workers=options.workers).materialize()
    with open(options.out, "w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        for row in sorted(found.iter_rows(), key=lambda row: row["id"]):
            writer.writerow([row[name] for name in COLUMNS])
    print(f"{found.count()} images: {options.out}")


if __name__ == "__main__":
    main()
