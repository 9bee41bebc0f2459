"""Pictures of a few images for readers without JavaScript, and for paper."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn.functional import interpolate

from captum_vae.report.color_scale import ColorScale
from captum_vae.report.map_grid import GridRow, Strip, draw_map_grid
from captum_vae.report.page import Picture, Section
from captum_vae.report.pictures import save_picture
from captum_vae.report.text import shortened

_ROWS = 8
"""Images in one picture, so that it fits on a sheet of paper."""

_COLUMNS = 6
"""Maps per image at most: more are too small to be seen."""

_SIDE = 256
"""Pixels that a still needs of an image; larger ones are shrunk before they are kept."""


@dataclass(frozen=True)
class _Still:
    name: str
    kind: str
    score: float | None
    planes: dict[str, Tensor]
    maps: dict[str, Tensor]


class Stills:
    """Keeps the images of the highest score, or the first ones where there are no scores.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        """Keep nothing yet."""
        self._most = most
        self._kept: list[tuple[float, int, _Still]] = []
        self._scored = False

    def offer(
        self,
        number: int,
        *,
        name: str,
        kind: str,
        score: float | None,
        image: Tensor,
        mask: Tensor | None,
        reconstruction: Tensor | None,
        maps: Mapping[tuple[str, str], Tensor],
    ) -> None:
        """Keep an image if it is among those to be shown."""
        self._scored = self._scored or score is not None
        rank = (0.0 if score is None else float(score), -number)
        if not self._most or (len(self._kept) == self._most and rank <= self._kept[0][:2]):
            return
        planes = {"image": _small(image)}
        if mask is not None:
            planes["ground truth"] = _small(mask[None].float())
        if reconstruction is not None:
            planes["reconstruction"] = _small(reconstruction)
        shown: dict[str, Tensor] = {}
        for (label, layer), plane in maps.items():
            words = "\n".join(filter(None, (label, layer)))
            for place, one in enumerate(plane if plane.dim() == 3 else [plane]):
                if len(shown) < _COLUMNS:
                    title = f"{words}\ndim {place}" if plane.dim() == 3 else words
                    shown[title] = _small(one[None].float())[0]
        still = (*rank, _Still(name, kind, score, planes, shown))
        if len(self._kept) < self._most:
            heapq.heappush(self._kept, still)
        else:
            heapq.heapreplace(self._kept, still)

    def draw(self, folder: Path, count: int) -> list[Section]:
        """Draw the pictures as a section of the page, which the explorer replaces on a screen.

        Args:
            folder: Where the pictures go.
            count: How many images there are in all.
        """
        if not self._kept:
            return []
        # Ranks differ, so that no two stills are compared.
        stills = [still for *_, still in sorted(self._kept, key=lambda s: s[:2], reverse=True)]
        pictures = []
        for start in range(0, len(stills), _ROWS):
            shown = stills[start : start + _ROWS]
            columns = list(dict.fromkeys(title for still in shown for title in still.planes))
            titles = [columns, list(shown[0].maps)] if shown[0].maps else [columns]
            figure = draw_map_grid(
                [_row(still, columns) for still in shown],
                column_titles=titles,
                bar_label="value of the map",
            )
            names = ", ".join(still.name for still in shown)
            pictures.append(
                Picture(
                    save_picture(figure, folder / f"{start:04d}.png"),
                    f"Images and their maps side by side, a row each: {names}",
                    "",
                )
            )
        which = "those of the highest score" if self._scored else "the first ones"
        some = f"{len(stills)} of {count} images, {which}." if len(stills) < count else ""
        listed = "explorer/images.csv lists every image with its numbers."
        return [Section("Images", [f"{some} {listed}".strip()], pictures, still=True)]


def _row(still: _Still, columns: Sequence[str]) -> GridRow:
    label = shortened(still.name, 24)
    words = [label, still.kind, "" if still.score is None else f"score {still.score:.4g}"]
    strips = [Strip([still.planes.get(title) for title in columns])]
    if still.maps:
        image = still.planes["image"]
        size = (image.shape[1], image.shape[2])
        maps = [_resized(plane[None], size)[0] for plane in still.maps.values()]
        low = min(0.0, *(float(plane.min()) for plane in maps))
        strips.append(Strip([image] * len(maps), maps, ColorScale.of(maps, low=low)))
    return GridRow("\n".join(filter(None, words)), strips)


def _small(planes: Tensor) -> Tensor:
    """(C, H, W) on the CPU, its longer side at most so many pixels."""
    height, width = planes.shape[1:]
    share = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * share)), max(1, round(width * share)))
    return _resized(planes.float().cpu(), size).clone()


def _resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(planes.shape[1:]) == size:
        return planes
    return interpolate(planes[None], size, mode="bilinear", antialias=True)[0]
