from pathlib import Path

import pytest
from matplotlib.figure import Figure

from captum_vae.report import Picture, Section, Table, save_picture, write_page
from tests.report.page_check import Page


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    path = save_picture(Figure(figsize=(3, 2)), tmp_path / "figures" / "a b.png", dpi=100)
    return Picture(path, alt='a "quoted" alt', caption="how to read it")


def written(folder: Path, *sections: Section) -> Page:
    return Page(write_page(folder / "report.html", title="T", lead="L", sections=sections))


def test_a_page_is_whole(tmp_path: Path, picture: Picture) -> None:
    table = Table(("name", "value"), [("layer", "conv2")])
    page = written(tmp_path, Section("S", ["one", "two"], [picture], [table], "run me"))
    assert page.faults == []
    for text in ("one", "two", "how to read it", "layer", "conv2", "run me"):
        assert text in page.text


def test_pictures_are_relative_with_alt_text_and_size(tmp_path: Path, picture: Picture) -> None:
    shown = written(tmp_path, Section("S", pictures=[picture])).pictures
    alt = 'a "quoted" alt'
    # 300 pixels at 100 an inch are 3 inches, legible down to 74 CSS pixels for each.
    style = "min-width: 222px"
    size = {"width": "300", "height": "200", "style": style}
    assert shown == [{"src": "figures/a b.png", "alt": alt, **size}]


def test_a_moved_page_still_shows_its_pictures(tmp_path: Path) -> None:
    before = tmp_path / "before"
    path = save_picture(Figure(), before / "figures" / "a.png")
    written(before, Section("S", pictures=[Picture(path, "alt", "caption")]))
    after = before.rename(tmp_path / "after")
    assert Page(after / "report.html").faults == []


def test_text_cannot_become_markup(tmp_path: Path) -> None:
    page = written(tmp_path, Section("a < b", ["<script>alert(1)</script>"], code="1 && 2"))
    assert page.faults == []
    assert "<script>alert(1)</script>" in page.text


def test_a_missing_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.png, which does not exist"):
        written(tmp_path, Section("S", pictures=[Picture(tmp_path / "nowhere.png", "a", "c")]))


def test_a_picture_outside_the_folder_is_refused(tmp_path: Path, picture: Picture) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    with pytest.raises(ValueError, match="lies outside .*page"):
        written(folder, Section("S", pictures=[picture]))


def test_a_picture_that_is_no_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fake.png"
    path.write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match="fake.png cannot be read: it is no PNG file"):
        written(tmp_path, Section("S", pictures=[Picture(path, "alt", "caption")]))


def test_a_picture_is_the_same_bytes_twice(tmp_path: Path) -> None:
    first, second = (save_picture(Figure(), tmp_path / name) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()


def test_another_ending_than_png_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wanted a name that ends in \.png"):
        save_picture(Figure(), tmp_path / "a.jpg")


@pytest.mark.parametrize("size", ['width="30" height="20"', 'width="22.5pt" height="15pt"'])
def test_an_svg_is_shown_at_its_own_size(tmp_path: Path, size: str) -> None:
    path = tmp_path / "a.svg"
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size}/>')
    shown = written(tmp_path, Section("S", pictures=[Picture(path, "a", "c")])).pictures
    assert shown == [{"src": "a.svg", "alt": "a", "width": "30", "height": "20"}]
