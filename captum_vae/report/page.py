"""A page of text, pictures and tables that opens from disk and prints well."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from captum_vae.report.tables import Table, unbroken
from captum_vae.report.template import PAGE


@dataclass(frozen=True)
class Picture:
    """A PNG or SVG beside the page.

    Attributes:
        path: of the file; it must lie in the page's folder or below.
        alt: what it shows, for those who cannot see it.
        caption: how to read it.
        legible_width: CSS pixels to which it may shrink; a narrower page scrolls it sideways.
    """

    path: Path
    alt: str
    caption: str
    legible_width: int = 0


@dataclass(frozen=True)
class Section:
    """A headline with paragraphs, then pictures, tables and lines of code."""

    title: str
    paragraphs: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    code: str = ""


def write_page(
    path: str | Path, *, title: str, lead: str, sections: Sequence[Section], footer: str = ""
) -> Path:
    """Write a self-contained HTML page that shows its pictures by relative paths.

    Args:
        path: of the page.
        title: headline and window title.
        lead: the paragraph under it.
        sections: in order.
        footer: small print at the end.

    Raises:
        FileNotFoundError: a picture does not exist.
        ValueError: a picture lies outside the page's folder, so the page could not be moved.
    """
    from jinja2 import Environment, StrictUndefined

    path = Path(path)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["source"] = lambda picture: _relative(picture.path, path.parent)
    environment.filters["unbroken"] = unbroken
    environment.globals["size"] = lambda picture: _size(picture.path)
    text = environment.from_string(PAGE).render(
        title=title, lead=lead, sections=sections, footer=footer
    )
    path.write_text(text, encoding="utf-8")
    return path


def _relative(picture: Path, folder: Path) -> str:
    if not picture.is_file():
        raise FileNotFoundError(f"the page refers to {picture}, which does not exist")
    try:
        return picture.resolve().relative_to(folder.resolve()).as_posix()
    except ValueError as error:
        raise ValueError(
            f"{picture} lies outside {folder}, the page's folder; save it below that folder"
        ) from error


def _size(picture: Path) -> tuple[int, int]:
    """Width and height in pixels, which keep the page from jumping while it loads."""
    return _svg_size(picture) if picture.suffix == ".svg" else _png_size(picture)


def _svg_size(picture: Path) -> tuple[int, int]:
    root = ElementTree.parse(picture).getroot()
    return _pixels(root.attrib["width"]), _pixels(root.attrib["height"])


def _pixels(length: str) -> int:
    """CSS pixels of a length of SVG in pixels, or in points as matplotlib writes it."""
    points = length.endswith("pt")
    return round(float(length.removesuffix("pt")) * (96 / 72 if points else 1))


def _png_size(picture: Path) -> tuple[int, int]:
    header = picture.read_bytes()[:24]
    if header[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{picture} is no PNG file")
    width, height = struct.unpack(">II", header[16:24])
    return width, height
