"""The images of an evaluation's report: worst, best and normal, scored once more to be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.localization.evaluation import Evaluation, ImageResult, Row, score_all
from captum_vae.localization.protocol import resize_maps
from captum_vae.report.evaluation import ShownImage, write_evaluation_report

_CURVES = 6
"""More curves than that cannot be told apart on paper."""


def write_report(
    folder: Path,
    evaluation: Evaluation,
    main: Row,
    test: SampleDataset,
    *,
    device: torch.device,
    count: int,
    choice: Sequence[str],
    facts: Sequence[tuple[str, str]],
) -> Path:
    """Write the HTML report of an evaluation.

    Args:
        folder: of the page.
        evaluation: the table; its main row lists its images.
        main: the row whose maps are shown.
        test: the test set.
        device: of the model.
        count: worst and best images, each; a third as many normal ones.
        choice: how the main row was chosen.
        facts: model, data and machine.
    """
    images = evaluation.row(main.name).images
    ranked = spread_over_groups(
        sorted((i for i in images if not math.isnan(i.auroc)), key=lambda i: i.auroc)
    )
    best = spread_over_groups(
        sorted((i for i in images if not math.isnan(i.auroc)), key=lambda i: -i.auroc)
    )
    normal = [i for i in images if math.isnan(i.auroc)][: math.ceil(count / 3)]
    return write_evaluation_report(
        folder,
        evaluation,
        title="Where the anomalies are",
        main=main.name,
        worst=[show(i, main, test, device) for i in ranked[:count]],
        best=[show(i, main, test, device) for i in best[:count]],
        normal=[show(i, main, test, device) for i in normal],
        curves=[row.name for row in evaluation.rows[:_CURVES]],
        choice=choice,
        facts=facts,
    )


def spread_over_groups(images: Sequence[ImageResult]) -> list[ImageResult]:
    """The first image of each group, in order, then the second of each, and so on.

    Neighbouring frames of a clip look alike, so the worst five would be one picture five times.
    """
    seen: dict[str, int] = {}
    turns = []
    for image in images:
        seen[image.group] = seen.get(image.group, 0) + 1
        turns.append(seen[image.group])
    order = sorted(range(len(images)), key=lambda place: (turns[place], place))
    return [images[place] for place in order]


def show(result: ImageResult, row: Row, test: SampleDataset, device: torch.device) -> ShownImage:
    """Image, ground truth and map of one test image, all at the map's prepared size."""
    batch = collate_samples([test[result.index]])
    ((_, maps, _),) = score_all([row.scorer], batch.image.to(device))
    scores, masks = row.protocol.prepare(maps, batch.mask, batch.label)
    mask = masks[0]
    assert mask is not None
    size = (mask.shape[0], mask.shape[1])
    image = resize_maps(batch.image[0], size).clamp(0, 1)
    return ShownImage(result.name, result.auroc, image, mask.cpu(), scores[0].cpu())
