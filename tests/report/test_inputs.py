"""What drawings and pages refuse, by the argument's name."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from captum_vae.report import (
    ColorScale,
    GridRow,
    Picture,
    Section,
    Strip,
    Table,
    draw_map_grid,
    overlay,
    save_picture,
    write_page,
)

IMAGE, MAP, SCALE = torch.rand(1, 4, 4), torch.rand(4, 4), ColorScale(0, 1)
ROW = GridRow("row", [Strip([IMAGE], [MAP])])


def damaged(folder: Path, content: bytes, ending: str = "png") -> Path:
    path = folder / f"damaged.{ending}"
    path.write_bytes(content)
    return path


def page(folder: Path, picture: Path) -> None:
    sections = [Section("S", pictures=[Picture(picture, "alt", "caption")])]
    write_page(folder / "page.html", title="T", lead="L", sections=sections)


BAD: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "scale upside down": (lambda f: ColorScale(1, 0), ValueError, "wanted low <= high"),
    "scale to nan": (lambda f: ColorScale(0, math.nan), ValueError, "high=nan"),
    "scale from minus infinity": (lambda f: ColorScale(-math.inf, 0), ValueError, "low=-inf"),
    "scale of words": (lambda f: ColorScale("low", "high"), TypeError, "low='low'|high='high'"),
    "scale of a bool": (lambda f: ColorScale(False, 1), TypeError, "low=False"),
    "scale of no map": (lambda f: ColorScale.of([]), ValueError, "maps is empty"),
    "scale of arrays": (lambda f: ColorScale.of([MAP.numpy()]), TypeError, r"maps\[0\] is a nd"),
    "scale of nan": (lambda f: ColorScale.of([MAP * math.nan]), ValueError, r"maps\[0\]"),
    "scale of complex": (lambda f: ColorScale.of([MAP.cfloat()]), TypeError, r"maps\[0\].*complex"),
    "image array": (lambda f: overlay(IMAGE.numpy(), MAP, SCALE), TypeError, "image is a ndarray"),
    "image batch": (lambda f: overlay(IMAGE[None], MAP, SCALE), ValueError, "image has shape"),
    "image line": (lambda f: overlay(MAP[0], MAP, SCALE), ValueError, r"image has shape \(4,\)"),
    "image complex": (lambda f: overlay(IMAGE.cfloat(), MAP, SCALE), TypeError, "complex"),
    "map of another size": (lambda f: overlay(IMAGE, MAP[:2], SCALE), ValueError, "attention has"),
    "map of nan": (lambda f: overlay(IMAGE, MAP / 0, SCALE), ValueError, "attention has values"),
    "map array": (lambda f: overlay(IMAGE, np.ones((4, 4)), SCALE), TypeError, "attention is a"),
    "map None": (lambda f: overlay(IMAGE, None, SCALE), TypeError, "attention is a NoneType"),
    "scale pair": (lambda f: overlay(IMAGE, MAP, (0, 1)), TypeError, "scale is a tuple"),
    "colormap": (lambda f: overlay(IMAGE, MAP, SCALE, colormap="hot!"), ValueError, "colormap="),
    "colormap None": (
        lambda f: draw_map_grid([ROW], bar_label="b", colormap=None),
        *(ValueError, "colormap=None"),
    ),
    "no row": (lambda f: draw_map_grid([], bar_label="b"), ValueError, "rows is empty"),
    "other strips": (
        lambda f: draw_map_grid([ROW, GridRow("two", [ROW.strips[0]] * 2)], bar_label="b"),
        *(ValueError, "row 'two' has strips"),
    ),
    "maps without images": (
        lambda f: Strip([IMAGE], [MAP, MAP]),
        ValueError,
        "2 maps for 1 images",
    ),
    "nan in a grid": (
        lambda f: draw_map_grid([GridRow("r", [Strip([IMAGE], [MAP / 0], SCALE)])], bar_label="b"),
        *(ValueError, "attention has values"),
    ),
    "short row": (lambda f: Table(["a", "b"], [["1"]]), ValueError, "row 0 has 1 cells"),
    "picture ending": (lambda f: save_picture(Figure(), f / "a.jpg"), ValueError, "a.jpg"),
    "no figure": (lambda f: save_picture(None, f / "a.png"), TypeError, "figure is a NoneType"),
    "folder of a picture": (
        lambda f: save_picture(Figure(), damaged(f, b"") / "a.png"),
        *(OSError, "a.png"),
    ),
    "missing picture": (lambda f: page(f, f / "none.png"), FileNotFoundError, "none.png"),
    "picture elsewhere": (lambda f: page(f / "x", damaged(f, b"")), ValueError, "lies outside"),
    "empty picture": (lambda f: page(f, damaged(f, b"")), ValueError, "damaged.png cannot be read"),
    "half a picture": (
        lambda f: page(f, damaged(f, b"\x89PNG\r\n\x1a\n")),
        *(ValueError, "damaged.png cannot be read"),
    ),
    "broken drawing": (
        lambda f: page(f, damaged(f, b"<svg", "svg")),
        *(ValueError, "damaged.svg cannot be read"),
    ),
    "drawing without size": (
        lambda f: page(f, damaged(f, b"<svg/>", "svg")),
        *(ValueError, "damaged.svg cannot be read"),
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    call, error, message = BAD[kind]
    with pytest.raises(error, match=message):
        call(tmp_path)


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, title="old", lead="L", sections=[])
    before = path.read_bytes()
    with pytest.raises(FileNotFoundError):
        page(tmp_path, tmp_path / "none.png")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
