"""A page of text, pictures and tables that opens from disk and prints well."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from captum_vae.files import reading, write_text
from captum_vae.report.tables import Table, unbroken
from captum_vae.report.template import PAGE, SCRIPTS
from captum_vae.report.text import legible

LEGIBLE_PIXELS_PER_INCH = 74
"""CSS pixels for each inch of a drawing; below that its smallest words cannot be read."""

_HEADER = 512
"""Bytes of a PNG in which its resolution stands, before the pixels."""


@dataclass(frozen=True)
class Picture:
    """A PNG or SVG beside the page.

    Attributes:
        path: The picture's file, in the page's folder or below it.
        alt: What it shows, for those who cannot see it.
        caption: How to read it.
        legible_width: CSS pixels to which it may shrink; a narrower page scrolls it sideways. None
            takes what keeps the smallest words of a drawing legible, where the PNG states its
            resolution; 0 lets it shrink.
    """

    path: Path
    alt: str
    caption: str
    legible_width: int | None = None


@dataclass(frozen=True)
class Section:
    """A headline with paragraphs, then pictures, tables and lines of code.

    Attributes:
        title: The headline.
        paragraphs: The paragraphs under it.
        pictures: The pictures after them.
        tables: The tables after the pictures.
        code: Lines that are shown as they are.
        links: Words and the pages below this one's folder that they lead to.
        still: Whether a page's explorer shows the same; where it runs, the section is only printed.
    """

    title: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    code: str = ""
    links: Sequence[tuple[str, str]] = ()
    still: bool = False


def write_page(
    path: str | Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    footer: str = "",
    explorer: str = "",
) -> Path:
    """Write a self-contained HTML page that shows its pictures by relative paths.

    Whatever the texts contain is shown as text, never read as markup; what cannot be seen or
    encoded is written out. The page is written whole or not at all.

    Args:
        path: The page to write.
        title: The headline and window title.
        lead: The paragraph under it.
        sections: The sections in order.
        footer: Small print at the end.
        explorer: The folder beside the page that holds the scripts and data of an explorer; empty
            for a page without one. The explorer stands below the lead.

    Raises:
        FileNotFoundError: A picture does not exist.
        ValueError: A picture is no PNG or SVG, or lies outside the page's folder, so that the page
            could not be moved.
        OSError: The page cannot be written; the message names it.
    """
    from jinja2 import Environment, StrictUndefined

    path = Path(path)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
    environment.globals["source"] = lambda picture: _relative(picture.path, path.parent)
    environment.globals["link"] = lambda place: _relative(path.parent / place, path.parent)
    environment.filters["unbroken"] = unbroken
    environment.globals["size"] = lambda picture: _size(picture.path)
    environment.globals["legible_width_of"] = _legible_width
    text = environment.from_string(PAGE).render(
        title=title,
        lead=lead,
        sections=sections,
        footer=footer,
        explorer=explorer,
        scripts=SCRIPTS,
    )
    write_text(path, text)
    return path


def _relative(picture: Path, folder: Path) -> str:
    """The picture as an address: a name may hold #, ? or bytes that are not UTF-8."""
    if not picture.is_file():
        raise FileNotFoundError(f"the page refers to {picture}, which does not exist")
    try:
        place = picture.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError as error:
        raise ValueError(
            f"{picture} lies outside {folder}, the page's folder; save it below that folder"
        ) from error
    return quote(os.fsencode(place), safe="/ ")


def _size(picture: Path) -> tuple[int, int]:
    """Width and height in pixels, which keep the page from jumping while it loads."""
    with reading(picture, "a PNG or SVG picture"):
        return _svg_size(picture) if picture.suffix == ".svg" else _png_size(picture)


def _legible_width(picture: Picture) -> int:
    """CSS pixels below which the picture scrolls; 0 lets it shrink."""
    if picture.legible_width is not None or picture.path.suffix == ".svg":
        return picture.legible_width or 0
    with open(picture.path, "rb") as file:
        header = file.read(_HEADER)
    place = header.find(b"pHYs")
    if place < 0:
        return 0
    per_metre = struct.unpack(">I", header[place + 4 : place + 8])[0]
    (width,) = struct.unpack(">I", header[16:20])
    return round(width / (per_metre * 0.0254) * LEGIBLE_PIXELS_PER_INCH) if per_metre else 0


def _svg_size(picture: Path) -> tuple[int, int]:
    root = ElementTree.parse(picture).getroot()
    return _pixels(root.attrib["width"]), _pixels(root.attrib["height"])


def _pixels(length: str) -> int:
    """CSS pixels of a length of SVG in pixels, or in points as matplotlib writes it."""
    points = length.endswith("pt")
    return round(float(length.removesuffix("pt")) * (96 / 72 if points else 1))


def _png_size(picture: Path) -> tuple[int, int]:
    with open(picture, "rb") as file:
        header = file.read(24)
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("it is no PNG file")
    width, height = struct.unpack(">II", header[16:24])
    return width, height
