from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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


def test_float_images_are_refused_with_the_reason(tmp_path: Path) -> None:
    path = save(Image.fromarray(np.ones((2, 2), dtype=np.float32)), tmp_path / "a.tif")
    with pytest.raises(UnreadableImageError, match="a.tif.*pixels are floats"):
        read_image(path, 1, None)


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
