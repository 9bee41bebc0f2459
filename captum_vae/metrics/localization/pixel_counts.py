"""Exact counts of pixels over batches and processes: the state of every localization metric.

States are sums and lists to be concatenated. Their memory: 8 bytes per anomalous pixel, plus what
:mod:`captum_vae.metrics.localization.counts` needs for the normal ones, which does not grow with
their number unless the maps are float64. Under torch.distributed ``compute`` gathers them, so it
gives each process the integers that a single process would have counted. They live on the metric's
device, to which maps are brought; move the metric to where the maps are. The evaluation counts in
:class:`PixelCounts`, which is no ``Metric``, within one process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from captum_vae.checks import check_choice
from captum_vae.metrics.localization.anomalous import (
    AnomalousPixels,
    found_at_thresholds,
    packed,
    sorted_pixels,
)
from captum_vae.metrics.localization.bootstrap import with_grid_error
from captum_vae.metrics.localization.counts import SLAB, ScoreCounts, append_block, reverse_
from captum_vae.metrics.localization.curves import (
    LocalizationScore,
    ThresholdCounts,
    at_threshold,
    auroc,
    average_precision,
    best_iou,
    f1_max,
)
from captum_vae.metrics.localization.inputs import Maps, Masks, maps_of_images, masks_of_images
from captum_vae.metrics.localization.keys import (
    float64_keys,
    key_scores,
    nearest_float32,
    score_keys,
)
from captum_vae.metrics.localization.region_overlap import aupro, region_sizes
from captum_vae.metrics.localization.states import PlainStates, States
from captum_vae.metrics.localization.units import (
    FIRST_SHIFT,
    UnitEntries,
    UnitTable,
    unit_id,
    unit_table,
)

Units = Literal["none", "images", "groups"]

_LIST_STATES: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
    "anomalous_pixels": (torch.int64, ()),
    "waiting_keys": (torch.int32, ()),
    "pair_keys": (torch.int32, ()),
    "pair_counts": (torch.int64, ()),
    "slab_binades": (torch.int64, ()),
    "slabs": (torch.uint8, (SLAB,)),
    "float64_keys": (torch.int64, ()),
    "float64_counts": (torch.int64, ()),
    "float64_anomalous": (torch.int64, ()),
    "float64_sizes": (torch.int64, ()),
    "entry_units": (torch.int64, ()),
    "entry_bins": (torch.int32, ()),
    "entry_positives": (torch.int64, ()),
    "entry_negatives": (torch.int64, ()),
    "entry_overlap": (torch.float64, ()),
}


class PixelResult:
    """What was counted and what follows from it.

    Not a dataclass, because torchmetrics takes those apart.

    Attributes:
        scores: The scores by name: auroc, average_precision, f1_max, best_iou, aupro; with a
            threshold given, also f1, iou, recall and false_positive_rate at it.
        counts: The counts at every threshold that matters, for ROC and PRO curves.
        units: The counts per image or clip for the bootstrap; None when they were not kept.
        images: How many images were counted.
        left_out: How many images were left out because no mask was given for them.
    """

    def __init__(
        self,
        scores: dict[str, LocalizationScore],
        counts: ThresholdCounts,
        units: UnitTable | None,
        images: int,
        left_out: int,
    ) -> None:
        """Hold what was found."""
        self.scores = scores
        self.counts = counts
        self.units = units
        self.images = images
        self.left_out = left_out

    def to_dict(self) -> dict[str, Any]:
        """The values and the numbers of images and pixels, for JSON."""
        return {
            "images": self.images,
            "images_left_out": self.left_out,
            "anomalous_pixels": self.counts.positives,
            "normal_pixels": self.counts.negatives,
            "regions": self.counts.regions,
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
        }


class PixelCounting(States):
    """Exact counts of pixels at every threshold, in states that somebody else holds."""

    waiting_keys: list[Tensor] | Tensor
    images: Tensor
    left_out: Tensor
    normal_pixels: Tensor
    regions: Tensor
    entry_shift: Tensor

    def __init__(self, *, regions: bool = False, units: Units = "none", **kwargs: Any) -> None:
        """Start empty; subclasses choose what to count.

        Args:
            regions: Whether to find 8-connected anomalous regions, as AUPRO needs.
            units: What the bootstrap table counts separately: "none", "images", or the "groups"
                named in ``update``.
            kwargs: Options of what holds the states.

        Raises:
            ValueError: ``units`` is unknown.
        """
        super().__init__(**kwargs)
        check_choice("units", units, get_args(Units))
        self._find_regions = regions or units != "none"
        self._units = units
        self.add_kind(10 * get_args(Units).index(units) + self._find_regions)
        for name, (dtype, shape) in _LIST_STATES.items():
            self.add_list_state(name, dtype, *shape)
        for name in ("images", "left_out", "normal_pixels", "regions"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("entry_shift", default=torch.tensor(FIRST_SHIFT), dist_reduce_fx="max")

    def update(
        self,
        maps: Maps,
        masks: Masks,
        names: Sequence[str] | None = None,
        *,
        ignored: Sequence[Tensor | None] | None = None,
    ) -> None:
        """Count the pixels of B images.

        Args:
            maps: (B, H, W) or (B, 1, H, W) floats, or B maps (H, W) of any sizes; higher is more
                anomalous. float64 is counted exactly, also beside maps of other types.
            masks: (B, H, W) or (B, 1, H, W) bool, or B masks of the maps' sizes; None where the
                truth is unknown, which leaves the image out.
            names: B names of the images, or of their clips with units="groups", unique over all
                processes. Needed with units.
            ignored: B masks (H, W) bool of the pixels that count neither as anomalous nor as
                normal, or None for an image that has none.

        Raises:
            TypeError: A map is not of floats, a mask not bool, or a name no string.
            ValueError: Shapes, sizes or numbers do not fit, there is no image, a score is NaN or
                infinite, or names are missing.
        """
        planes = maps_of_images(maps)
        known = masks_of_images(masks, planes)
        units = self._named(names, len(planes))
        without = (
            [None] * len(planes) if ignored is None else masks_of_images(ignored, planes, "ignored")
        )
        with self.counting() as device:
            for scores, mask, name, left in zip(planes, known, units, without, strict=True):
                if mask is None:
                    self.left_out = self.left_out + 1
                else:
                    counted = None if left is None else ~left.to(device)
                    self._count(scores.to(device), mask.to(device), name, counted)

    def _named(self, names: Sequence[str] | None, images: int) -> Sequence[str | None]:
        if self._units == "none":
            return [None] * images
        if names is None or isinstance(names, str) or len(names) != images:
            given = (
                "one string" if isinstance(names, str) else None if names is None else len(names)
            )
            raise ValueError(
                f"units={self._units!r} needs names, one per map; got {given} for {images} maps"
            )
        for index, name in enumerate(names):
            if not isinstance(name, str):
                raise TypeError(f"names[{index}] is a {type(name).__name__}; wanted a string")
        return names

    def _count(
        self, scores: Tensor, mask: Tensor, name: str | None, counted: Tensor | None
    ) -> None:
        keys = score_keys(scores)
        if counted is not None:
            mask = mask & counted
            normal, anomalous = keys[counted & ~mask], keys[mask]
        elif mask.any():
            normal, anomalous = keys[~mask], keys[mask]
        else:
            normal, anomalous = keys.flatten(), keys.new_zeros(0)
        sizes = torch.ones_like(anomalous, dtype=torch.int64)
        if self._find_regions and len(anomalous):
            sizes, regions = region_sizes(mask)
            self.regions = self.regions + regions
        self.images = self.images + 1
        self._keep_anomalous(anomalous, sizes)
        self.normal_pixels = self.normal_pixels + len(normal)
        self._normal_counts().add_keys(normal)
        if name is not None:
            entries = self._unit_entries()
            entries.add(unit_id(name), nearest_float32(normal), nearest_float32(anomalous), sizes)
            self.entry_shift = torch.full_like(self.entry_shift, entries.shift)

    def _keep_anomalous(self, keys: Tensor, sizes: Tensor) -> None:
        nearest = nearest_float32(keys)
        if keys.dtype == torch.int64:
            exact = float64_keys(nearest) == keys
            append_block(self.parts("float64_anomalous"), keys[~exact])
            append_block(self.parts("float64_sizes"), sizes[~exact])
            nearest, sizes = nearest[exact], sizes[exact]
        append_block(self.parts("anomalous_pixels"), packed(nearest, sizes))

    def threshold_counts(self) -> ThresholdCounts:
        """Counts at every distinct score of an anomalous pixel."""
        with self.counting():
            normal = self._normal_counts()
            if isinstance(self.waiting_keys, list):  # not gathered: a gathered state stays as it is
                normal.settle()
            pixels = self._sorted_pixels()
            negatives, regions = int(self.normal_pixels), int(self.regions)
            positives = len(pixels.codes)
            integers = torch.int32 if max(positives, negatives) < 1 << 31 else torch.int64
            found = found_at_thresholds(pixels, regions=self._find_regions, dtype=integers)
            keys = float64_keys(found.keys) if normal.has_float64 else found.keys
            below, tied = normal.below_and_tied(keys.flip(0), dtype=integers)
        return ThresholdCounts(
            thresholds=key_scores(keys),
            true_positives=found.true_positives,
            false_positives=reverse_(below.neg_().add_(negatives)),
            tied_negatives=reverse_(tied),
            positives=positives,
            negatives=negatives,
            region_overlap=None if found.overlap is None else found.overlap.div_(max(regions, 1)),
            regions=regions,
        )

    def _sorted_pixels(self) -> AnomalousPixels:
        """The anomalous pixels in order; the state holds the codes in order from now on."""
        names = ("anomalous_pixels", "float64_anomalous", "float64_sizes")
        codes, keys, sizes = (self.concatenated(name) for name in names)
        pixels = sorted_pixels(codes, keys, sizes)
        self.parts("anomalous_pixels")[:] = [codes]
        return pixels

    def _normal_counts(self) -> ScoreCounts:
        names = (
            *("waiting_keys", "pair_keys", "pair_counts", "slab_binades", "slabs"),
            *("float64_keys", "float64_counts"),
        )
        return ScoreCounts(*(self.parts(name) for name in names))

    def _unit_entries(self) -> UnitEntries:
        return UnitEntries(
            self.parts("entry_units"),
            self.parts("entry_bins"),
            self.parts("entry_positives"),
            self.parts("entry_negatives"),
            self.parts("entry_overlap"),
            int(self.entry_shift),
        )

    def result(
        self,
        *,
        fpr_limit: float = 0.3,
        threshold: float | None = None,
        threshold_source: str = "train_quantile",
    ) -> PixelResult:
        """Every localization metric of the pixels seen so far, which were counted with regions.

        Args:
            fpr_limit: False positive rate up to which AUPRO integrates, in (0, 1].
            threshold: Adds F1, IoU, recall and false positive rate at this score.
            threshold_source: Where the threshold came from, stored with those values.
        """
        counts = self.threshold_counts()
        values = [auroc(counts), average_precision(counts), f1_max(counts), best_iou(counts)]
        values.append(aupro(counts, fpr_limit=fpr_limit))
        scores = {score.name: score for score in values}
        with self.counting():
            if threshold is not None:
                false = self._normal_counts().at_least(threshold)
                scores |= at_threshold(counts, threshold, false, source=threshold_source)
            entries = self._unit_entries()
            units = None
            if any(len(part) for part in entries.bins):
                units = with_grid_error(unit_table(entries), scores["auroc"].value)
        return PixelResult(scores, counts, units, int(self.images), int(self.left_out))


class PixelCounts(PixelCounting, PlainStates):
    """Exact counts of pixels within one process."""
