"""All maps of one VAE measured side by side on one test set, and what tables make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from torch import nn

from captum_vae.data.sample import SampleDataset
from captum_vae.experiments.anomaly_maps import (
    AnomalyMap,
    ChosenMaps,
    baseline_maps,
    pixel_maps,
    published_maps,
)
from captum_vae.experiments.localizing import METRICS, measured
from captum_vae.experiments.map_figures import draw_examples
from captum_vae.experiments.results import Cell, Figure, ResultTable
from captum_vae.experiments.verdicts import Estimate
from captum_vae.experiments.work import Work
from captum_vae.localization.evaluation import Row
from captum_vae.metrics.localization.metric import Units


@dataclass(frozen=True)
class MapComparison:
    """The maps that are compared, and on what.

    Attributes:
        vae: trained last by ``work``.
        work: keeps what was measured.
        title: of what is measured, for the person at the terminal.
        published: layers by name of the maps as published.
        layers: likewise of the maps with a baseline.
        chosen: what was chosen without labels.
        normal: normal images that scorers are fitted on.
        test: images with masks.
    """

    vae: nn.Module
    work: Work
    title: str
    published: Mapping[str, str]
    layers: Mapping[str, str]
    chosen: Sequence[ChosenMaps]
    normal: SampleDataset
    test: SampleDataset

    @cached_property
    def maps(self) -> list[AnomalyMap]:
        """In the order of the tables."""
        pixel = pixel_maps(self.vae)
        return [
            *pixel,
            *published_maps(self.vae, self.published),
            *baseline_maps(self.vae, self.layers),
            *(anomaly_map for chosen in self.chosen for anomaly_map in chosen.beside(pixel)),
        ]

    def measure(
        self,
        rows: Callable[[Sequence[AnomalyMap]], list[Row]],
        *,
        name: str,
        settings: Any,
        pairs: Sequence[tuple[str, str]],
        units: Units,
        batch_size: int,
        resamples: int,
    ) -> dict[str, Any]:
        """All rows in one pass over the test images, as of ``localizing.measured``.

        Args:
            rows: gives the maps under every protocol.
            name: of the measurement among the kept cells.
            settings: a dataclass of what it depends on.
            pairs: of rows whose pixel AUROC is compared.
            units: what intervals resample.
            batch_size: images per pass.
            resamples: of the bootstrap.
        """
        table = rows(self.maps)
        variants = [chosen.variant for chosen in self.chosen]
        key = [self.work.trainings[-1]["model"], asdict(settings), variants, len(self.test)]

        def measure() -> dict[str, Any]:
            self.work.say(f"measuring {len(table)} rows on {len(self.test)} images: {self.title}")
            return measured(
                self.vae,
                table,
                self.normal,
                self.test,
                device=self.work.device,
                pairs=pairs,
                units=units,
                batch_size=batch_size,
                resamples=resamples,
                seed=self.work.seed,
            )

        found: dict[str, Any] = self.work.stored(name, key, measure)
        return found

    def draw(
        self, published: str, images: SampleDataset, indices: Sequence[int], *, file: str
    ) -> Figure:
        """A published map and the chosen one on some images.

        Args:
            published: name of the map.
            images: with masks.
            indices: of those shown.
            file: of the picture.
        """
        shown = [next(m for m in self.maps if m.name == published), self.chosen[0].ours]
        return draw_examples(
            self.work,
            self.vae,
            shown,
            self.normal,
            images,
            indices,
            file=file,
            caption=f"{self.title}: the map as published, and ours with a baseline. Each map has "
            "one colour scale for all images; its two numbers stand underneath.",
        )


def metric_row(cell: Mapping[str, Any], name: str) -> list[Estimate]:
    """A row's metrics out of a measured cell, in the order of ``localizing.METRICS``."""
    return [Estimate.from_dict(cell["rows"][name][metric]) for metric in METRICS]


METRIC_COLUMNS = ("pixel AUROC", "AUPRO", "average precision", "best IoU (oracle)")
"""Titles for :func:`metric_row`."""


def minus(ours: Estimate, published: float | None) -> Cell:
    """How far ours is above a published figure; None where there is none."""
    return None if published is None or ours.value is None else ours.value - published


def choice_table(found: Sequence[tuple[str, ChosenMaps]]) -> ResultTable:
    """What was chosen without labels.

    Args:
        found: the choices, each with what was chosen for.
    """
    return ResultTable(
        "choice",
        "What was chosen without labels",
        ["for", "variant", "of", "painted images", "pixel AUROC on synthetic defects"],
        [[name, c.variant, c.among, c.painted, c.synthetic] for name, c in found],
    )
