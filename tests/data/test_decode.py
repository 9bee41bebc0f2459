import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from captum_vae.data import ImageFile, ImageFileDataset, ImageFolder
from captum_vae.data.arrays import read_images
from captum_vae.data.decode import UnreadableImageError, probe_image, read_image


def save(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "gif", "pgm", "tga", "jp2"])
def test_grey_images_of_any_type_read_alike(tmp_path: Path, ending: str) -> None:
    pixels = np.arange(80, dtype=np.uint8).reshape(8, 10)
    image = Image.fromarray(pixels)
    options = {"irreversible": False} if ending == "jp2" else {}
    image.save(tmp_path / f"a.{ending}", **options)
    assert np.array_equal(read_image(tmp_path / f"a.{ending}", 1, None).pixels, pixels[None])


def test_colour_comes_with_channels_first(tmp_path: Path) -> None:
    path = save(Image.new("RGB", (3, 2), (10, 20, 30)), tmp_path / "a.png")
    assert read_image(path, 3, None).pixels[:, 0, 0].tolist() == [10, 20, 30]
    assert probe_image(path) == (2, 3, 3, False)


def test_transparency_is_dropped(tmp_path: Path) -> None:
    path = save(Image.new("RGBA", (3, 2), (10, 20, 30, 0)), tmp_path / "a.png")
    assert read_image(path, 3, None).pixels[:, 0, 0].tolist() == [10, 20, 30]


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    pixels = np.array([[0, 256, 65535]], dtype=np.uint16)
    path = save(Image.fromarray(pixels), tmp_path / "a.png")
    assert read_image(path, 1, None).pixels.tolist() == [[[0, 1, 255]]]
    assert probe_image(path).channels == 1


RAMP = np.arange(256, dtype=np.int64).reshape(16, 16)


def read(path: Path, **options: Any) -> ImageFileDataset:
    return ImageFileDataset([ImageFile(path, path.name, "g", 0, "empty")], **options)


def grey(folder: Path, values: np.ndarray, ending: str = "tif") -> Path:
    return save(Image.fromarray(values), folder / f"a.{ending}")


@pytest.mark.parametrize(
    ("values", "ending", "pixel_range"),
    [
        (RAMP.astype(np.uint16), "png", (0, 255)),
        (RAMP.astype(np.uint16), "tif", (0, 255)),
        (RAMP.astype(np.int32), "tif", (0, 255)),
        ((RAMP * 16).astype(np.uint16), "tif", (0, 4080)),
        ((RAMP * 64).astype(np.uint16), "png", (0, 16320)),
        ((RAMP * 257).astype(np.uint16), "png", (0, 65535)),
        ((RAMP * 1000).astype(np.int32), "tif", (0, 255_000)),
        ((RAMP - 128).astype(np.int32), "tif", (-128, 127)),
        ((RAMP / 255).astype(np.float32), "tif", (0, 1)),
        ((RAMP / 127.5 - 1).astype(np.float32), "tif", (-1, 1)),
        ((RAMP + 1000.0).astype(np.float32), "tif", (1000, 1255)),
    ],
)
def test_a_pixel_range_keeps_every_level(
    tmp_path: Path, values: np.ndarray, ending: str, pixel_range: tuple[float, float]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read(grey(tmp_path, values, ending), pixel_range=pixel_range)[0].image
    assert np.array_equal((image[0] * 255).round().numpy(), RAMP)


@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16, 32, 64])
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_grey_of_more_bits_that_reads_nearly_black_is_warned_of_once(
    tmp_path: Path, scale: int, kind: type
) -> None:
    path = grey(tmp_path, (RAMP * scale).astype(kind))
    data = read(path, cache="none")
    with pytest.warns(UserWarning, match=rf"a\.tif has 16 bits and no value above {255 * scale}.*"
                      "pixel_range=\\[0, 4095\\]"):  # fmt: skip
        data[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data[0]


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.ones((2, 2), np.float32), {}, "floats from 1 to 1.*pixel_range="),
        (np.full((2, 2), np.nan, np.float32), {"pixel_range": (0, 1)}, "not finite"),
        (np.full((2, 2), np.inf, np.float32), {"pixel_range": (0, 1)}, "not finite"),
        (np.full((2, 2), 70_000, np.int32), {}, "from 70000 to 70000.*pixel_range="),
        (np.full((2, 2), -1, np.int32), {}, "from -1 to -1.*pixel_range="),
        (np.full((2, 2), 300, np.uint16), {"pixel_range": (0, 255)}, "beyond pixel_range"),
        (np.full((2, 2), 2.0, np.float32), {"pixel_range": (0, 1)}, "beyond pixel_range"),
    ],
)
def test_pixels_of_an_unknown_range_are_refused_with_the_option(
    tmp_path: Path, values: np.ndarray, options: Any, message: str
) -> None:
    with pytest.raises(UnreadableImageError, match=f"a.tif.*{message}"):
        read(grey(tmp_path, values), **options)[0]


def test_options_are_advised_only_where_they_exist(tmp_path: Path) -> None:
    path = grey(tmp_path, np.ones((2, 2), np.float32))
    with pytest.raises(UnreadableImageError) as caught:
        read_images(path)[0]
    assert "save it with 8 bits" in str(caught.value)
    assert "pixel_range" not in str(caught.value) and "on_error" not in str(caught.value)
    (tmp_path / "b.png").write_bytes(b"junk")
    with pytest.raises(UnreadableImageError) as caught:
        read_images(tmp_path / "b.png")
    assert "on_error" not in str(caught.value)
    with pytest.raises(UnreadableImageError, match='on_error="skip"'):
        read(tmp_path / "b.png")


def test_a_float_image_that_is_skipped_does_not_count_as_colour(tmp_path: Path) -> None:
    for name in "bc":
        save(Image.fromarray(np.full((2, 2), 100, np.uint8)), tmp_path / f"{name}.png")
    grey(tmp_path, np.ones((2, 2), np.float32))
    with pytest.warns(UserWarning, match="skipped 1 of 3"):
        data = ImageFolder(tmp_path, on_error="skip")
    assert (len(data), data.channels, len(data.skipped)) == (2, 1, 1)


def png_of_16_bits(path: Path, level: int) -> Path:
    """An RGB image with 16 bits per colour, which Pillow itself cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    rows = (b"\0" + np.full((4, 3), level, ">u2").tobytes()) * 4
    header = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize("level", [0, 200, 4095, 16383])
def test_colour_of_16_bits_that_reads_nearly_black_is_warned_of(tmp_path: Path, level: int) -> None:
    with pytest.warns(UserWarning, match="16 bits per colour and uses fewer than 14"):
        read(png_of_16_bits(tmp_path / "a.png", level))[0]


def test_colour_of_16_bits_in_full_use_reads_without_a_word(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read(png_of_16_bits(tmp_path / "a.png", 65535))[0].image
    assert image.min() == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_images_are_turned_as_viewers_turn_them(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:12, :16] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[274] = orientation
    options = {"lossless": True} if ending == "webp" else {}
    image.save(tmp_path / f"a.{ending}", exif=exif, **options)
    upright = np.asarray(ImageOps.exif_transpose(image_with(image, orientation)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sample = read(tmp_path / f"a.{ending}")[0]
    assert sample.image.shape[1:] == sample.mask.shape == upright.shape[:2]  # type: ignore[union-attr]
    assert np.array_equal(sample.image[0].numpy() > 0.5, upright[..., 0] > 127)
    assert [str(one.message)[:11] for one in caught] == ["1 of 1 imag"] * (orientation > 1)


def image_with(image: Image.Image, orientation: int) -> Image.Image:
    turned = image.copy()
    turned.getexif()[274] = orientation
    return turned


def test_a_mask_drawn_in_a_viewer_fits_its_turned_image(tmp_path: Path) -> None:
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:12, :16] = 255
    photo = Image.fromarray(pixels)
    exif = photo.getexif()
    exif[274] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    shown = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    bright = np.asarray(shown.convert("L")) > 128
    mask = save(Image.fromarray(bright), tmp_path / "m.png")
    with pytest.warns(UserWarning, match="EXIF orientation"):
        sample = ImageFileDataset([ImageFile(tmp_path / "a.jpg", "a", "g", 1, mask)])[0]
    assert sample.mask is not None
    assert (sample.image.mean(0)[sample.mask] > 0.5).all()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("CMYK", (255, 0, 0)), ("P", (255, 0, 0))],
)
def test_other_colour_spaces_become_rgb(
    tmp_path: Path, mode: str, expected: tuple[int, int, int]
) -> None:
    image = Image.new("RGB", (3, 2), (255, 0, 0)).convert(mode)
    path = tmp_path / ("a.png" if mode == "P" else "a.tif")
    save(image, path)
    assert read_image(path, 3, None).pixels[:, 0, 0].tolist() == list(expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_lab_is_refused_by_name(tmp_path: Path, channels: int) -> None:
    path = save(Image.new("LAB", (3, 2), (200, 10, 10)), tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match="a.tif.*LAB; save it as RGB"):
        read_image(path, channels, None)


@pytest.mark.parametrize("ending", ["gif", "tif", "png", "webp"])
def test_the_first_of_several_frames_is_read_and_remarked_on(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (4, 4), (level, 0, 0)) for level in (250, 10)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match="holds 2 frames, of which the first is read"):
        image = read(tmp_path / f"a.{ending}")[0].image
    assert image[0].min() > 0.9


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_hidden_colours_are_remarked_on_and_opaque_ones_not(tmp_path: Path, mode: str) -> None:
    for alpha, expected in ((255, 0), (0, 1), (128, 1)):
        colour = (10, alpha) if mode == "LA" else (10, 20, 30, alpha)
        path = save(Image.new(mode, (3, 2), colour), tmp_path / "a.png")
        assert len(read_image(path, 3, None).remarks) == expected


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "gif", "webp"])
def test_a_truncated_image_names_its_file(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"broken.{ending}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImageError, match=rf"broken\.{ending}"):
        read_image(path, 1, None)


def test_a_file_that_is_no_image_is_found_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(UnreadableImageError, match="a.png"):
        probe_image(tmp_path / "a.png")
