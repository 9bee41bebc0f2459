"""dSprites drawn from its factors, pixel for pixel as in the original file.

The original was drawn by a GPU as filled polygons, and so is this: place the polygon's vertices,
round them to 1/256 of a pixel (the GPU's subpixel grid), and light the pixels whose centre lies
inside, a centre exactly on an edge belonging to the shape on the edge's right or above it.

How the constants were found. With smooth outlines, all wrong squares had a pixel centre within
1/512 pixel of an edge, which is the rounding of a vertex to a 1/256 grid, and the distance from the
ellipse at which pixels change sides oscillated 100 times per turn, which is a polygon of 100
vertices; both were seen on all 66,080 originals at hand. The numbers were then fitted to 20,000
random ones and rounded to what a person would write. Of the four tie rules, one made 3,000 squares
exact. The ellipse's semi-axes, searched on a grid, came out as 12.768 and 7.218: 9.6 * 1.33 and
9.6 / 1.33, whose product is 9.6 squared. For the heart, coordinate descent over width, height and
offset was repeated for vertex counts from 50 to 1,000; 150 left 7 wrong pixels in 2,000 images, all
others over 110, with 0.6, 0.66208 and 1.43993: 9.6 / 16, 19.2 / 29 and 1.44.
On those 20,000 and the 46,080 others, 9 images differ, each by one pixel: one of their vertices
lies within 1e-5 pixel of the middle between two grid points, which single precision, whose exact
order of operations is unknown, rounded to the other side.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from captum_vae.data.dsprites_factors import SHAPE_NAMES, check_factor_columns, factor_values

IMAGE_SIZE = 64
_SUBPIXELS = 256
_CHUNK = 512
"""Images drawn at once: few enough for their edges to stay in the cache."""


class _Outline(NamedTuple):
    vertices: Tensor
    """(M, 2) float64, x and y in pixels, y down, about the sprite's centre at scale 1."""
    rows: int
    """How many pixel rows an edge can cross at most, at any orientation and scale up to 1."""


def render_classes(classes: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw the images of factor classes.

    Args:
        classes: (N, 5) integers, the classes of shape, scale, orientation, posX and posY.
        dtype: Type of the images; any real type or bool.

    Returns:
        (N, 1, 64, 64) images of 0 and 1 on the device of ``classes``.

    Raises:
        TypeError: ``classes`` is not an integer tensor, or ``dtype`` no real torch.dtype.
        ValueError: It is not (N, 5), or a class is out of range.
    """
    return _render(factor_values(classes), dtype)


def render(values: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw images of factor values, which need not be those of the original.

    Args:
        values: (N, 5) floats: shape (1 square, 2 ellipse, 3 heart), scale in (0, 1], orientation
            in radians, posX and posY in [0, 1].
        dtype: Type of the images; any real type or bool.

    Returns:
        (N, 1, 64, 64) images of 0 and 1 on the device of ``values``.

    Raises:
        TypeError: ``values`` is not a floating-point tensor, or ``dtype`` no real torch.dtype.
        ValueError: It is not (N, 5), or a value is out of range.
    """
    check_factor_columns("values", values)
    if not values.is_floating_point():
        raise TypeError(f"values is {values.dtype}; wanted floats (render_classes() takes classes)")
    shape, scale, orientation, *position = values.unbind(1)
    for name, valid, wanted in (
        ("shape", (shape == 1) | (shape == 2) | (shape == 3), "1, 2 or 3"),
        ("scale", (scale > 0) & (scale <= 1), "a number in (0, 1]"),
        ("orientation", orientation.isfinite(), "a finite angle in radians"),
        ("posX", (position[0] >= 0) & (position[0] <= 1), "a number in [0, 1]"),
        ("posY", (position[1] >= 0) & (position[1] <= 1), "a number in [0, 1]"),
    ):
        if not valid.all():
            raise ValueError(f"values has a {name} out of range; wanted {wanted}")
    return _render(values.double(), dtype)


def _render(values: Tensor, dtype: torch.dtype) -> Tensor:
    if not isinstance(dtype, torch.dtype) or dtype.is_complex:
        raise TypeError(f"dtype is {dtype!r}; wanted a real torch.dtype, as torch.float32")
    images = torch.empty(
        (len(values), 1, IMAGE_SIZE, IMAGE_SIZE), dtype=dtype, device=values.device
    )
    for shape in range(len(SHAPE_NAMES)):
        of_shape = (values[:, 0] == shape + 1).nonzero().flatten()
        outline = _outline(shape)
        for start in range(0, len(of_shape), _CHUNK):
            rows = of_shape[start : start + _CHUNK]
            images[rows, 0] = _fill(_place(outline.vertices, values[rows]), outline.rows).to(dtype)
    return images


@lru_cache(maxsize=3)
def _outline(shape: int) -> _Outline:
    if SHAPE_NAMES[shape] == "square":
        vertices = 9.6 * torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    elif SHAPE_NAMES[shape] == "ellipse":
        angle = torch.arange(100, dtype=torch.float64) * (2 * math.pi / 100)
        vertices = 9.6 * torch.stack([1.33 * angle.cos(), angle.sin() / 1.33], dim=1)
    else:
        angle = torch.arange(150, dtype=torch.float64) * (2 * math.pi / 150)
        across = 16 * angle.sin() ** 3
        up = 13 * angle.cos() - 5 * (2 * angle).cos() - 2 * (3 * angle).cos() - (4 * angle).cos()
        vertices = torch.stack([9.6 / 16 * across, -19.2 / 29 * up - 1.44], dim=1)
    longest = float((vertices - vertices.roll(-1, 0)).norm(dim=1).max())
    return _Outline(vertices, rows=math.ceil(longest) + 1)


def _place(vertices: Tensor, values: Tensor) -> Tensor:
    """(M, 2) vertices in the images of (N, 5) values: (N, M, 2) integers, in 1/256 pixels."""
    scale, orientation, across, down = values[:, 1:, None].unbind(1)
    x, y = (scale[..., None] * vertices.to(values.device)).unbind(-1)
    cos, sin = orientation.cos(), orientation.sin()
    placed = torch.stack(
        [16 + 32 * across + cos * x + sin * y, 16 + 32 * down - sin * x + cos * y], dim=-1
    )
    return (placed * _SUBPIXELS + 0.5).floor()


def _fill(vertices: Tensor, rows: int) -> Tensor:
    """Fill polygons: (N, M, 2) integer-valued float64 in 1/256 pixels to (N, 64, 64) int8 0 or 1.

    Where an edge crosses the centre line of a pixel row, the pixels to its right change sides. The
    crossing is a quotient of integers below 2^31, so that its ceiling is exact in float64.
    """
    count, half = len(vertices), _SUBPIXELS // 2
    x, y = vertices.unbind(-1)
    width, height = x.roll(-1, 1) - x, y.roll(-1, 1) - y
    top, bottom = torch.minimum(y, y + height), torch.maximum(y, y + height)
    first_row = ((top - half) / _SUBPIXELS).floor() + 1
    changes = torch.zeros(
        (count, IMAGE_SIZE * (IMAGE_SIZE + 1)), dtype=torch.int8, device=vertices.device
    )
    one = torch.ones((), dtype=torch.int8, device=vertices.device).expand(x.shape)
    for row in (first_row + step for step in range(rows)):
        line = row * _SUBPIXELS + half
        crossing = (x - half) * height + (line - y) * width
        column = (crossing / (_SUBPIXELS * height)).ceil()
        # Column 64 is off the image: edges that do not reach this row leave their change there.
        place = torch.where(line <= bottom, row * (IMAGE_SIZE + 1) + column, IMAGE_SIZE)
        changes.scatter_add_(1, place.long(), one)
    changes = changes.view(count, IMAGE_SIZE, IMAGE_SIZE + 1)[..., :IMAGE_SIZE]
    return changes.cumsum(-1, dtype=torch.int8) & 1
