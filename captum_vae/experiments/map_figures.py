"""Anomaly maps of an experiment drawn beside the images and their ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from captum_vae.data.sample import SampleDataset, collate_samples
from captum_vae.experiments.anomaly_maps import AnomalyMap
from captum_vae.experiments.explorers import explore_maps
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

    Beside it a page is written on which more test images are browsed, in ``explore/``.

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
    lines = {m.name: (m.scorer, replace(protocol, smoothing=m.smoothing)) for m in maps}
    where = caption.partition(":")[0]
    page = explore_maps(work, lines, test, name=Path(file).stem, where=where)
    return replace(
        Illustration.of(picture, work.out), explorer=page, browses=f"test images: {where}"
    )


def draw_layers(
    work: Work,
    maps: Mapping[str, Sequence[AnomalyMap]],
    test: SampleDataset,
    indices: Sequence[int],
    *,
    file: str,
    caption: str,
) -> Illustration:
    """A picture of layers as rows and methods with rectifiers as columns, over the same images.

    Args:
        work: It gives the folder and the device.
        maps: The maps of each layer, which learn nothing from normal images; those of every layer
            are named alike but for the layer.
        test: The test images with masks.
        indices: Which test images are shown.
        file: The picture's file, below the work's folder.
        caption: The picture's caption.
    """
    batch = collate_samples([test[index] for index in indices])
    images = batch.image.to(work.device)
    size = (images.shape[2], images.shape[3])
    shown = list(images)
    truths = [resize_maps(m[None].float(), size)[0] for m in batch.mask if m is not None]
    methods = [m.name.partition(", ")[2] for m in next(iter(maps.values()))]
    grid = [
        GridRow("image", [Strip(shown)] * len(methods)),
        GridRow("truth", [Strip(truths)] * len(methods)),
    ]
    for layer, of_layer in maps.items():
        scorers = [m.scorer for m in of_layer]
        scored = {id(scorer): found for scorer, found, _ in score_batch(scorers, images)}
        strips = [Strip(shown, list(resize_maps(scored[id(scorer)], size))) for scorer in scorers]
        grid.append(GridRow(layer, strips))
    names = ["\n".join(name.split("/")[-2:]) for name in batch.name]
    drawn = draw_map_grid(
        grid,
        strip_titles=methods,
        column_titles=[names] * len(methods),
        bar_label="anomaly score, within each group of images",
    )
    picture = Picture(
        save_picture(drawn, work.out / file),
        "anomaly maps of the same test images, layers as rows, methods and rectifiers as columns",
        caption,
    )
    return Illustration.of(picture, work.out)


def _folded(name: str) -> str:
    return name.replace(", ", ",\n")
