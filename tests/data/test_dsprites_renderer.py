"""The renderer against the original images, an independent fill, and hand-counted sprites."""

from pathlib import Path

import numpy as np
import pytest
import torch

from captum_vae.data.dsprites import DSprites
from captum_vae.data.dsprites_factors import (
    SHAPE_NAMES,
    classes_of_index,
    factor_values,
    sample_classes,
)
from captum_vae.data.dsprites_renderer import render, render_classes

FILES = ("dsprites_random20k_64x64.npz", "dsprites_grid_sh3sc6or10x16y16_64x64.npz")


def wrong_pixels(originals: DSprites, rows: torch.Tensor) -> torch.Tensor:
    drawn = render_classes(originals.classes[rows], dtype=torch.uint8)
    return (drawn != originals.images(rows)).sum((1, 2, 3))


@pytest.fixture(scope="module", params=FILES)
def originals(request: pytest.FixtureRequest, data_root: Path) -> DSprites:
    path = data_root / "dsprites" / request.param
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return DSprites.from_npz(path, dtype=torch.uint8)


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_the_original_images_agree(originals: DSprites, step: int) -> None:
    rows = torch.arange(0, len(originals), step)
    wrong, shapes = wrong_pixels(originals, rows), originals.classes[rows, 0]
    for shape, name in enumerate(SHAPE_NAMES):
        of_shape = wrong[shapes == shape].double()
        assert (of_shape == 0).double().mean() >= 0.999, name
        assert of_shape.max() <= 1, name


def test_upright_squares_have_the_area_counted_by_hand() -> None:
    # Scale s spans 16 -+ 9.6 s; pixel centres lie at j + 0.5.
    values = torch.tensor([[1, s, 0, 0, 0] for s in (0.5, 0.6, 0.7, 0.8, 0.9, 1)]).double()
    side = torch.tensor([10, 12, 14, 16, 18, 20])
    assert torch.equal(render(values).sum((1, 2, 3)), side.square().float())


def test_position_moves_the_sprite_by_half_the_image() -> None:
    values = torch.tensor([[3, 1, 0.3, 0, 0], [3, 1, 0.3, 1, 0], [3, 1, 0.3, 0, 1]]).double()
    origin, right, below = render(values)[:, 0]
    assert torch.equal(right, origin.roll(32, 1))
    assert torch.equal(below, origin.roll(32, 0))


def test_the_heart_points_down_and_the_ellipse_lies_flat_at_orientation_zero() -> None:
    values = torch.tensor([[2, 1, 0, 0.5, 0.5], [3, 1, 0, 0.5, 0.5]]).double()
    ellipse, heart = render(values)[:, 0]
    assert ellipse.any(0).sum() > ellipse.any(1).sum()
    assert heart[20:32].sum() > heart[32:46].sum()


def test_the_first_and_the_last_orientation_show_the_same_image() -> None:
    classes = sample_classes(60, fixed={"orientation": 0})
    turned = classes.clone()
    turned[:, 2] = 39
    assert torch.equal(render_classes(classes), render_classes(turned))


def test_a_pixel_centre_on_an_edge_is_lit_on_the_left_and_bottom_edges_only() -> None:
    # Half side 9.6 * s = 8.5 about the centre (32, 32): all edges pass through pixel centres.
    square = render(torch.tensor([[1, 8.5 / 9.6, 0, 0.5, 0.5]], dtype=torch.float64))[0, 0]
    rows, columns = square.any(1).nonzero().flatten(), square.any(0).nonzero().flatten()
    assert (int(columns[0]), int(columns[-1])) == (23, 39)  # centres 23.5 (edge) to 39.5
    assert (int(rows[0]), int(rows[-1])) == (24, 40)  # centres 24.5 to 40.5 (edge)


def test_agrees_with_a_half_plane_fill_of_the_rounded_polygons() -> None:
    # Square and ellipse are convex, so an independent fill intersects half planes.
    classes = classes_of_index(torch.randint(0, 2 * 737_280 // 3, (200,)))
    drawn = render_classes(classes, dtype=torch.bool)[:, 0].numpy()
    centres = np.arange(64) * 256 + 128
    for image, (shape, scale, angle, x, y) in zip(
        drawn, factor_values(classes).tolist(), strict=True
    ):
        if shape == 1:
            corners = 9.6 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        else:
            turn = 2 * np.pi * np.arange(100) / 100
            corners = 9.6 * np.stack([1.33 * np.cos(turn), np.sin(turn) / 1.33], 1)
        turned = corners @ np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        placed = np.floor((scale * turned + 16 + 32 * np.array([x, y])) * 256 + 0.5).astype(int)
        inside = np.ones((64, 64), bool)
        for (ax, ay), (bx, by) in zip(placed, np.roll(placed, -1, 0), strict=True):
            side = (bx - ax) * (centres[:, None] - ay) - (by - ay) * (centres[None, :] - ax)
            left_or_bottom = by < ay or (by == ay and bx < ax)
            if (ax, ay) != (bx, by):
                inside &= (side > 0) | ((side == 0) & left_or_bottom)
        assert np.array_equal(image, inside)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.float16])
def test_every_type_shows_the_same_sprites(dtype: torch.dtype) -> None:
    classes = sample_classes(20)
    images = render_classes(classes, dtype=dtype)
    assert images.dtype == dtype and images.shape == (20, 1, 64, 64)
    assert torch.equal(images.double(), render_classes(classes, dtype=torch.float64))


def test_no_images_are_drawn_of_no_factors() -> None:
    assert render_classes(torch.empty((0, 5), dtype=torch.int64)).shape == (0, 1, 64, 64)


@pytest.mark.parametrize("factor", range(5))
def test_values_out_of_range_are_refused(factor: int) -> None:
    values = torch.tensor([[1, 0.5, 0, 0.5, 0.5]]).double()
    values[0, factor] = float("inf")
    with pytest.raises(ValueError, match="out of range"):
        render(values)


def test_classes_in_place_of_values_are_refused_with_the_right_function_named() -> None:
    with pytest.raises(TypeError, match="render_classes"):
        render(torch.zeros((1, 5), dtype=torch.int64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_draws_what_the_cpu_draws() -> None:
    classes = sample_classes(500)
    assert torch.equal(render_classes(classes.cuda()).cpu(), render_classes(classes))
