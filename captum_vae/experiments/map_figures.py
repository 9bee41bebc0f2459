"""Anomaly maps of an experiment drawn beside the images and their ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.experiments.anomaly_maps import AnomalyMap
from captum_vae.experiments.results import Illustration
from captum_vae.experiments.work import Work
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.preparation import resize_maps
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scoring import fit_scorers, score_batch
from captum_vae.report import (
    ColorScale,
    GridRow,
    Picture,
    Strip,
    draw_map_grid,
    save_picture,
)


def draw_examples(
    work: Work,
    maps: Sequence[AnomalyMap],
    normal: SampleDataset,
    test: SampleDataset,
    indices: Sequence[int],
    *,
    file: str,
    caption: str,
) -> Illustration:
    """A picture of test images with their ground truth and maps, a colour scale per map.

    Args:
        work: It gives the folder and the device.
        maps: The maps; their scorers are fitted here on ``normal``.
        normal: The normal images.
        test: The test images with masks.
        indices: Which test images are shown.
        file: The picture's file, below the work's folder.
        caption: The picture's caption.
    """
    protocol = Protocol(threshold="oracle")
    scorers = [anomaly_map.scorer for anomaly_map in maps]
    fit_scorers(scorers, ImageBatches(normal, "normal", batch_size=16, device=work.device), "")
    labels, truths, found = [], [], []
    for index in indices:
        batch = collate_samples([test[index]])
        mask = batch.mask[0]
        assert mask is not None
        size = (mask.shape[0], mask.shape[1])
        scores = {
            id(scorer): scored
            for scorer, scored, _ in score_batch(scorers, batch.image.to(work.device))
        }
        prepared = [
            replace(protocol, smoothing=m.smoothing).transform(scores[id(m.scorer)], size)[0].cpu()
            for m in maps
        ]
        labels.append("\n".join(batch.name[0].split("/")[-2:]))
        truths.append((resize_maps(batch.image[0], size).clamp(0, 1), mask.float()))
        found.append(prepared)
    scales = [ColorScale.of([prepared[place] for prepared in found]) for place in range(len(maps))]
    grid = [
        GridRow(
            label,
            [
                Strip([image, truth]),
                *(Strip([image], [m], scale) for m, scale in zip(prepared, scales, strict=True)),
            ],
        )
        for label, (image, truth), prepared in zip(labels, truths, found, strict=True)
    ]
    drawn = draw_map_grid(
        grid,
        column_titles=[("image", "truth"), *((_folded(m.name),) for m in maps)],
        bar_label="anomaly score",
    )
    picture = Picture(
        save_picture(drawn, work.out / file),
        "test images, their ground truth and their anomaly maps side by side",
        caption,
    )
    return Illustration.of(picture, work.out)


def _folded(name: str) -> str:
    return name.replace(", ", ",\n")
