import matplotlib
import numpy as np
import pytest
import torch

from captum_vae.report import ColorScale, overlay
from captum_vae.report.color_scale import BRIGHTEST, FAINTEST, STRONGEST, bar_colors, shown_image

MAPS = [torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 3.0]])]


def test_a_scale_spans_all_maps() -> None:
    assert ColorScale.of(MAPS) == ColorScale(1.0, 5.0)


def test_a_scale_can_start_at_zero() -> None:
    assert ColorScale.of(MAPS, low=0.0) == ColorScale(0.0, 5.0)


def test_positions_are_linear_and_clamped() -> None:
    values = torch.tensor([0.0, 2.0, 3.0, 6.0, 9.0])
    assert ColorScale(2.0, 6.0).position(values).tolist() == [0.0, 0.0, 0.25, 1.0, 1.0]


def test_a_constant_map_gets_the_first_colour() -> None:
    assert ColorScale.of([torch.full((2, 2), 0.5)]).position(torch.full((2,), 0.5)).sum() == 0


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, float("nan")), (float("-inf"), 0.0)])
def test_an_impossible_scale_is_refused(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="wanted low <= high|is not finite"):
        ColorScale(*ends)


def test_a_scale_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="maps is empty"):
        ColorScale.of([])


def test_the_ends_of_the_scale_blend_image_and_colour_by_hand() -> None:
    image = torch.tensor([[[0.2, 0.6]], [[0.4, 1.0]]])  # grey: 0.3, 0.8
    shown = overlay(image, torch.tensor([[0.0, 7.0]]), ColorScale(0.0, 7.0), colormap="viridis")
    first, last = matplotlib.colormaps["viridis"]([0.0, 1.0])[:, :3]
    grey = [BRIGHTEST * 0.3, BRIGHTEST * 0.8]
    expected = [
        FAINTEST * first + (1 - FAINTEST) * grey[0],
        STRONGEST * last + (1 - STRONGEST) * grey[1],
    ]
    np.testing.assert_allclose(shown, [expected], atol=1e-6)


def test_the_bar_shows_the_colours_of_the_overlay() -> None:
    ramp = torch.linspace(0, 1, 256, dtype=torch.float64)[:, None].expand(256, 16)
    images = torch.linspace(0, 1, 16, dtype=torch.float64).expand(256, 16)
    np.testing.assert_allclose(bar_colors(), overlay(images, ramp, ColorScale(0.0, 1.0)))


def test_the_highest_value_is_lighter_than_a_white_image_beneath_the_lowest() -> None:
    shown = overlay(torch.ones(1, 2), torch.tensor([[0.0, 1.0]]), ColorScale(0.0, 1.0))
    assert shown[0, 1].mean() > shown[0, 0].mean() + 0.2


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(7, 7\).*size='input'"):
        overlay(torch.zeros(1, 28, 28), torch.zeros(7, 7), ColorScale(0, 1))


def test_an_image_of_three_channels_is_shown_in_its_colours_and_another_in_grey() -> None:
    colours = torch.rand(3, 4, 5)
    assert np.allclose(shown_image(colours), colours.permute(1, 2, 0))
    grey = torch.rand(1, 4, 5)
    assert np.allclose(shown_image(grey), grey[0])
