"""The page of an evaluation: its images are chosen, scored once more and handed to be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.localization.evaluation import Evaluation
from captum_vae.localization.evaluation_explorer import write_explorer
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.preparation import resize_maps
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.localization.scorer_result import ImageResult, ScorerResult
from captum_vae.localization.scoring import score_places
from captum_vae.progress import Progress
from captum_vae.report.evaluation import (
    ShownImage,
    Threshold,
    shared_scale,
    write_evaluation_report,
)
from captum_vae.report.explorer import DATA_FOLDER

_CURVES = 6
"""More curves than that cannot be told apart on paper."""


def write_evaluation_page(
    folder: str | Path,
    evaluation: Evaluation,
    scorer: AnomalyScorer,
    test: SampleDataset,
    *,
    device: torch.device | None = None,
    count: int = 6,
    others: Mapping[str, AnomalyScorer] | None = None,
    batch_size: int = 16,
    progress: Progress = "off",
    choice: Sequence[str] = (),
    facts: Sequence[tuple[str, str]] = (),
    store: MapStore | None = None,
) -> Path:
    """Write the HTML page of an evaluation: an explorer, tables, still pictures and curves.

    Args:
        folder: Folder of the page.
        evaluation: The table; its first row lists its images.
        scorer: The scorer of the first row, fitted.
        test: The test images.
        device: Where images go; None leaves them.
        count: Worst and best images among the still pictures, each; a third as many normal ones.
        others: The fitted scorers of other rows by name, whose maps the explorer shows too.
        batch_size: Images per pass.
        progress: Whether a bar is shown.
        choice: How the scorer was chosen, in paragraphs.
        facts: Model, data and machine as pairs of words.
        store: Maps of the test images from the passes that measured them, which are not made
            again; None makes all.

    Returns:
        The page's path.
    """
    main = evaluation.rows[0]

    def shown(images: Sequence[ImageResult], most: int) -> list[ShownImage]:
        some = images[:most]
        return [_show(image, scorer, main.protocol, test, device, store) for image in some]

    defective = [image for image in main.images if not math.isnan(image.auroc)]
    normal = [image for image in main.images if math.isnan(image.auroc)]
    scale = shared_scale([(image.auroc, image.highest) for image in main.images])
    write_explorer(
        folder,
        evaluation,
        {**(others or {}), main.name: scorer},
        test,
        scale=scale,
        batch_size=batch_size,
        device=device,
        progress=progress,
        store=store,
    )
    return write_evaluation_report(
        folder,
        explorer=DATA_FOLDER,
        title="Where the anomalies are",
        lead=f"{main.name}: {_headline(main)} over {main.pixel.images} images.",
        table=evaluation.table,
        main=main.name,
        scale=scale,
        threshold=_threshold(main),
        worst=shown(spread_over_groups(sorted(defective, key=lambda i: i.auroc)), count),
        best=shown(spread_over_groups(sorted(defective, key=lambda i: -i.auroc)), count),
        normal=shown(normal, math.ceil(count / 3)),
        curves={row.name: row.pixel.counts for row in evaluation.rows[:_CURVES]},
        undefined=evaluation.undefined,
        differences=evaluation.difference_table,
        choice=choice,
        facts=[("protocol", str(main.protocol)), *facts],
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


def _headline(row: ScorerResult) -> str:
    auroc = row.pixel.scores["auroc"].value
    return "pixel AUROC undefined" if math.isnan(auroc) else f"pixel AUROC {auroc:.3f}"


def _threshold(row: ScorerResult) -> Threshold | None:
    if row.threshold is None:
        return None
    return Threshold(row.threshold, row.pixel.scores["f1"].threshold_source)


def _show(
    result: ImageResult,
    scorer: AnomalyScorer,
    protocol: Protocol,
    test: SampleDataset,
    device: torch.device | None,
    store: MapStore | None,
) -> ShownImage:
    """Image, ground truth and map of one test image, all at the size of the comparison."""
    batch = collate_samples([test[result.index]])
    images = batch.image if device is None else batch.image.to(device)
    ((_, maps, _),) = score_places([scorer], images, [result.index], store)
    scores, masks = protocol.prepare(maps, batch.mask, batch.label)
    mask = masks[0]
    assert mask is not None
    size = (mask.shape[0], mask.shape[1])
    image = resize_maps(batch.image[0], size).clamp(0, 1)
    return ShownImage(result.name, result.auroc, image, mask.cpu(), scores[0].cpu())
