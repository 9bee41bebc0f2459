import csv
import io
import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from captum_vae.metrics import threshold_counts
from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.report import (
    ColorScale,
    GridRow,
    Picture,
    Section,
    Strip,
    Table,
    draw_active_dimensions,
    draw_map_grid,
    save_picture,
    write_page,
)
from captum_vae.report.evaluation import draw_curves
from captum_vae.report.pictures import literal
from captum_vae.report.text import legible, shortened
from tests.report.hostile import NAMES
from tests.report.page_check import Page


def shown(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)}


def saved(figure: Figure, folder: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return save_picture(figure, folder / "figure.png", dpi=30)


@pytest.mark.parametrize("kind", NAMES)
def test_any_name_is_drawn_wherever_a_grid_has_text(kind: str, tmp_path: Path) -> None:
    name, image = NAMES[kind], torch.rand(1, 4, 4)
    figure = draw_map_grid(
        [GridRow(f"{name}\nsecond line", [Strip([image]), Strip([image], [image[0]])])],
        strip_titles=[name, "maps"],
        column_titles=[["image"], [name]],
        bar_label=name,
    )
    assert saved(figure, tmp_path).stat().st_size > 0
    width, height = figure.get_size_inches() * 160
    assert width < 2**14 and height < 2**14


@pytest.mark.parametrize("kind", NAMES)
def test_any_name_is_drawn_in_titles_legends_axes_and_ticks(kind: str, tmp_path: Path) -> None:
    name, figure = NAMES[kind], Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1])
    axes.set_title(name)
    axes.set_xlabel(name)
    axes.set_xticks([0, 1], [name, name])
    axes.set_yticks([0, 1])
    axes.text(0, 0, name)
    axes.annotate(name, (0, 0))
    axes.legend(axes.lines, ["line"], title=name)
    figure.suptitle(name)
    saved(figure, tmp_path)


@pytest.mark.parametrize("kind", NAMES)
def test_a_legend_names_every_curve_whatever_its_name(kind: str, tmp_path: Path) -> None:
    scores = threshold_counts(torch.tensor([0.1, 0.9]), torch.tensor([False, True]))
    counts = replace(scores, region_overlap=torch.ones(1, dtype=torch.float64), regions=1)
    name = NAMES[kind]
    figure = draw_curves({name: counts, "_" + name: counts})
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(shown) == 2 and shown[1].startswith("_")
    assert all(text.replace("\n", "").isprintable() for text in shown)
    saved(figure, tmp_path)


def test_dollars_are_drawn_and_powers_of_ten_stay_formulas() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set_title("$5 and $x^2$")
    axes.semilogy([1, 2], [1, 1e6])
    axes.set_xticks([1, 2], ["$1$", "b"])
    literal(literal(figure)).canvas.draw()
    assert "$5 and $x^2$" in shown(figure)
    assert not axes.title.get_parse_math()
    ticks = [label for label in axes.get_yticklabels() if "10^" in label.get_text()]
    assert ticks and all(label.get_parse_math() for label in ticks)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["\\$1\\$", "b"]


def test_letters_without_a_glyph_become_one_sign_each() -> None:
    figure = Figure()
    figure.text(0, 0, "a画é")
    literal(figure)
    assert shown(figure) >= {"a\N{REPLACEMENT CHARACTER}é"}


def test_making_a_figure_literal_twice_changes_nothing_more(tmp_path: Path) -> None:
    bytes_of = []
    for times in (1, 3):
        figure = draw_active_dimensions(
            ActiveDimensions(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]), images=5)
        )
        for _ in range(times):
            literal(figure)
        bytes_of.append(save_picture(figure, tmp_path / f"{times}.png", dpi=40).read_bytes())
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.parametrize("kind", NAMES)
def test_any_name_is_text_on_a_page(kind: str, tmp_path: Path) -> None:
    name = NAMES[kind]
    picture = save_picture(Figure(figsize=(1, 1)), tmp_path / "a.png", dpi=20)
    section = Section(name, [name], [Picture(picture, name or "alt", name)], [], name)
    table = Section("T", tables=[Table([name], [[name]])])
    page = Page(
        write_page(
            tmp_path / "p.html", title=name, lead=name, sections=[section, table], footer=name
        )
    )
    assert page.faults == []
    assert page.pictures[0].keys() == {"src", "alt", "width", "height", "style"}
    expected = " ".join(legible(name).split())
    assert " ".join(page.text.split()).count(expected) >= 7
    assert (page.pictures[0]["alt"] or "").split() == (legible(name) or "alt").split()


@pytest.mark.parametrize("kind", [kind for kind in NAMES if kind not in ("longest line", "empty")])
def test_a_page_shows_pictures_of_any_file_name(kind: str, tmp_path: Path) -> None:
    name = NAMES[kind].replace("/", "_").replace("\x00", "_").removesuffix(".png")
    encoded = os.fsencode(name)[:200]
    path = tmp_path / f"{os.fsdecode(encoded)}.png"
    save_picture(Figure(figsize=(1, 1)), path, dpi=20)
    sections = [Section("S", pictures=[Picture(path, "alt", "caption")])]
    page = Page(write_page(tmp_path / "p.html", title="T", lead="L", sections=sections))
    assert page.faults == []


@pytest.mark.parametrize("kind", NAMES)
def test_any_name_is_one_cell_of_a_table(kind: str) -> None:
    name = NAMES[kind]
    table = Table(["name", "value"], [[name, 0.5], ["b", 1]])
    assert len(table.text().split("\n")) == 3
    lines = table.markdown().split("\n")
    assert len(lines) == 4
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
    read = list(csv.reader(io.StringIO(table.csv(), newline="")))
    assert read == [["name", "value"], [legible(name), "0.5"], ["b", "1"]]
    for text in (table.text(), table.markdown(), table.csv()):
        text.encode("utf-8")
        assert "\x1b" not in text and "\u202e" not in text


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(), max_size=60))
def test_legible_text_is_encodable_and_harmless_whatever_came(text: str) -> None:
    found = legible(text)
    found.encode("utf-8")
    assert not set(found) & set("\x00\x07\x1b\r\x7f\u202e\u2066\u200f")
    assert legible(found) == found


def test_ordinary_text_stays_as_it_is() -> None:
    text = "layer3.1 – größe 画像 👩\u200d🔬\n\tµ"
    assert legible(text) == text


def test_what_is_written_out_tells_the_byte_or_the_character() -> None:
    assert legible(os.fsdecode(b"\xe9")) == "\\xe9"
    assert legible("\x1b\u202e\U000e0001") == "\\x1b\\u202e\\U000e0001"


def test_a_long_line_loses_its_middle() -> None:
    assert shortened("abcdefghij", 7) == "abc…hij"
    assert shortened("abcdefghij\nshort", 8) == "abcd…hij\nshort"
    assert {len(shortened("x" * 99, n)) for n in range(5, 20)} == set(range(5, 20))


def test_a_scale_is_the_same_beside_hostile_names() -> None:
    image = torch.rand(1, 4, 4)
    strips = [Strip([image], [image[0]], ColorScale(0, 1))]
    plain = draw_map_grid([GridRow("a", strips)], bar_label="b")
    hostile = draw_map_grid([GridRow("$", strips)], bar_label="$x$")
    assert plain.get_size_inches().tolist() == hostile.get_size_inches().tolist()
