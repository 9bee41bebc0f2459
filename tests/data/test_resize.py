import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae.data.resize import height_width, resize_image, resize_mask


def brute_force_area(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Split every pixel into height x width equal parts: an exact grid for any ratio."""
    fine = np.kron(mask, np.ones((height, width)))
    rows, columns = mask.shape
    return fine.reshape(height, rows, width, columns).mean(axis=(1, 3)) >= 0.5


def test_a_mask_shrinks_to_the_pixels_covered_by_half() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 0]], dtype=torch.bool)
    assert resize_mask(mask, (1, 2)).tolist() == [[True, True]]
    mask[1, 2] = False
    assert resize_mask(mask, (1, 2)).tolist() == [[True, False]]


@pytest.mark.parametrize("size", [(3, 4), (5, 7), (7, 10), (12, 9), (20, 31)])
def test_mask_area_is_exact_for_any_ratio(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random((7, 10)) < 0.4
    expected = brute_force_area(mask, *size)
    assert np.array_equal(resize_mask(torch.from_numpy(mask), size).numpy(), expected)


def test_resized_mask_keeps_its_area_where_truncated_bilinear_loses_a_third() -> None:
    rows, columns = np.mgrid[:120, :180]
    mask = np.zeros((120, 180), dtype=bool)
    for y, x, radius in [(30, 40, 6), (60, 100, 8), (90, 140, 5)]:
        mask |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    area = mask.mean()
    bilinear = Image.fromarray(mask.astype(np.float32)).resize((100, 66), Image.Resampling.BILINEAR)
    published = np.asarray(bilinear).astype(np.uint8)
    assert published.mean() / area < 0.8
    ours = resize_mask(torch.from_numpy(mask), (66, 100))
    assert ours.double().mean().item() / area == pytest.approx(1, abs=0.03)


def test_none_leaves_the_mask_alone() -> None:
    mask = torch.rand(4, 5) > 0.5
    assert resize_mask(mask, None) is mask


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(TypeError, match="dtype torch.float32.*mask > 0.5"):
        resize_mask(torch.zeros(4, 4), 2)


def test_a_batch_of_masks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 4\).*wanted \(H, W\)"):
        resize_mask(torch.zeros(1, 4, 4, dtype=torch.bool), 2)


def test_shrinking_an_image_averages_instead_of_picking() -> None:
    stripes = np.tile(np.array([0, 200], dtype=np.uint8), (64, 32))
    small = resize_image(stripes, (8, 8))
    assert np.abs(small[:, 1:-1].astype(int) - 100).max() <= 2


@pytest.mark.parametrize("size", [0, -3, (4,), (4, 0), (3.5, 4)])
def test_an_impossible_size_is_named(size: object) -> None:
    with pytest.raises((TypeError, ValueError), match="mask_size"):
        height_width(size, "mask_size")  # type: ignore[arg-type]
