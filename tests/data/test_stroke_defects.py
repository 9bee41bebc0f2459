"""Pasted and erased pen strokes: the mask is exactly what changed."""

import numpy as np
import pytest
import torch

from captum_vae.data import OneClassDigits, StrokeDefects
from captum_vae.data.stroke_defects import change_strokes

CONTRAST = 0.2


@pytest.fixture(scope="module")
def ones() -> OneClassDigits:
    return OneClassDigits("test", digits=[1])


def test_the_mask_is_exactly_what_changed_by_the_contrast(ones: OneClassDigits) -> None:
    changed = StrokeDefects(ones, contrast=CONTRAST)
    for index in range(len(ones)):
        before, after = ones[index].image[0], changed[index].image[0]
        mask = changed[index].mask
        assert mask is not None and mask.any()
        assert torch.equal(after[~mask], before[~mask])
        assert ((after - before)[mask].abs() >= CONTRAST).all()


def test_pasted_strokes_only_add_ink_and_erased_ones_only_take_it(ones: OneClassDigits) -> None:
    for kind, sign in (("pasted", 1), ("erased", -1)):
        changed = StrokeDefects(ones, [kind])  # type: ignore[list-item]
        for index in range(12):
            sample = changed[index]
            assert sample.group == kind and sample.label == 1
            assert (sign * (sample.image - ones[index].image) >= 0).all()


def test_erased_pixels_are_black_and_lie_in_one_disc(ones: OneClassDigits) -> None:
    changed = StrokeDefects(ones, ["erased"], length=(0.25, 0.25))
    for index in range(12):
        sample = changed[index]
        assert sample.mask is not None
        assert (sample.image[0][sample.mask] == 0).all()
        places = sample.mask.nonzero().double()
        # A disc of diameter 0.25 * 28 = 7 pixels.
        assert torch.cdist(places, places).max() <= 7


def test_a_sample_depends_on_seed_and_index_alone(ones: OneClassDigits) -> None:
    forwards = [StrokeDefects(ones, seed=3)[index].image for index in range(4)]
    backwards = StrokeDefects(ones, seed=3)
    for index in reversed(range(4)):
        assert torch.equal(backwards[index].image, forwards[index])
    assert not torch.equal(StrokeDefects(ones, seed=4)[0].image, forwards[0])


def test_a_straight_stroke_on_an_almost_empty_page_is_as_long_as_asked() -> None:
    page = np.zeros((60, 60), np.float32)
    page[30, 30] = 1
    _, mask = change_strokes(page, "pasted", np.random.default_rng(0), length=(0.3, 0.3))
    rows, columns = np.nonzero(mask)
    extent = np.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)
    # 18 pixels, less what the bend takes (cos 0.8 = 0.70), plus a pen of at most 6.6.
    assert 0.7 * 18 <= extent <= 18 + 2 * 6.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ["smeared"]}, "kinds='smeared' is not known; choose one of pasted, erased"),
        ({"kinds": []}, "kinds is empty; wanted some of pasted, erased"),
        ({"length": (0.5, 0.2)}, r"length is \(0.5, 0.2\); wanted 0 < smallest <= largest <= 1"),
        ({"contrast": 0.0}, "contrast is 0.0; wanted more than 0"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(
    ones: OneClassDigits, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StrokeDefects(ones, **options)  # type: ignore[arg-type]


def test_a_page_without_ink_is_refused() -> None:
    with pytest.raises(ValueError, match="no ink of at least 0.2"):
        change_strokes(np.zeros((9, 9), np.float32), "erased", np.random.default_rng(0))


def test_an_anomalous_sample_is_refused() -> None:
    sevens = OneClassDigits("test", digits=[7], normal_digits=[1])
    with pytest.raises(ValueError, match="has label 1 and 1 channels; wanted normal images"):
        StrokeDefects(sevens)[0]
