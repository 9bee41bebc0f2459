"""Writing an explorer, image by image: pictures as files, numbers beside them, then the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import Tensor

from captum_vae.checks import whole_number
from captum_vae.files import replacing_folder, write_text
from captum_vae.report.explorer.encoding import (
    RECONSTRUCTION_BYTES,
    SHEET_BYTES,
    Encoded,
    encode_image,
    encode_maps,
    encode_mask,
    encode_traversal,
)
from captum_vae.report.explorer.index import ImageIndex, short_number
from captum_vae.report.explorer.inputs import (
    MapKey,
    check_image,
    check_plane,
    check_traversal,
    checked_maps,
    name_and_layer,
)
from captum_vae.report.explorer.kinds_of_map import KindOfMap, counts_entry
from captum_vae.report.explorer.stills import Stills
from captum_vae.report.page import Section, write_page
from captum_vae.report.template import SCRIPTS

DATA_FOLDER = "explorer"
"""The folder beside the page that holds pictures, numbers, scripts and style."""

STYLE = "explorer.css"

COLORMAPS = ("inferno", "viridis", "cividis", "gray")
"""Perceptually uniform: their lightness grows with the value."""

PART = 32
"""Images whose numbers are in one file, which the page loads when one of them is shown."""


class Explorer:
    """A page on which images, their maps and thresholds are browsed, written as images come.

    The page is ``index.html`` in ``folder`` with everything else in ``folder/explorer/``. It opens
    from the file system, asks no server, and moves with its folder. Memory does not grow with the
    pictures: an image's files are written when it is added. Without JavaScript, and in print, the
    page shows its sections and ``stills``.

    Maps of one kind are given under one name for every image, or under (name, layer). A map
    (H, W) has a threshold, and counts against the mask if there is one; maps (D, h, w) are one per
    latent dimension.

    Args:
        folder: Where the page goes; it is created.
        title: The headline and window title.
        lead: The paragraph under it.
        sections: What stands below the explorer; more may be appended to ``explorer.sections``
            while it is open.
        footer: Small print at the end.
        thresholds: For a kind of map, thresholds that the page offers by their names, the first
            of which it starts at. Others than these are multiples of 1/128 of powers of two.
        scales: For a kind of map, the values of the first and the last colour of the common scale;
            by default from 0, or the lowest value if it is negative, to what the highest values of
            95% of the images do not exceed.
        dims: The numbers of the latent dimensions that maps (D, h, w) belong to; 0 to D - 1 by
            default.
        traversed: The values that each latent dimension takes in the images of ``traversal``, in
            words for the page, such as ``"z = -3"``.
        own_scale: Whether the page starts with a colour scale of its own for each map.
        stills: How many images the page shows without JavaScript and in print: those of the
            highest score where there are scores, else the first.
        page: Whether index.html is written; False leaves that to the caller, who names the data
            folder to :func:`captum_vae.report.write_page` as ``explorer="explorer"``.

    Raises:
        ValueError: An argument is out of range, or ``folder/explorer`` holds something else.
        OSError: The disk is full or refuses; the message names the file.

    Example::

        with Explorer("report", title="What is unusual") as page:
            for name, image, mask in test_set:
                page.add(image, name=name, maps={"anomaly map": scores(image)}, mask=mask)
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        title: str,
        lead: str = "",
        sections: Sequence[Section] = (),
        footer: str = "",
        thresholds: Mapping[MapKey, Mapping[str, float]] | None = None,
        scales: Mapping[MapKey, tuple[float, float]] | None = None,
        dims: Sequence[int] | None = None,
        traversed: Sequence[str] = (),
        own_scale: bool = False,
        stills: int = 24,
        page: bool = True,
    ) -> None:
        """Remember what the page says; nothing is written before the block is entered."""
        self.folder = Path(folder)
        self.title = title
        self.lead = lead
        self.sections = list(sections)
        self.footer = footer
        self._thresholds = {name_and_layer(k): dict(v) for k, v in (thresholds or {}).items()}
        self._scales = {name_and_layer(k): tuple(v) for k, v in (scales or {}).items()}
        self._dims = None if dims is None else list(dims)
        self._traversed = list(traversed)
        self._own_scale = own_scale
        self._writes_page = page
        self._traversal: dict[str, Any] | None = None
        self._stills = Stills(whole_number("stills", stills, least=0))
        self._index = ImageIndex()
        self._kinds: dict[tuple[str, str], KindOfMap] = {}
        self._part: list[dict[str, Any]] = []
        self._opened: AbstractContextManager[Path] | None = None
        self._data = self.folder

    def __enter__(self) -> Explorer:
        """Begin a new data folder beside the old one."""
        self._opened = replacing_folder(self.folder / DATA_FOLDER, marker="index.js")
        self._data = self._opened.__enter__()
        return self

    def add(
        self,
        image: Tensor,
        *,
        name: str,
        maps: Mapping[MapKey, Tensor] | None = None,
        mask: Tensor | None = None,
        ignored: Tensor | None = None,
        reconstruction: Tensor | None = None,
        traversal: Tensor | None = None,
        kind: str = "",
        score: float | None = None,
        error: float | None = None,
        kl: Tensor | Sequence[float] | float | None = None,
        values: Mapping[str, float | None] | None = None,
    ) -> None:
        """Write one image with what is known about it.

        Args:
            image: (C, H, W) or (H, W) in [0, 1].
            name: What the page calls it; shown as text, whatever it holds.
            maps: Maps (H, W), or (D, h, w) per latent dimension, by kind: a name, or (name, layer).
                Every image has the same kinds. A map with a mask is of the mask's size.
            mask: (H, W) bool, True on anomalous pixels; None where the truth is unknown.
            ignored: (H, W) bool, True on pixels that count neither way.
            reconstruction: The image's reconstruction, of the image's shape.
            traversal: (D, S, C, H, W) in [0, 1]: the decoder's image when one latent dimension
                takes S values and the others keep theirs.
            kind: The kind of defect, class or clip; images are filtered by it.
            score: How anomalous the whole image is.
            error: The error of its reconstruction.
            kl: KL to the prior in nats, (D,) per dimension or their sum.
            values: Further numbers by name, to sort and filter by.

        Raises:
            TypeError: A tensor is of another kind.
            ValueError: Shapes do not fit, a map is not finite, or the kinds of maps differ from
                those of the first image.
            RuntimeError: The explorer is not open.
        """
        if self._opened is None:
            raise RuntimeError("the explorer is not open; add images inside `with Explorer(...)`")
        image = check_image("image", image)
        found = checked_maps(maps or {}, self._kinds, first=not self._index.count)
        for plane in found.values():
            if plane.dim() == 2:
                check_plane("mask", mask, tuple(plane.shape))
        check_plane("mask", mask)
        check_plane("ignored", ignored, None if mask is None else tuple(mask.shape))
        if reconstruction is not None:
            reconstruction = check_image("reconstruction", reconstruction)
        if traversal is not None:
            check_traversal(traversal)

        number = self._index.count
        self._index.add(name=name, kind=kind, score=score, error=error, kl=kl, values=values or {})
        place = self._data / f"{number // PART:04d}"
        place.mkdir(exist_ok=True)
        prefix = f"{number % PART:02d}"
        entry: dict[str, Any] = {"image": _file(place, f"{prefix}-image", encode_image(image))}
        if mask is not None:
            entry["mask"] = _file(place, f"{prefix}-mask", encode_mask(mask, ignored))
        if reconstruction is not None:
            small = encode_image(reconstruction, RECONSTRUCTION_BYTES)
            entry["reconstruction"] = _file(place, f"{prefix}-reconstruction", small)
        if traversal is not None:
            sheet = encode_traversal(traversal)
            entry["traversal"] = {
                **_file(place, f"{prefix}-traversal", sheet.file),
                "columns": sheet.columns,
                "rows": sheet.rows,
            }
            self._traversal = self._traversal or {**entry["traversal"], "image": number}
        entry["maps"] = [
            self._add_map(key, plane, place, f"{prefix}-map-{at}", kind, mask, ignored)
            for at, (key, plane) in enumerate(found.items())
        ]
        self._part.append(entry)
        self._stills.offer(
            number,
            name=name,
            kind=kind,
            score=score,
            image=image,
            mask=mask,
            reconstruction=reconstruction,
            maps=found,
        )
        if len(self._part) == PART:
            self._write_part()

    def _add_map(
        self,
        key: tuple[str, str],
        plane: Tensor,
        place: Path,
        stem: str,
        kind: str,
        mask: Tensor | None,
        ignored: Tensor | None,
    ) -> dict[str, Any]:
        """Write the sheet of one kind of map of one image; what the page needs to know of it."""
        of_kind = self._kinds.get(key)
        if of_kind is None:
            of_kind = self._kinds[key] = KindOfMap(
                *key,
                per_dimension=plane.dim() == 3,
                thresholds=self._thresholds.get(key, {}),
                scale=self._scales.get(key),
            )
        sheet = encode_maps(
            plane if plane.dim() == 3 else plane[None], SHEET_BYTES // max(1, len(self._kinds))
        )
        of_kind.saw_range(sheet.low, sheet.high)
        entry: dict[str, Any] = {
            **_file(place, stem, sheet.file),
            "columns": sheet.columns,
            "low": [short_number(value) for value in sheet.low],
            "high": [short_number(value) for value in sheet.high],
        }
        if plane.dim() == 2:
            entry["counts"] = counts_entry(of_kind.count(plane, kind, mask, ignored))
        return entry

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write the rest and the page; leave everything as it was if the block failed."""
        assert self._opened is not None
        opened, self._opened = self._opened, None
        if error is None:
            try:
                self._finish()
            except BaseException as failed:
                opened.__exit__(type(failed), failed, failed.__traceback__)
                raise
        opened.__exit__(kind, error, traceback)
        if error is None and self._writes_page:
            self._write_page()

    def _finish(self) -> None:
        """Write what is known once all images are there."""
        if not self._index.count:
            raise ValueError("the explorer has no image; add at least one")
        if self._part:
            self._write_part()
        static = Path(__file__).parent / "static"
        for name in (*SCRIPTS, STYLE):
            shutil.copyfile(static / name, self._data / name)
        tiles = max((k.dimensions for k in self._kinds.values() if k.per_dimension), default=0)
        dims = self._dims or list(range(tiles))
        if tiles > len(dims):
            raise ValueError(f"dims names {len(dims)} dimensions, but maps have {tiles}")
        index = {
            **self._index.to_dict(),
            "part": PART,
            "title": self.title,
            "dims": dims,
            "traversed": self._traversed,
            "traversal": self._traversal,
            "ownScale": self._own_scale,
            "colormaps": _colormaps(),
            "maps": [of_kind.to_dict() for of_kind in self._kinds.values()],
        }
        if self._index.dimensions:
            _write_script(self._data / "kl.js", "kl", self._index.kl_columns())
        _write_script(self._data / "index.js", "index", index)
        self._index.write_csv(self._data / "images.csv")

    def _write_part(self) -> None:
        number = (self._index.count - 1) // PART
        _write_script(self._data / f"{number:04d}" / "part.js", "part", number, self._part)
        self._part = []

    def _write_page(self) -> None:
        pictures = self._stills.draw(self.folder / DATA_FOLDER / "stills", self._index.count)
        write_page(
            self.folder / "index.html",
            title=self.title,
            lead=self.lead,
            sections=[*pictures, *self.sections],
            footer=self.footer,
            explorer=DATA_FOLDER,
        )


def _colormaps() -> dict[str, str]:
    """256 colours each as hexadecimal digits; all are legible to the colour-blind."""
    import matplotlib
    import numpy as np

    steps = np.linspace(0, 1, 256)
    return {
        name: (matplotlib.colormaps[name](steps)[:, :3] * 255)
        .round()
        .astype(np.uint8)
        .tobytes()
        .hex()
        for name in COLORMAPS
    }


def _file(place: Path, stem: str, picture: Encoded) -> dict[str, Any]:
    (place / f"{stem}{picture.suffix}").write_bytes(picture.data)
    return {
        "file": f"{place.name}/{stem}{picture.suffix}",
        "height": picture.height,
        "width": picture.width,
    }


def _write_script(path: Path, function: str, *values: Any) -> None:
    """Data as a call of the page's function: pages from the file system may not fetch JSON.

    It is JSON in a string, which is read faster than an object, and in which ``__proto__`` is a
    name like any other.
    """
    texts = (json.dumps(value, separators=(",", ":"), allow_nan=False) for value in values)
    words = ",".join(f"JSON.parse({json.dumps(text)})" for text in texts)
    write_text(path, f"captumVae.{function}({words});\n")
