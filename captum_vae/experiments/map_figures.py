"""Anomaly maps of an experiment drawn beside the images and their ground truth."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.experiments.anomaly_maps import AnomalyMap
from captum_vae.experiments.results import Figure
from captum_vae.experiments.work import Work
from captum_vae.localization.choosing import load
from captum_vae.localization.evaluation import fit_rows, layers_of, score_all
from captum_vae.localization.model_pass import NormalImages
from captum_vae.localization.preparation import resize_maps
from captum_vae.localization.protocol import Protocol
from captum_vae.posterior import as_adapter
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
    vae: nn.Module,
    maps: Sequence[AnomalyMap],
    normal: SampleDataset,
    test: SampleDataset,
    indices: Sequence[int],
    *,
    file: str,
    caption: str,
) -> Figure:
    """A picture of test images with their ground truth and maps, a colour scale per map.

    Args:
        work: gives folder and device.
        vae: the model.
        maps: fitted here on ``normal``.
        normal: normal images.
        test: test images with masks.
        indices: of the images shown.
        file: of the picture, below the work's folder.
        caption: of the picture.
    """
    protocol = Protocol(threshold="oracle")
    rows = [anomaly_map.row("", protocol) for anomaly_map in maps]
    adapter = as_adapter(vae, None)
    fit_rows(
        rows, NormalImages(load(normal, 16), vae, adapter, layers_of(rows), device=work.device)
    )
    labels, truths, found = [], [], []
    for index in indices:
        batch = collate_samples([test[index]])
        mask = batch.mask[0]
        assert mask is not None
        size = (mask.shape[0], mask.shape[1])
        scored = {
            id(scorer): scores
            for scorer, scores, _ in score_all(
                [row.scorer for row in rows], batch.image.to(work.device)
            )
        }
        prepared = [row.protocol.transform(scored[id(row.scorer)], size)[0].cpu() for row in rows]
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
    return work.figure(picture)


def _folded(name: str) -> str:
    return name.replace(", ", ",\n")
