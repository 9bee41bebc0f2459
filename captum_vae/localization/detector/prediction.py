"""What a detector says about images: maps, masks, scores, p-values and verdicts."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

_SHOWN = 20
"""Images that a printed table lists."""


@dataclass(frozen=True)
class Box:
    """A rectangle around a connected region of a mask, in its pixels.

    Attributes:
        x: First column.
        y: First row.
        width: Columns.
        height: Rows.
        score: The highest score of the map inside the region.
    """

    x: int
    y: int
    width: int
    height: int
    score: float


@dataclass(frozen=True)
class Prediction:
    """What a detector says about one image.

    Attributes:
        name: The image's name, or its number.
        score: The image's score, by the detector's rule.
        p_value: Small where the score is high among those of normal images.
        anomalous: The verdict: whether the p-value is at most the detector's alpha.
        area: Share of the pixels at or above the pixel threshold.
        map: (H, W) float32 scores of pixels, on the CPU.
        mask: (H, W) bool, True at or above the pixel threshold.
    """

    name: str
    score: float
    p_value: float
    anomalous: bool
    area: float
    map: Tensor
    mask: Tensor

    @cached_property
    def boxes(self) -> list[Box]:
        """Rectangles around the connected regions of the mask, the highest score first."""
        return boxes_of(self.mask.numpy(), self.map.numpy())

    @property
    def verdict(self) -> str:
        """``anomalous`` or ``normal``."""
        return "anomalous" if self.anomalous else "normal"


@dataclass(frozen=True, repr=False)
class Predictions(Sequence[Prediction]):
    """What a detector says about several images: a sequence of :class:`Prediction`.

    Attributes:
        names: N names.
        scores: (N,) float64.
        p_values: (N,) float64.
        anomalous: (N,) bool.
        areas: (N,) float64, shares of the pixels at or above the pixel threshold.
        maps: (N, H, W) float32, on the CPU.
        masks: (N, H, W) bool.
        alpha: The p-value from which on down an image is called anomalous.
    """

    names: list[str]
    scores: Tensor
    p_values: Tensor
    anomalous: Tensor
    areas: Tensor
    maps: Tensor
    masks: Tensor
    alpha: float

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Several in a row as one.

        Raises:
            ValueError: There is none.
        """
        if not parts:
            raise ValueError("images is empty; wanted at least one image")
        tensors = ("scores", "p_values", "anomalous", "areas", "maps", "masks")
        return cls(
            [name for part in parts for name in part.names],
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in tensors},
            alpha=parts[0].alpha,
        )

    def __len__(self) -> int:
        """Count the images."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> Predictions: ...

    def __getitem__(self, index: int | slice) -> Prediction | Predictions:
        """What is said about one image, or about several."""
        if isinstance(index, slice):
            return Predictions(
                self.names[index],
                self.scores[index],
                self.p_values[index],
                self.anomalous[index],
                self.areas[index],
                self.maps[index],
                self.masks[index],
                self.alpha,
            )
        return Prediction(
            self.names[index],
            float(self.scores[index]),
            float(self.p_values[index]),
            bool(self.anomalous[index]),
            float(self.areas[index]),
            self.maps[index],
            self.masks[index],
        )

    def __iter__(self) -> Iterator[Prediction]:
        """One image after the other."""
        return (self[place] for place in range(len(self)))

    def rows(self) -> list[dict[str, Any]]:
        """Name, score, p-value, verdict and area per image, as plain values."""
        return [
            {
                "image": one.name,
                "score": one.score,
                "p_value": one.p_value,
                "verdict": one.verdict,
                "area": one.area,
            }
            for one in self
        ]

    def __repr__(self) -> str:
        """The table as text, the most anomalous first."""
        lines = [self._headline()]
        shown = self._highest()
        width = max([5, *(len(self.names[place]) for place in shown)])
        lines.append(f"  {'image':{width}}  {'score':>10}  {'p-value':>8}  {'area':>7}  verdict")
        for one in map(self.__getitem__, shown):
            lines.append(
                f"  {one.name:{width}}  {one.score:10.4g}  {one.p_value:8.3g}  {one.area:7.2%}  "
                f"{one.verdict}"
            )
        return "\n".join(lines + ([self._left_out()] if self._left_out() else []))

    def _repr_html_(self) -> str:
        """The table of a notebook, the most anomalous first."""
        body = "".join(
            f"<tr><td>{html.escape(one.name)}</td><td>{one.score:.4g}</td>"
            f"<td>{one.p_value:.3g}</td><td>{one.area:.2%}</td>"
            f"<td>{'<b>anomalous</b>' if one.anomalous else 'normal'}</td></tr>"
            for one in map(self.__getitem__, self._highest())
        )
        head = "".join(
            f"<th>{title}</th>" for title in ("image", "score", "p-value", "area", "verdict")
        )
        return (
            f"<p>{self._headline()}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
            f"</table><p>{self._left_out()}</p>"
        )

    def _headline(self) -> str:
        return (
            f"{len(self)} images, {int(self.anomalous.sum())} called anomalous (p-value at most "
            f"{self.alpha:g})"
        )

    def _highest(self) -> list[int]:
        order = np.lexsort((-self.scores.numpy(), self.p_values.numpy()))
        return [int(place) for place in order[:_SHOWN]]

    def _left_out(self) -> str:
        left = len(self) - _SHOWN
        return f"{left} more with higher p-values" if left > 0 else ""


def boxes_of(mask: Any, scores: Any) -> list[Box]:
    """Rectangles around the connected regions of a mask, diagonal neighbours joined.

    Args:
        mask: (H, W) array of bool.
        scores: (H, W) array, whose maximum inside each region is its score.

    Returns:
        The highest score first.
    """
    from scipy import ndimage

    if not mask.any():
        return []
    regions, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    highest = ndimage.maximum(scores, regions, index=range(1, count + 1))
    found = [
        Box(
            int(place[1].start),
            int(place[0].start),
            int(place[1].stop - place[1].start),
            int(place[0].stop - place[0].start),
            float(score),
        )
        for place, score in zip(ndimage.find_objects(regions), highest, strict=True)
    ]
    return sorted(found, key=lambda box: -box.score)
