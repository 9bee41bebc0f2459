import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_vae.files import replacing_folder
from captum_vae.report import Section
from captum_vae.report.explorer import Explorer
from tests.report.explorer import pages
from tests.report.page_check import Page

IMAGE = torch.rand(3, 8, 9)
MAP = torch.rand(8, 9)


def data(page: Path) -> dict[str, Any]:
    text = (page.parent / "explorer" / "index.js").read_text(encoding="utf-8")
    found = re.fullmatch(r"captumVae\.index\(JSON\.parse\((.*)\)\);\n", text)
    assert found
    index: dict[str, Any] = json.loads(json.loads(found[1]))
    return index


def test_names_numbers_and_kinds_are_listed_for_the_page_and_for_spreadsheets(
    tmp_path: Path,
) -> None:
    with Explorer(tmp_path, title="T") as page:
        page.add(IMAGE, name="a, b.png", kind="hole", score=0.5, values={"p-value": 0.01})
        page.add(IMAGE, name="c.png", error=2.0, kl=[0.5, 1.5])
        page.add(IMAGE, name="d.png", kind="hole", score=math.nan, kl=torch.tensor([1.0, 1.0]))
    index = data(tmp_path / "index.html")
    assert index["names"] == ["a, b.png", "c.png", "d.png"]
    assert [index["kinds"][k] for k in index["kindOf"]] == ["hole", "", "hole"]
    assert index["columns"]["score"] == [0.5, None, None]
    assert index["columns"]["KL"] == [None, 2.0, 2.0]
    with open(tmp_path / "explorer" / "images.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["name"] == "a, b.png"
    assert [rows[0][label] for label in ("score", "p-value", "error", "KL")] == [
        "0.5",
        "0.01",
        "",
        "",
    ]
    assert index["meanKL"] == [0.75, 1.25]


def test_the_common_scale_leaves_out_the_brightest_twentieth(tmp_path: Path) -> None:
    with Explorer(tmp_path, title="T") as page:
        for number in range(40):
            page.add(IMAGE, name=str(number), maps={"m": MAP / MAP.max() * (number + 1)})
    (entry,) = data(tmp_path / "index.html")["maps"]
    low, high = entry["scale"]
    assert (low, high) == (0.0, 39.0)
    assert entry["high"] == [40.0]


def test_a_scale_that_is_given_is_kept(tmp_path: Path) -> None:
    with Explorer(tmp_path, title="T", scales={("m", "conv1"): (-1, 2)}) as page:
        page.add(IMAGE, name="a", maps={("m", "conv1"): MAP})
    (entry,) = data(tmp_path / "index.html")["maps"]
    assert entry["scale"] == [-1, 2]
    assert (entry["name"], entry["layer"]) == ("m", "conv1")


def test_a_page_without_javascript_shows_the_highest_scores(tmp_path: Path) -> None:
    with Explorer(tmp_path, title="T", lead="L", sections=[Section("S")], stills=2) as page:
        for number, score in enumerate((0.1, 0.9, 0.5)):
            page.add(IMAGE, name=f"image {number}", maps={"m": MAP}, score=score)
    found = Page(tmp_path / "index.html")
    assert found.faults == []
    (picture,) = found.pictures
    assert picture["alt"] == "Images and their maps side by side, a row each: image 1, image 2"
    assert "2 of 3 images, those of the highest score" in found.text


def test_images_of_unknown_and_known_truth_share_a_page(tmp_path: Path) -> None:
    mask = MAP > 0.5
    with Explorer(tmp_path, title="T") as page:
        page.add(IMAGE, name="a", maps={"m": MAP}, mask=mask)
        page.add(IMAGE, name="b", maps={"m": MAP})
    (entry,) = data(tmp_path / "index.html")["maps"]
    assert entry["truthKnown"] == 1
    assert sum(entry["counts"]["normal"]) == int((~mask).sum())
    assert sum(entry["countsUnknown"]["normal"]) == MAP.numel()


def test_a_second_run_replaces_the_first(tmp_path: Path) -> None:
    pages.defects(tmp_path, count=40)
    pages.defects(tmp_path, count=3)
    pictures = list((tmp_path / "explorer").rglob("*-image.png"))
    assert len(pictures) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_fails_leaves_the_earlier_page(tmp_path: Path) -> None:
    written = pages.defects(tmp_path, count=3)
    before = written.page.read_bytes(), sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match="no more images"), Explorer(tmp_path, title="T") as page:
        page.add(IMAGE, name="a")
        raise OSError("no more images")
    assert (written.page.read_bytes(), sorted(tmp_path.rglob("*"))) == before


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "explorer").mkdir()
    (tmp_path / "explorer" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="was not written by this command"):
        Explorer(tmp_path, title="T").__enter__()
    assert (tmp_path / "explorer" / "thesis.txt").read_text() == "years of work"


def test_a_replaced_folder_names_what_could_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="could not write .*file/new"),
        replacing_folder(tmp_path / "file" / "new", marker="m"),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"image": torch.rand(2, 3, 8, 9)}, ValueError, r"image has shape \(2, 3, 8, 9\)"),
        ({"image": "a.png"}, TypeError, "image is a str; wanted a tensor"),
        ({"image": torch.full((3, 8, 9), math.nan)}, ValueError, "image holds NaN"),
        ({"maps": {"m": torch.rand(4)}}, ValueError, "the map 'm' has shape"),
        ({"maps": {"m": torch.full((8, 9), math.inf)}}, ValueError, "NaN or infinite"),
        ({"maps": {3: MAP}}, TypeError, "a kind of map is 3"),
        ({"maps": {"other": MAP}}, ValueError, "give every image the same kinds"),
        ({"mask": torch.rand(8, 9)}, TypeError, "wanted a torch.bool tensor"),
        ({"mask": torch.zeros(4, 4, dtype=torch.bool)}, ValueError, "the size of the map"),
        ({"traversal": torch.rand(3, 8, 8)}, ValueError, "traversal has shape"),
        ({"kl": [1.0]}, ValueError, "kl has 1 dimensions, that of earlier images 2"),
        ({"name": 3}, TypeError, "name is a int"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    good: dict[str, Any] = {"image": IMAGE, "name": "a", "maps": {"m": MAP}, "kl": [1.0, 2.0]}
    with Explorer(tmp_path, title="T") as page:
        page.add(**good)
        with pytest.raises(error, match=words):
            page.add(**{**good, **arguments})
        page.add(**good)
    assert data(tmp_path / "index.html")["names"] == ["a", "a"]


def test_an_explorer_without_images_or_outside_its_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no image"), Explorer(tmp_path, title="T"):
        pass
    with pytest.raises(RuntimeError, match="is not open"):
        Explorer(tmp_path, title="T").add(IMAGE, name="a")
    assert not (tmp_path / "index.html").exists()
