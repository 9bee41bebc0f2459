"""Finding images in folders, and saying what was passed over."""

import os
from pathlib import Path

import pytest

from captum_vae.data import ImageFolder
from captum_vae.data.arrays import read_images
from captum_vae.data.listing import list_images

from .conftest import WriteImage


def test_numbers_in_names_sort_as_numbers(tmp_path: Path, write_image: WriteImage) -> None:
    for name in ("a10.png", "a2.png", "a1.PNG", "b.png"):
        write_image(tmp_path / name)
    names = [path.name for path in list_images(tmp_path).images]
    assert names == ["a1.PNG", "a2.png", "a10.png", "b.png"]


def test_a_hidden_link_is_passed_over_wherever_it_leads(
    tmp_path: Path, write_image: WriteImage
) -> None:
    write_image(tmp_path / "a.png")
    (tmp_path / ".link").symlink_to("x" * 300)  # longer than any name
    (tmp_path / ".loop").symlink_to(".loop")
    (tmp_path / "loop.png").symlink_to("loop.png")
    found = list_images(tmp_path)
    assert [path.name for path in found.images] == ["a.png"]
    reasons = {entry.path.name: entry.reason for entry in found.passed_over}
    assert reasons == {".link": "hidden", ".loop": "hidden", "loop.png": "link to nothing"}


def test_everything_passed_over_is_listed_with_its_reason(
    tmp_path: Path, write_image: WriteImage
) -> None:
    write_image(tmp_path / "a.png")
    for junk in (".DS_Store", "._a.png", "notes.txt", "Thumbs.db", "a.npy"):
        (tmp_path / junk).write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = list_images(tmp_path)
    assert [path.name for path in found.images] == ["a.png"]
    assert {entry.path.name: entry.reason for entry in found.passed_over} == {
        ".DS_Store": "hidden",
        "._a.png": "hidden",
        "Thumbs.db": "no image by its ending",
        "a.npy": "no image by its ending",
        "notes.txt": "no image by its ending",
        "empty": "empty folder",
        "gone.png": "link to nothing",
    }
    assert "passed over 2 hidden (.DS_Store), 3 no image by its ending" in (
        ImageFolder(tmp_path).summary
    )


def test_linked_folders_are_read(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "data" / "a.png")
    for number in range(5):
        write_image(tmp_path / "store" / f"{number}.png")
    (tmp_path / "data" / "more").symlink_to(tmp_path / "store")
    assert len(ImageFolder(tmp_path / "data")) == 6
    assert len(read_images(tmp_path / "data")) == 6


@pytest.mark.parametrize("target", [".", "..", "deep", "deep/deeper"])
def test_loops_of_links_end_and_lose_nothing(
    tmp_path: Path, write_image: WriteImage, target: str
) -> None:
    for name in ("a.png", "deep/b.png", "deep/deeper/c.png"):
        write_image(tmp_path / "data" / name)
    for place in ("again", "deep/again", "deep/deeper/again"):
        link = tmp_path / "data" / place
        link.symlink_to(tmp_path / "data" / target, target_is_directory=True)
    names = [path.relative_to(tmp_path / "data").as_posix() for path in list_images(
        tmp_path / "data"
    ).images]  # fmt: skip
    assert sorted(names) == ["a.png", "deep/b.png", "deep/deeper/c.png"]


def test_a_folder_with_an_images_name_is_searched(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "photos.png" / "a.png")
    assert [path.name for path in list_images(tmp_path).images] == ["a.png"]


def test_names_that_are_not_utf8_or_very_long_can_be_read_and_printed(
    tmp_path: Path, write_image: WriteImage
) -> None:
    long = "x" * 251 + ".png"
    write_image(tmp_path / "d" / "a.png")
    os.rename(tmp_path / "d" / "a.png", os.fsencode(tmp_path / "d") + b"/caf\xe9.png")
    write_image(tmp_path / "d" / long)
    data = ImageFolder(tmp_path / "d")
    assert data.names == ["d/caf\\xe9.png", f"d/{long}"]
    assert [sample.name.encode() for sample in data] == [name.encode() for name in data.names]
    assert len(data.digest) == 64


def test_a_folder_of_other_files_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no images in .*only 1 no image by its ending \(a.npy\)"):
        ImageFolder(tmp_path)
