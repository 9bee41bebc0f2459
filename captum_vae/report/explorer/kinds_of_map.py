"""What the page knows of one kind of map over all images: ranges, thresholds, counts."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vae.checks import real_number
from captum_vae.metrics.localization.keys import score_keys
from captum_vae.report.explorer.counting import DROPPED_BITS, Counts, SummedCounts, Thresholds
from captum_vae.report.text import legible

COMMON_SHARE = 0.95
"""Share of the images whose values all lie on the common scale."""

_MOST_KINDS = 64
"""Kinds of defect beyond which only all images together are counted."""


class KindOfMap:
    """One kind of map, such as a scorer's, or that of an attribution at a layer.

    Args:
        name: Its name.
        layer: The layer that it was computed at; empty where there is none.
        per_dimension: Whether it holds a map per latent dimension.
        thresholds: Thresholds offered by name.
        scale: The values of the first and last colour; None takes the range of nearly all maps.

    Raises:
        TypeError: A threshold is no number.
        ValueError: A threshold or an end of the scale is not finite, or the ends are in disorder.
    """

    def __init__(
        self,
        name: str,
        layer: str,
        *,
        per_dimension: bool,
        thresholds: Mapping[str, float],
        scale: tuple[float, ...] | None,
    ) -> None:
        """Nothing was seen."""
        self.name = name
        self.layer = layer
        self.per_dimension = per_dimension
        self.named = {
            label: real_number("thresholds", value) for label, value in thresholds.items()
        }
        if scale is not None and not (
            len(scale) == 2 and real_number("scales", scale[0]) <= real_number("scales", scale[1])
        ):
            raise ValueError(f"scales holds {scale}; wanted (low, high) with low <= high")
        self._scale = scale
        self._low: NDArray[np.float64] | None = None
        self._high: NDArray[np.float64] | None = None
        self._highest: array[float] = array("d")
        self._thresholds = Thresholds(list(self.named.values()))
        self._all = SummedCounts()
        self._unknown = SummedCounts()
        self._by_kind: dict[str, SummedCounts] = {}
        self._truth_known = 0

    @property
    def dimensions(self) -> int:
        """How many maps there are of an image."""
        return 0 if self._low is None else len(self._low)

    def saw_range(self, low: Sequence[float], high: Sequence[float]) -> None:
        """Widen the range of all images, per dimension, by that of one."""
        lows, highs = np.asarray(low), np.asarray(high)
        self._low = lows if self._low is None else np.minimum(self._low, lows)
        self._high = highs if self._high is None else np.maximum(self._high, highs)
        self._highest.append(float(highs.max()))

    def count(
        self, plane: Tensor, kind: str, mask: Tensor | None, ignored: Tensor | None
    ) -> Counts:
        """The counts of one image; they are added to those of all, or of all of unknown truth."""
        counts = self._thresholds.count(plane, mask, ignored)
        if mask is None:
            self._unknown.add(counts)
            return counts
        self._truth_known += 1
        self._all.add(counts)
        if len(self._by_kind) < _MOST_KINDS or kind in self._by_kind:
            self._by_kind.setdefault(kind, SummedCounts()).add(counts)
        return counts

    def to_dict(self) -> dict[str, Any]:
        """All of it, for the page."""
        assert self._low is not None and self._high is not None
        low = float(self._low.min())
        # One bright image in twenty may be drawn in the last colour, for the sake of the others.
        high = float(np.quantile(self._highest, COMMON_SHARE, method="higher"))
        entry: dict[str, Any] = {
            "name": legible(self.name),
            "layer": legible(self.layer),
            "perDimension": self.per_dimension,
            "low": self._low.tolist(),
            "high": self._high.tolist(),
            "scale": list(self._scale or (min(0.0, low), high)),
        }
        if not self.per_dimension:
            entry |= {
                "least": self._thresholds.least,
                "named": [[legible(label), value] for label, value in self.named.items()],
                "truthKnown": self._truth_known,
                "counts": counts_entry(self._all.total()),
                "countsUnknown": counts_entry(self._unknown.total()),
                "countsByKind": {
                    legible(kind): counts_entry(summed.total())
                    for kind, summed in self._by_kind.items()
                }
                if len(self._by_kind) > 1
                else {},
            }
        return entry


def counts_entry(counts: Counts) -> dict[str, Any]:
    """Counts as a page holds them.

    Edges that are multiples of the fixed steps are the upper 16 bits of their float32's key, as
    differences from one to the next; other edges, those of named thresholds, stand by themselves.
    ``overlap`` is base64 of float64.
    """
    keys, fixed = _step_keys(counts.edges)
    entry: dict[str, Any] = {
        "steps": np.diff(keys[fixed], prepend=0).tolist(),
        "normal": counts.normal[fixed].tolist(),
    }
    others = ~fixed
    if others.any():
        entry["edges"] = counts.edges[others].tolist()
        entry["normalAtEdges"] = counts.normal[others].tolist()
    if counts.regions:
        entry["anomalous"] = counts.anomalous[fixed].tolist()
        entry["overlap"] = _base64(counts.overlap[fixed])
        entry["regions"] = counts.regions
        if others.any():
            entry["anomalousAtEdges"] = counts.anomalous[others].tolist()
            entry["overlapAtEdges"] = _base64(counts.overlap[others])
    return entry


def _step_keys(edges: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The upper bits of the edges' keys, and which edges those bits alone say exactly."""
    values = torch.from_numpy(np.ascontiguousarray(edges))
    single = values.float()
    keys = score_keys(single).numpy().astype(np.int64)
    exact = (single.double() == values).numpy() & (keys % (1 << DROPPED_BITS) == 0)
    exact &= np.isfinite(edges)
    return keys >> DROPPED_BITS, exact


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
