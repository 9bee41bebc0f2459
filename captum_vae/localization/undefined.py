"""What an evaluation leaves undefined, why, and what a person can do about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from captum_vae.localization.scorer_result import ScorerResult
from captum_vae.metrics.localization.bootstrap import PairedDifference


def undefined_lines(
    rows: Sequence[ScorerResult], differences: Mapping[str, PairedDifference]
) -> list[str]:
    """Sentences on everything undefined, those of several scorers said once.

    Args:
        rows: The results of all scorers.
        differences: Paired tests, by ``first - second``.
    """
    found: dict[str, list[str]] = {}
    for row in rows:
        for line in (_of_pixels(row), _of_images(row), _of_intervals(row)):
            if line:
                found.setdefault(line, []).append(row.name)
    lines = []
    for line, names in found.items():
        scorers = "every scorer" if len(names) == len(rows) else ", ".join(names)
        lines.append(f"Undefined for {scorers}: {line}")
    lines += [
        f"No paired test of {pair}: {difference.reason}."
        for pair, difference in differences.items()
        if difference.reason
    ]
    return lines


def _of_pixels(row: ScorerResult) -> str:
    """Why no pixel metric is defined, and what would help; empty when they are."""
    if not math.isnan(row.pixel.scores["auroc"].value):
        return ""
    pixel, counts = row.pixel, row.pixel.counts
    if not pixel.images:
        return (
            f"all pixel metrics, since none of the {pixel.left_out} test images counts under the "
            f"protocol ({str(row.protocol).partition(';')[0]}). Give the test images masks, empty "
            "ones where they are normal: an image without a mask has unknown truth."
        )
    if not counts.positives:
        return (
            f"all pixel metrics, since no pixel of the {pixel.images} test images that count is "
            "anomalous. Add images with defects and their masks; where there are some, their masks "
            "were not found or are empty."
        )
    return (
        f"all pixel metrics, since every pixel of the {pixel.images} test images that count is "
        "anomalous. Add normal images, and check that the masks mark the defect alone."
    )


def _of_images(row: ScorerResult) -> str:
    """Why the image AUROC is undefined, and what would help; empty when it is not."""
    if not math.isnan(row.image_auroc.value):
        return ""
    return (
        f"the image AUROC, since there is {row.image_auroc.reason}. It takes test images labelled "
        "normal and others labelled anomalous."
    )


def _of_intervals(row: ScorerResult) -> str:
    """Why defined metrics have no interval; empty when they have one, or none is wanted."""
    interval = row.intervals.get("auroc")
    if interval is None or not interval.reason or math.isnan(row.pixel.scores["auroc"].value):
        return ""
    return f"the intervals, since {interval.reason}."
