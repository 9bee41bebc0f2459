import pytest
import torch
from matplotlib.figure import Figure

from captum_vae.report import ColorScale, GridRow, Strip, draw_map_grid
from captum_vae.report.map_grid import format_range

IMAGE = torch.rand(1, 8, 8)


def ramp(top: float) -> torch.Tensor:
    return torch.linspace(0, top, 64).reshape(8, 8)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(
    "scale, text",
    [
        (ColorScale(0.0, 0.4113), "0.00 … 0.41"),
        (ColorScale(0.4971, 0.5033), "0.4971 … 0.5033"),
        (ColorScale(12.3, 271.8), "12 … 272"),
        (ColorScale(0.0, 3.21e-7), "0 … 3.2e-07"),
        (ColorScale(0.5, 0.5), "0.500 … 0.500"),
    ],
)
def test_a_range_shows_two_digits_of_its_length(scale: ColorScale, text: str) -> None:
    assert format_range(scale) == text


def test_strips_of_different_range_state_their_own_numbers() -> None:
    rows = [GridRow("relu", [Strip([IMAGE], [ramp(0.5)]), Strip([IMAGE], [ramp(20.0)])])]
    figure = draw_map_grid(rows, strip_titles=["method 1", "method 2"], bar_label="attention")
    assert words(figure) == ["method 1", "method 2", "relu", "0.00 … 0.50", "0 … 20"]
    bar = figure.axes[-1]
    assert [tick.get_text() for tick in bar.get_yticklabels()] == ["lowest", "highest"]


def test_one_scale_for_all_puts_the_numbers_on_the_bar() -> None:
    scale = ColorScale(0.0, 20.0)
    rows = [GridRow(name, [Strip([IMAGE], [ramp(9.0)], scale)]) for name in "ab"]
    figure = draw_map_grid(rows, bar_label="attention")
    assert words(figure) == ["a", "b"]
    bar = figure.axes[-1]
    assert (bar.get_ylim(), bar.get_ylabel()) == ((0.0, 20.0), "attention")


def test_every_image_gets_its_axes_and_empty_cells_none() -> None:
    rows = [GridRow("a", [Strip([IMAGE, None])]), GridRow("b", [Strip([IMAGE] * 2, [ramp(1)] * 2)])]
    assert len(draw_map_grid(rows, bar_label="attention").axes) == 3 + 1


def test_without_maps_there_is_no_bar() -> None:
    figure = draw_map_grid([GridRow("image", [Strip([IMAGE])])], bar_label="attention")
    assert len(figure.axes) == 1


def test_images_keep_their_shape_on_the_page() -> None:
    figure = draw_map_grid([GridRow("image", [Strip([IMAGE] * 3)])], bar_label="attention")
    width, height = figure.get_size_inches()
    box = figure.axes[0].get_position()
    assert box.width * width == pytest.approx(box.height * height)


def test_rows_of_different_width_are_refused() -> None:
    rows = [GridRow("a", [Strip([IMAGE])]), GridRow("b", [Strip([IMAGE] * 2)])]
    with pytest.raises(
        ValueError, match=r"row 'b' has strips of \[2\] images, the first row \[1\]"
    ):
        draw_map_grid(rows, bar_label="attention")


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="rows is empty"):
        draw_map_grid([], bar_label="attention")


def test_a_map_too_many_is_refused() -> None:
    with pytest.raises(ValueError, match="2 maps for 1 images"):
        Strip([IMAGE], [ramp(1), ramp(1)])
