"""Choosing a variant of latent attention without test labels, on synthetic defects.

Defects are painted on normal training images that the candidates were not fitted on. What localizes
them best is chosen. They fade in and out, and their masks are outlined as annotators do it: on
defects that show everywhere and masks exact to the pixel the sharpest map wins, which loses on real
defects. (MVTec AD bottle showed that, where smoothed maps did far better than the variant so
chosen. So bottle is no test of this remedy; the other data sets are.)

Synthetic defects are not the real ones, so the choice can be wrong: a report also measures every
candidate on the test set and says which one an oracle would have chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from captum_vae.attr.options import Rectifier, Weighting
from captum_vae.data.defects import DefectMasks, SyntheticDefects, Visibility
from captum_vae.data.sample import Sample, SampleDataset, collate_samples
from captum_vae.localization.evaluation import (
    Evaluation,
    Progress,
    Row,
    fit_rows,
    layers_of,
    measure_rows,
)
from captum_vae.localization.layer_scorers import Baseline, LatentAttention
from captum_vae.localization.model_pass import NormalImages
from captum_vae.localization.protocol import Protocol
from captum_vae.localization.scorer import Scale
from captum_vae.posterior import PosteriorAdapter


@dataclass(frozen=True)
class Candidates:
    """The variants to choose from: every combination of these options, all channelwise.

    Attributes:
        layers: dotted names; each is a candidate, and so are all of them fused if ``fused``.
        fused: also try all layers fused.
        rectifiers: of the maps.
        weightings: pooled, elementwise, integrated.
        baselines: mean_activation, reconstruction, mean_image, none.
        scales: none, location.
        smoothing: standard deviations in pixels of the mask.
        held_out: share of the normal images that defects are painted on.
        images: how many of them at most, evenly spaced.
        contrast: least difference between a defect and what was there. Low, since defects that
            every candidate finds leave nothing to choose by.
        area: smallest and largest share of the image that a defect is drawn on.
        visibility: of the defects, ``patchy`` or ``whole``.
        masks: of the defects, ``outlined`` or ``changed``.
        seed: of the defects.
    """

    layers: list[str]
    fused: bool = False
    rectifiers: list[Rectifier] = field(default_factory=lambda: ["abs"])
    weightings: list[Weighting] = field(default_factory=lambda: ["pooled"])
    baselines: list[Baseline] = field(default_factory=lambda: ["mean_activation", "reconstruction"])
    scales: list[Scale] = field(default_factory=lambda: ["none"])
    smoothing: list[float] = field(default_factory=lambda: [0.0, 4.0])
    held_out: float = 0.2
    images: int = 100
    contrast: float = 0.02
    area: tuple[float, float] = (0.01, 0.1)
    visibility: Visibility = "patchy"
    masks: DefectMasks = "outlined"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check that there is something to choose from.

        Raises:
            ValueError: an empty list, or a number out of its range.
        """
        for name, value in asdict(self).items():
            if isinstance(value, list) and not value:
                raise ValueError(f"choose.{name} is empty; wanted at least one")
        if not 0 < self.held_out < 1:
            raise ValueError(f"choose.held_out is {self.held_out}; wanted a share between 0 and 1")
        if self.images < 1:
            raise ValueError(f"choose.images is {self.images}; wanted at least 1")

    def rows(self, model: Any, adapter: PosteriorAdapter, protocol: Protocol) -> list[Row]:
        """One row per candidate; those that differ in smoothing alone share a scorer.

        Args:
            model: the VAE.
            adapter: reads its posterior.
            protocol: of the table, whose smoothing is replaced.
        """
        layers: list[str | list[str]] = [*self.layers]
        if self.fused and len(self.layers) > 1:
            layers.append(list(self.layers))
        rows = []
        for layer, rectifier, weighting, baseline, scale in itertools.product(
            layers, self.rectifiers, self.weightings, self.baselines, self.scales
        ):
            scorer = LatentAttention(
                model,
                layer,
                rectifier=rectifier,
                order="channelwise",
                weighting=weighting,
                baselines=baseline,
                scale=scale,
                posterior=adapter,
            )
            where = layer if isinstance(layer, str) else "+".join(layer)
            for sigma in self.smoothing:
                name = f"{where}, {rectifier}, {weighting}, {baseline}, scale {scale}"
                rows.append(
                    Row(f"{name}, sigma {sigma:g}", scorer, replace(protocol, smoothing=sigma))
                )
        return rows


@dataclass(frozen=True)
class Choice:
    """What was chosen, on what grounds, and what an oracle would have chosen.

    Attributes:
        name: of the candidate with the highest pixel AUROC on synthetic defects.
        synthetic: pixel AUROC of every candidate on them, best first.
        painted: how many images they were painted on.
        on_test: pixel AUROC of every candidate on test images, best first; empty if not measured.
        test_images: how many test images those are of.
    """

    name: str
    synthetic: dict[str, float]
    painted: int
    on_test: dict[str, float] = field(default_factory=dict)
    test_images: int = 0

    @property
    def oracle(self) -> str:
        """Name of the best candidate on the test images."""
        return next(iter(self.on_test))

    def beside_oracle(self, on_test: dict[str, float], test_images: int) -> Choice:
        """The same choice, with what the test labels say about all candidates."""
        return replace(self, on_test=on_test, test_images=test_images)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, an undefined AUROC as None."""
        entries = asdict(self)
        for name in ("synthetic", "on_test"):
            entries[name] = {k: None if v != v else v for k, v in entries[name].items()}
        return {**entries, "oracle": self.oracle if self.on_test else None}

    def lines(self) -> list[str]:
        """For people: what was chosen and what that cost."""
        lines = [
            f"Chosen among {len(self.synthetic)} variants without test labels, by pixel AUROC on "
            f"synthetic defects painted on {self.painted} held-out normal images: {self.name} "
            f"({self.synthetic[self.name]:.3f} on the synthetic defects)."
        ]
        if self.on_test:
            best, own = self.on_test[self.oracle], self.on_test[self.name]
            lines.append(
                f"An oracle, which reads the test labels, would have chosen {self.oracle}: pixel "
                f"AUROC {best:.3f} on {self.test_images} test images, where the chosen one has "
                f"{own:.3f}."
            )
        return lines


def choose(
    rows: Sequence[Row],
    normal: SampleDataset,
    candidates: Candidates,
    *,
    model: Any,
    adapter: PosteriorAdapter,
    batch_size: int,
    device: torch.device | None = None,
    normal_images: int = 500,
    progress: Progress = lambda batches, title: batches,
) -> Choice:
    """Choose among rows by synthetic defects on held-out normal images; no test image is read.

    The scorers come back fitted on the other normal images; fit them again before use.

    Args:
        rows: of :meth:`Candidates.rows`.
        normal: normal training images.
        candidates: says how many images are held out and painted on.
        model: the VAE.
        adapter: reads its posterior.
        batch_size: of the passes.
        device: where images are brought to; None leaves them.
        normal_images: how many images the scorers are fitted on at most.
        progress: wraps batches.

    Raises:
        ValueError: too few normal images to hold some out.
    """
    kept, held_out = split_held_out(len(normal), candidates.held_out)
    painted = SyntheticDefects(
        Chosen(normal, spaced(held_out, candidates.images)),
        area=candidates.area,
        contrast=candidates.contrast,
        visibility=candidates.visibility,
        masks=candidates.masks,
        seed=candidates.seed,
    )
    layers = layers_of(rows)
    fitted_on = Chosen(normal, spaced(kept, normal_images))
    fit_rows(
        rows,
        NormalImages(
            load(fitted_on, batch_size),
            model,
            adapter,
            layers,
            device=device,
            progress=lambda batches: iter(progress(batches, "fitting candidates")),
        ),
    )
    size = _mask_size(normal[0])
    same_size = [replace(row, protocol=replace(row.protocol, size=size)) for row in rows]
    measured = measure_rows(
        same_size,
        load(painted, batch_size),
        device=device,
        units="none",
        progress=lambda batches, _: progress(batches, "choosing"),
    )
    ranked = ranking(measured)
    return Choice(next(iter(ranked)), ranked, len(painted))


def ranking(evaluation: Evaluation) -> dict[str, float]:
    """Pixel AUROC by row, best first; of equals the first comes first."""
    scores = {row.name: row.pixel.scores["auroc"].value for row in evaluation.rows}
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def split_held_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """Indices to fit on and indices held out, the latter evenly spaced.

    Raises:
        ValueError: one of the two would be empty.
    """
    wanted = round(count * share)
    held_out = spaced(range(count), wanted) if wanted else []
    kept = sorted(set(range(count)) - set(held_out))
    if not kept or not held_out:
        raise ValueError(
            f"{count} normal images with held_out={share} leave {len(kept)} to fit on and "
            f"{len(held_out)} to paint on; wanted some of each"
        )
    return kept, held_out


def spaced(indices: Sequence[int], count: int) -> list[int]:
    """``count`` of ``indices``, evenly spaced, or all when there are no more."""
    if len(indices) <= count:
        return list(indices)
    return [indices[(2 * place + 1) * len(indices) // (2 * count)] for place in range(count)]


class Chosen(SampleDataset):
    """Some samples of a data set, by number."""

    def __init__(self, dataset: SampleDataset, indices: Sequence[int]) -> None:
        """Keep the data set and the numbers."""
        self.dataset = dataset
        self.indices = list(indices)

    def __len__(self) -> int:
        """How many were chosen."""
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """The sample of the chosen number."""
        return self.dataset[self.indices[index]]


def load(dataset: SampleDataset, batch_size: int, *, workers: int = 0) -> DataLoader[Sample]:
    """Batches in order."""
    return DataLoader(
        dataset, batch_size=batch_size, collate_fn=collate_samples, num_workers=workers
    )


def _mask_size(sample: Sample) -> tuple[int, int]:
    """At which size maps will be compared, so that a sigma means the same in both places."""
    found = sample.image.shape[1:] if sample.mask is None else sample.mask.shape
    return found[0], found[1]
