"""The explorer of an evaluation: every test image with its maps, truth and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_vae.data.sample import SampleDataset
from captum_vae.localization.counters import ignored_pixels, with_those_left_out
from captum_vae.localization.evaluation import Evaluation
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.map_store import MapStore
from captum_vae.localization.model_pass import ModelPass
from captum_vae.localization.preparation import resize_maps
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.samples import SampleSubset, evenly_spaced
from captum_vae.localization.scorer import AnomalyScorer, Scorer
from captum_vae.localization.scorer_result import ScorerResult
from captum_vae.localization.scoring import score_places
from captum_vae.progress import Progress, progress_bar
from captum_vae.report.color_scale import ColorScale
from captum_vae.report.explorer import Explorer

MOST_IMAGES = 5000
"""Images on a page; of more, evenly spaced ones are shown."""

MOST_MAPS = 4
"""Maps of an image: more would leave too few bytes for each."""


def write_explorer(
    folder: str | Path,
    evaluation: Evaluation,
    scorers: Mapping[str, AnomalyScorer],
    test: SampleDataset,
    *,
    scale: ColorScale,
    batch_size: int = 16,
    device: torch.device | None = None,
    progress: Progress = "off",
    store: MapStore | None = None,
) -> None:
    """Write the explorer's files into ``folder/explorer``; the page itself is left to the caller.

    Images whose maps are not in the store are scored once more, in batches, so that memory does
    not grow with their number.
    The maps are those of the comparison, so that the page's numbers at a threshold are those of
    the evaluation where all images are shown.

    Args:
        folder: The folder of the page.
        evaluation: The table; its first row lists its images.
        scorers: The fitted scorers by the names of their rows; the first row's is among them, and
            others are shown where they are compared at the same size and under the same frames.
        test: The test images.
        scale: The common colour scale of the first row's maps.
        batch_size: Images per pass.
        device: Where images go; None leaves them.
        progress: Whether a bar is shown.
        store: Maps of the test images from the passes that measured them.
    """
    main = evaluation.rows[0]
    rows = _shown_rows(evaluation, scorers)
    places = evenly_spaced(range(len(test)), MOST_IMAGES)
    batches = ImageBatches(
        SampleSubset(test, places),
        "test",
        batch_size=batch_size,
        device=device,
        bar=progress_bar(progress),
    )
    auroc = {image.index: image.auroc for image in main.images}
    with Explorer(
        folder,
        title="",
        thresholds={row.name: _thresholds(row) for row in rows},
        scales={main.name: (scale.low, scale.high)},
        page=False,
        stills=0,
    ) as page:
        add_images(
            page,
            {row.name: (scorers[row.name], row.protocol) for row in rows},
            batches,
            lambda number: {"AUROC": auroc.get(places[number])},
            # A selection of the images has places of its own.
            store=store if len(places) == len(test) else None,
        )


def add_images(
    page: Explorer,
    lines: Mapping[str, tuple[AnomalyScorer, Protocol]],
    batches: ImageBatches,
    values: Callable[[int], Mapping[str, float | None]] = lambda number: {},
    store: MapStore | None = None,
) -> None:
    """Score images and add them to an explorer, with their truth and numbers.

    Args:
        page: The open explorer.
        lines: Fitted scorers with the protocols that their maps are compared under, by name. All
            compare at one size; the first one's highest value is an image's score.
        batches: The images.
        values: Further numbers of the image of that number, by name.
        store: Maps of the images from earlier passes; None makes all.
    """
    first = next(iter(lines))
    for numbers, batch in batches.numbered("explorer"):
        scored = {
            id(scorer): maps
            for scorer, maps, _ in score_places(
                [s for s, _ in lines.values()], batch.image, numbers, store
            )
        }
        prepared = {}
        masks: list[Tensor | None] = []
        for name, (scorer, protocol) in lines.items():
            maps = scored[id(scorer)]
            planes, masks = protocol.prepare(maps, batch.mask, batch.label)
            prepared[name] = with_those_left_out(protocol, maps, planes, masks)
        ignored = ignored_pixels(batch, masks)
        facts = _facts(lines[first][0], batch.image)
        for at, number in enumerate(numbers):
            plane = prepared[first][at]
            size = (plane.shape[0], plane.shape[1])
            page.add(
                resize_maps(batch.image[at], size).clamp(0, 1),
                name=batch.name[at],
                maps={name: planes[at] for name, planes in prepared.items()},
                mask=masks[at],
                ignored=ignored[at],
                kind=batch.group[at],
                score=float(plane.amax()),
                values=values(number),
                **{name: found[at] for name, found in facts.items()},
            )


def _shown_rows(evaluation: Evaluation, scorers: Mapping[str, AnomalyScorer]) -> list[ScorerResult]:
    main = evaluation.rows[0].protocol
    rows = [
        row
        for row in evaluation.rows
        if row.name in scorers
        and (row.protocol.size, row.protocol.frames) == (main.size, main.frames)
    ]
    return rows[:MOST_MAPS]


def _thresholds(row: ScorerResult) -> dict[str, float]:
    """The thresholds of a row by where they come from, the fitted one first."""
    found = {}
    for metric in ("f1", "f1_max"):
        score = row.pixel.scores.get(metric)
        if score is not None and score.threshold is not None:
            source = score.threshold_source.replace("_", " ")
            found["best F1 on the test labels (oracle)" if metric == "f1_max" else source] = (
                score.threshold
            )
    return found


def _facts(scorer: AnomalyScorer, images: Tensor) -> dict[str, Any]:
    """Reconstruction, its error and KL of each image, as far as the scorer's model gives them."""
    facts: dict[str, Any] = {}
    if not isinstance(scorer, Scorer):
        return facts
    shared = ModelPass(images, scorer.model, scorer.adapter)
    with torch.no_grad():
        try:
            if shared.posterior.log_variance is not None:
                facts["kl"] = shared.posterior.kl().float().cpu().sum(1).tolist()
            made = shared.reconstruction
        except ValueError:  # an encoder without a decoder
            return facts
    facts["reconstruction"] = made.clamp(0, 1)
    facts["error"] = (made - images).square().flatten(1).mean(1).tolist()
    return facts
