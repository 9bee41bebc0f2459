"""Exact counts of pixels over batches and processes: the state of every localization metric.

States are sums and lists to be concatenated. Their memory: 8 bytes per anomalous pixel, plus what
:mod:`captum_vae.metrics.localization.counts` needs for the normal ones, which does not grow with
their number unless the maps are float64. Under torch.distributed ``compute`` gathers them, so it
gives each process the integers that a single process would have counted. They live on the metric's
device, to which maps are brought; move the metric to where the maps are.
"""

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
from captum_vae.metrics.localization.counts import SLAB, ScoreCounts, append_block, reverse_
from captum_vae.metrics.localization.curves import LocalizationScore, ThresholdCounts
from captum_vae.metrics.localization.inputs import Maps, Masks, maps_of_images, masks_of_images
from captum_vae.metrics.localization.keys import (
    float64_keys,
    key_scores,
    nearest_float32,
    score_keys,
)
from captum_vae.metrics.localization.plotting import plot_roc, plot_values
from captum_vae.metrics.localization.region_overlap import region_sizes
from captum_vae.metrics.localization.states import ListStatesMetric
from captum_vae.metrics.localization.units import FIRST_SHIFT, UnitEntries, unit_id

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


class PixelCountsMetric(ListStatesMetric):
    """Exact counts of pixels at every threshold; the base of the metrics of pixels."""

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
            kwargs: Options of ``torchmetrics.Metric``.

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

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather the states of all processes, see ``torchmetrics.Metric.sync``."""
        self._normal_counts().settle()
        super().sync(*args, **kwargs)

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

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Draw the metric's curve, with its value, and the best threshold where it has one.

        Args:
            val: One result of ``compute`` or several, drawn as points; None draws the curve of the
                pixels seen so far.
            ax: Axes to draw in; None makes a figure.

        Returns:
            The figure and the axes.
        """
        return self._curve(ax) if val is None else plot_values(self, val, ax)

    def _curve(self, ax: Any) -> Any:
        return plot_roc(self.threshold_counts(), ax)

    def _value_and_threshold(self, score: LocalizationScore) -> dict[str, Tensor]:
        threshold = torch.nan if score.threshold is None else score.threshold
        return {
            score.name: self.tensor_of(score),
            f"{score.name}_oracle_threshold": torch.tensor(
                threshold, dtype=torch.float64, device=self.device
            ),
        }
