"""Pages of a detector: what it found in images, and what it promises."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captum_vae.data.image_bytes import stacked
from captum_vae.data.sources import ImageSources
from captum_vae.localization.detector.detector import AnomalyDetector
from captum_vae.localization.detector.journal import TABLE, printable, rows_of
from captum_vae.localization.detector.prediction_run import count_rows
from captum_vae.localization.detector.promise_check import PromiseCheck
from captum_vae.progress import Progress, progress_bar
from captum_vae.report.explorer import Explorer
from captum_vae.report.page import Section, write_page
from captum_vae.report.tables import Table

_MAP = "anomaly map"


def write_prediction_page(
    detector: AnomalyDetector,
    sources: ImageSources,
    folder: Path,
    *,
    shown: int,
    batch_size: int,
    facts: Sequence[tuple[str, str]],
    progress: Progress = "off",
) -> Path | None:
    """Write the explorer of the most anomalous images of a table, with their maps.

    Args:
        detector: What predicted them; it scores the images shown once more.
        sources: The images.
        folder: The run's folder, which holds the table.
        shown: Images on the page at most, those of the lowest p-values.
        batch_size: Images per pass.
        facts: What was run, in pairs of words.
        progress: Whether a bar is shown.

    Returns:
        The page; None where no image could be read.
    """
    rows = (row for row in rows_of(folder / TABLE) if row["verdict"] != "unreadable")
    keyed = ((float(r["p_value"]), -float(r["score"]), place, r) for place, r in enumerate(rows))
    highest = [entry[3] for entry in heapq.nsmallest(shown, keyed)]
    place_of = {printable(sources.name(index)): index for index in range(len(sources))}
    highest = [row for row in highest if row["image"] in place_of]
    if not highest:
        return None
    found = count_rows(folder)
    lead = (
        f"{found.anomalous} of {found.images} images are called anomalous, at p-values of at most "
        f"{detector.promise.alpha:g}. Shown are the {len(highest)} of the lowest p-values."
    )
    if found.unreadable:
        lead += f" {found.unreadable} could not be read; {TABLE} says why."
    with Explorer(
        folder,
        title="What is unusual",
        lead=lead,
        sections=[_promise(detector), Section("How it was made", tables=[_facts(facts)])],
        thresholds={_MAP: {"calibrated on normal images": detector.threshold}},
    ) as page:
        starts = range(0, len(highest), batch_size)
        for start in progress_bar(progress)(starts, "page"):
            part = highest[start : start + batch_size]
            pixels = [sources.read(place_of[row["image"]]).pixels for row in part]
            images = stacked(pixels)
            maps = detector.maps(images).float().cpu()
            for row, image, image_map in zip(part, images, maps, strict=True):
                page.add(
                    image,
                    name=row["image"],
                    maps={_MAP: image_map},
                    kind=row["verdict"],
                    score=float(row["score"]),
                    values={"p-value": float(row["p_value"]), "area": float(row["area"])},
                )
    return folder / "index.html"


def write_detector_page(
    detector: AnomalyDetector,
    folder: Path,
    *,
    check: PromiseCheck | None,
    facts: Sequence[tuple[str, str]],
) -> Path:
    """Write what a detector is made of, what it promises, and what was seen, beside it.

    Args:
        detector: The detector, fitted.
        folder: Its folder.
        check: Promised against seen on unseen normal images; None where there were none.
        facts: What was run, in pairs of words.
    """
    fitted = detector.fitted
    assert fitted is not None
    sections = [_promise(detector, check)]
    if fitted.choice is not None:
        sections.append(Section("How the scorer was chosen", list(fitted.choice["reasons"])))
    sections.append(Section("How it was made", tables=[_facts(facts)]))
    return write_page(
        folder / "index.html",
        title="A detector of what is unusual",
        lead=f"{type(fitted.model).__name__}: {detector.scorer_words}.",
        sections=sections,
    )


def _promise(detector: AnomalyDetector, check: PromiseCheck | None = None) -> Section:
    fitted = detector.fitted
    assert fitted is not None
    pixel, image = fitted.pixel, fitted.image
    low, high = image.long_run()
    least, most = pixel.images.long_run()
    rows = [
        (
            f"images with more than {pixel.rate:g} of their pixels at or above "
            f"{pixel.threshold:.4g}",
            f"{pixel.alpha:.3g}",
            f"{least:.4f} to {most:.4f}",
            f"{pixel.units} {pixel.unit}",
        ),
        (
            f"images at p-values of at most {image.alpha:g}",
            f"{image.alpha:g}",
            f"{low:.4f} to {high:.4f}",
            f"{image.count} {image.unit}",
        ),
    ]
    header = ("false positives among normal", "promised", "in the long run", "calibrated on")
    tables = [Table(header, rows)]
    if check is not None:
        seen = [
            (
                name,
                f"{rate.promised:.3g}",
                f"{rate.seen:.4f} [{rate.low:.4f}, {rate.high:.4f}]",
                f"{rate.expected_low:.4f} to {rate.expected_high:.4f}",
                f"{rate.units} {rate.unit}",
            )
            for name, rate in (
                (f"images with more than {check.pixel_rate:g} of their pixels", check.pixels),
                ("images", check.images),
            )
        ]
        of_seen = ("on unseen normal images", "promised", "seen", "to be expected", "seen on")
        tables.append(Table(of_seen, seen))
    words = [f"Of the pixels that calibrated {pixel.mean_share:.4f} reach the threshold."]
    if check is not None:
        words.append("Of the unseen images' {:.4f} [{:.4f}, {:.4f}] do.".format(*check.mean_share))
    return Section("What is promised", [" ".join(words), *detector.remarks], tables=tables)


def _facts(facts: Sequence[tuple[str, Any]]) -> Table:
    return Table(("what", "value"), [(name, str(value)) for name, value in facts])
