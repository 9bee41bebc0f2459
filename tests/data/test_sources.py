"""Images wherever a person has them: every kind of source, its names, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from captum_vae.data.image_bytes import as_batch
from captum_vae.data.sample import collate_samples
from captum_vae.data.sources import ImageSources


def picture(path, value=100, size=(6, 4), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    color = value if mode == "L" else (value, 0, 255 - value)
    Image.new(mode, size, color).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10):
        picture(tmp_path / "photos" / "deep" / f"{number}.png", number)
    picture(tmp_path / "photos" / "a.png", 200)
    (tmp_path / "photos" / "notes.md").write_text("no image")
    return tmp_path


def test_a_folder_is_searched_and_what_it_holds_else_is_said(folder):
    found = ImageSources(folder / "photos")
    assert list(found.names) == ["a.png", "deep/1.png", "deep/2.png", "deep/10.png"]
    assert [round(float(sample.image.max()) * 255) for sample in found] == [200, 1, 2, 10]
    assert found.groups == ["", "deep", "deep", "deep"]
    assert "1 no image by its ending (notes.md)" in found.describe()["images"]
    assert found.read(0).size == (4, 6) and found.channels == 1


def test_names_of_a_pattern_stay_when_more_folders_match(folder):
    pattern = f"{folder}/photos*/deep/*.png"
    before = list(ImageSources(pattern).names)
    assert before == ["photos/deep/1.png", "photos/deep/2.png", "photos/deep/10.png"]
    picture(folder / "photos2" / "deep" / "3.png")
    assert set(ImageSources(pattern).names) == {*before, "photos2/deep/3.png"}


def test_patterns_lists_files_and_several_sources_name_their_images(folder):
    photos = folder / "photos"
    assert list(ImageSources(f"{photos}/**/*.png").names)[:2] == ["a.png", "deep/1.png"]
    listed = folder / "list.txt"
    listed.write_text("# comment\nphotos/deep/10.png\n\nphotos/a.png\nphotos/a.png\n")
    assert list(ImageSources(listed).names) == ["deep/10.png", "a.png"]
    picture(folder / "more" / "a.png", 3)
    several = ImageSources([photos, folder / "more"])
    assert list(several.names)[0] == "photos/a.png" and several.names[-1] == "more/a.png"
    assert list(ImageSources(photos / "a.png").names) == ["a.png"]


def test_two_files_of_one_name_are_told_apart(folder):
    one, two = picture(folder / "x" / "s.png", 1), picture(folder / "y" / "s.png", 2)
    with pytest.warns(UserWarning, match="named with a number"):
        assert list(ImageSources([one, two]).names) == ["s.png", "s~2.png"]


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_stay_on_disk_and_name_their_images_by_number(tmp_path, kind):
    bytes_ = np.arange(5 * 6 * 4 * 3, dtype=np.uint8).reshape(5, 6, 4, 3)
    path = tmp_path / f"images.{kind}"
    np.save(path, bytes_) if kind == "npy" else np.savez(path, images=bytes_, other=np.ones(2))
    found = ImageSources(path)
    assert len(found) == 5 and found.name(3) == f"images.{kind}/000003"
    assert np.array_equal(found.read(3).pixels, bytes_[3].transpose(2, 0, 1))
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.read(3).pixels, found.read(3).pixels)


def test_frames_of_a_video_are_read_in_any_order_and_by_workers(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for number in range(20):
            image = np.full((16, 32, 3), 10 * number + 20, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    found = ImageSources(tmp_path, image_size=(8, 16))
    assert len(found) == 20 and found.groups_are_clips
    assert found.name(7) == "clip.mp4/000007" and found.group(7) == "clip.mp4"
    for number in (3, 12, 0, 19, 18):
        read = found.read(number)
        assert abs(int(read.pixels.mean()) - (10 * number + 20)) <= 4
        assert read.pixels.shape == (3, 8, 16) and read.size == (16, 32)
    every = ImageSources(path, every=6)
    assert list(every.names) == [f"clip.mp4/{n:06d}" for n in (0, 6, 12, 18)]
    loader = DataLoader(found, batch_size=5, num_workers=2, collate_fn=collate_samples)
    values = [float(v) * 255 for batch in loader for v in batch.image.mean((1, 2, 3))]
    assert np.allclose(values, [10 * n + 20 for n in range(20)], atol=4)


def test_a_damaged_video_and_a_missing_package_are_said(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"junk" * 100)
    if pytest.importorskip("av"):
        with pytest.raises(ValueError, match="clip.mp4 cannot be read"):
            ImageSources(path)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r"captum-vae\[video\]"):
        ImageSources(path)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("nowhere", FileNotFoundError, "does not exist; wanted a folder"),
        ("photos/*.jpg", FileNotFoundError, "nothing matches"),
        ("photos/notes.md", ValueError, "no image by its ending"),
        ("text", ValueError, "no images in"),
        ("list.txt", FileNotFoundError, "line 1 of"),
        ("junk.npy", ValueError, "junk.npy cannot be read"),
        ("flat.npy", ValueError, "shape \\(5,\\)"),
    ],
)
def test_what_holds_no_images_is_refused(folder, given, error, words):
    (folder / "text").mkdir()
    (folder / "text" / "a.md").write_text("-")
    (folder / "list.txt").write_text("missing.png\n")
    (folder / "junk.npy").write_bytes(b"junk")
    np.save(folder / "flat.npy", np.ones(5))
    with pytest.raises(error, match=words):
        ImageSources(folder / given)


def test_a_batch_of_arrays_is_brought_to_one_size_and_channels():
    images = [np.full((4, 6), 255, np.uint8), np.zeros((8, 8, 3), np.float32)]
    batch = as_batch(images, 3, (5, 7))
    assert batch.shape == (2, 3, 5, 7) and batch[0].min() == 1 and batch[1].max() == 0
    of_objects = np.empty(2, object)  # as Ray Data gives images of several sizes
    of_objects[:] = images
    assert torch.equal(as_batch(of_objects, 3, (5, 7)), batch)
    with pytest.raises(ValueError, match="run from 0 to 2"):
        as_batch([np.full((4, 4), 2.0) * np.eye(4)], 1, None)
    with pytest.raises(TypeError, match="wanted an array or list"):
        as_batch("x", 1, None)
