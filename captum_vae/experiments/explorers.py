"""The pages of an experiment on which images are browsed: maps with truth, latent dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from captum_vae.data.sample import SampleDataset
from captum_vae.experiments.work import Work
from captum_vae.explain import explain, write_explanation
from captum_vae.localization.evaluation_explorer import add_images
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.samples import SampleSubset, evenly_spaced
from captum_vae.localization.scorer import AnomalyScorer
from captum_vae.report.explorer import Explorer

EXPLORED = 200
"""Test images on a page at most."""

DECODED = 96
"""Images at most on a page that decodes them, and has the maps of every dimension."""

FOLDER = "explore"
"""The folder of these pages, below that of the results."""

_STILLS = 5
"""Images of the pictures that stand for the page in print and without JavaScript."""


def explore_maps(
    work: Work,
    lines: Mapping[str, tuple[AnomalyScorer, Protocol]],
    test: SampleDataset,
    *,
    name: str,
    where: str,
) -> str:
    """Write a page on which test images, their ground truth and their maps are browsed.

    Args:
        work: It gives the folder and the device.
        lines: Fitted scorers with the protocols that their maps are compared under, by name.
        test: The test images with masks.
        name: The page's folder below ``explore/``.
        where: What the images are of, in words.

    Returns:
        The page's path from the work's folder.
    """
    places = evenly_spaced(range(len(test)), EXPLORED)
    folder = work.out / FOLDER / name
    with Explorer(
        folder,
        title="Test images and their maps",
        lead=f"{len(places)} of {len(test)} test images, evenly spaced: {where}.",
    ) as page:
        batches = ImageBatches(SampleSubset(test, places), "test", batch_size=8, device=work.device)
        add_images(page, lines, batches)
    return (folder / "index.html").relative_to(work.out).as_posix()


def explore_dimensions(
    work: Work,
    vae: nn.Module,
    images: SampleDataset,
    layers: Sequence[str],
    *,
    name: str,
    source: str,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Write a page on which the maps of every latent dimension are browsed beside traversals.

    Args:
        work: It gives the folder.
        vae: The model, in eval mode on the work's device.
        images: The images; those beyond :data:`DECODED` are left out, evenly spaced.
        layers: Dotted names of the layers whose maps the page chooses among.
        name: The page's folder below ``explore/``.
        source: Which of the trained models it is, in words.
        options: Options of :class:`~captum_vae.attr.LatentGradCAM`.

    Returns:
        The page's path from the work's folder.
    """
    places = evenly_spaced(range(len(images)), DECODED)
    found = explain(vae, SampleSubset(images, places), layers, options=options)
    model = {**found.settings["model"], "source": source, "options": {}}
    page = write_explanation(
        replace(found, settings={**found.settings, "model": model}),
        work.out / FOLDER / name,
        shown_images=_STILLS,
    )
    return page.relative_to(work.out).as_posix()
