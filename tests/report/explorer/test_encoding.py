import io

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae.report.explorer.encoding import (
    IMAGE_BYTES,
    MASK_BYTES,
    SHEET_BYTES,
    TRAVERSAL_BYTES,
    encode_image,
    encode_maps,
    encode_mask,
    encode_traversal,
)


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_small_image_keeps_every_pixel() -> None:
    image = (torch.rand(3, 20, 30) * 255).round() / 255
    found = encode_image(image)
    assert found.suffix == ".png"
    assert np.array_equal(pixels(found.data), (image * 255).round().byte().permute(1, 2, 0))


@pytest.mark.parametrize("shape", [(3, 900, 700), (1, 512, 512), (5, 64, 64), (3, 128, 128)])
def test_noise_of_any_size_fits(shape: tuple[int, int, int]) -> None:
    found = encode_image(torch.rand(shape))
    assert len(found.data) <= IMAGE_BYTES
    height, width = pixels(found.data).shape[:2]
    assert (height, width) == (found.height, found.width)
    assert height / width == pytest.approx(shape[1] / shape[2], rel=0.05)


def test_levels_begin_at_the_lowest_value_and_end_at_the_highest() -> None:
    maps = torch.rand(5, 9, 7) * torch.tensor([1.0, 10.0, 0.1, 3.0, 7.0])[:, None, None] - 2
    sheet = encode_maps(maps)
    assert sheet.low == pytest.approx(maps.flatten(1).amin(1).tolist())
    assert sheet.high == pytest.approx(maps.flatten(1).amax(1).tolist())
    levels = pixels(sheet.file.data)
    for place, one in enumerate(maps):
        row, column = divmod(place, sheet.columns)
        tile = levels[row * 11 : row * 11 + 11, column * 9 : column * 9 + 9]
        inside = tile[1:-1, 1:-1]
        low, high = sheet.low[place], sheet.high[place]
        start = low + inside.astype(float) * (high - low) / 256
        assert (start <= one.double().numpy() + 1e-6).all()
        assert (one.double().numpy() <= start + (high - low) / 256 + 1e-6).all()
        assert np.array_equal(tile[0, 1:-1], inside[0]), "a border repeats the edge"


def test_a_constant_map_is_level_0() -> None:
    sheet = encode_maps(torch.full((1, 4, 4), 0.3))
    assert not pixels(sheet.file.data).any()


def test_32_maps_of_noise_fit() -> None:
    sheet = encode_maps(torch.rand(32, 64, 64))
    assert len(sheet.file.data) <= SHEET_BYTES


def test_a_mask_keeps_its_pixels_and_shows_what_does_not_count() -> None:
    mask = torch.zeros(6, 8, dtype=torch.bool)
    mask[2:4, 3:6] = True
    ignored = torch.zeros_like(mask)
    ignored[0] = True
    levels = pixels(encode_mask(mask, ignored).data)
    assert (levels == 255).sum() == 6
    assert (levels == 128).sum() == 8


def test_a_mask_of_noise_fits() -> None:
    assert len(encode_mask(torch.rand(800, 800) > 0.5, None, MASK_BYTES).data) <= MASK_BYTES


def test_a_traversal_has_a_row_per_dimension() -> None:
    images = torch.rand(6, 5, 1, 28, 28)
    sheet = encode_traversal(images)
    assert (sheet.rows, sheet.columns) == (6, 5)
    found = pixels(sheet.file.data)
    assert found.shape[:2] == (6 * sheet.file.height, 5 * sheet.file.width)
    assert len(sheet.file.data) <= TRAVERSAL_BYTES
