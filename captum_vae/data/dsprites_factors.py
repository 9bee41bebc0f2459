"""The factors of dSprites: their order, values, indices, and how to draw them.

The original file stores six latent columns, with a colour first that is always white. A constant
has nothing to disentangle, so this package counts five factors: shape, scale, orientation, posX,
posY. Image ``i`` of the original has the classes that ``i`` has in mixed radix (3, 6, 40, 32, 32),
posY fastest; the colour does not change that. Orientation runs over linspace(0, 2 pi, 40) with both
ends, so class 39 shows the same images as class 0.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from captum_vae.checks import whole_number

FACTOR_NAMES = ("shape", "scale", "orientation", "posX", "posY")
FACTOR_SIZES = (3, 6, 40, 32, 32)
SHAPE_NAMES = ("square", "ellipse", "heart")
IMAGE_COUNT = math.prod(FACTOR_SIZES)


def factor_value_tables() -> tuple[Tensor, ...]:
    """The values of each factor, as float64 vectors of lengths ``FACTOR_SIZES``.

    Shape is 1 (square), 2 (ellipse) or 3 (heart), scale 0.5 to 1, orientation 0 to 2 pi radians,
    posX (to the right) and posY (down) 0 to 1.
    """
    return (
        torch.arange(1, 4, dtype=torch.float64),
        torch.linspace(0.5, 1, 6, dtype=torch.float64),
        torch.linspace(0, 2 * math.pi, 40, dtype=torch.float64),
        torch.linspace(0, 1, 32, dtype=torch.float64),
        torch.linspace(0, 1, 32, dtype=torch.float64),
    )


def factor_values(classes: Tensor) -> Tensor:
    """Values of factor classes, as the original's ``latents_values`` without colour.

    Args:
        classes: (N, 5) integers, column f in 0..FACTOR_SIZES[f] - 1.

    Returns:
        (N, 5) float64 on the device of ``classes``.

    Raises:
        TypeError: ``classes`` is not an integer tensor.
        ValueError: It is not (N, 5), or a class is out of range.
    """
    _check_classes(classes)
    return torch.stack(
        [
            table.to(classes.device)[classes[:, factor].long()]
            for factor, table in enumerate(factor_value_tables())
        ],
        dim=1,
    )


def classes_of_values(values: Tensor, *, tolerance: float = 1e-3) -> Tensor:
    """Classes of factor values: the inverse of :func:`factor_values`.

    Args:
        values: (N, 5) floats as in the original's ``latents_values`` without colour.
        tolerance: How far a value may lie from the table's.

    Returns:
        (N, 5) int64.

    Raises:
        TypeError: ``values`` is no tensor of real numbers.
        ValueError: It is not (N, 5), or a value is not in the table of its factor.
    """
    check_factor_columns("values", values)
    if values.is_complex():
        raise TypeError(f"values is {values.dtype}; wanted real numbers")
    columns = []
    for factor, table in enumerate(factor_value_tables()):
        distance = (values[:, factor, None].double() - table.to(values.device)).abs()
        nearest = distance.min(dim=1)
        wrong = ~(nearest.values <= tolerance)
        if wrong.any():
            raise ValueError(
                f"{FACTOR_NAMES[factor]} has the value {float(values[wrong][0, factor]):g}; "
                f"wanted one of {[round(value, 4) for value in table.tolist()]}"
            )
        columns.append(nearest.indices)
    return torch.stack(columns, dim=1)


def classes_of_index(indices: Tensor) -> Tensor:
    """Classes of the images at ``indices`` of the original file.

    Args:
        indices: (N,) integers in 0..IMAGE_COUNT - 1.

    Returns:
        (N, 5) int64.

    Raises:
        TypeError: ``indices`` is no tensor of integers.
        ValueError: It is not (N,), or an index is out of range.
    """
    if not isinstance(indices, Tensor) or not _is_integer(indices):
        raise TypeError(f"indices is {_kind(indices)}; wanted a tensor of integers (N,)")
    if indices.ndim != 1:
        raise ValueError(f"indices has the shape {tuple(indices.shape)}; wanted (N,)")
    if indices.numel() and not (0 <= int(indices.min()) and int(indices.max()) < IMAGE_COUNT):
        raise ValueError(
            f"indices run from {int(indices.min())} to {int(indices.max())}; "
            f"wanted 0 to {IMAGE_COUNT - 1}"
        )
    rest, columns = indices.long(), []
    for size in reversed(FACTOR_SIZES):
        columns.append(rest % size)
        rest = rest // size
    return torch.stack(columns[::-1], dim=1)


def index_of_classes(classes: Tensor) -> Tensor:
    """Index in the original file of the images with ``classes``: (N, 5) integers to (N,) int64."""
    _check_classes(classes)
    index = torch.zeros_like(classes[:, 0], dtype=torch.int64)
    for factor, size in enumerate(FACTOR_SIZES):
        index = index * size + classes[:, factor].long()
    return index


def sample_classes(
    count: int,
    *,
    fixed: Mapping[str, int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw factors uniformly and independently, except those held fixed.

    Args:
        count: Number of draws N.
        fixed: Class of each factor to hold, by its name in ``FACTOR_NAMES``.
        generator: Source of randomness; the draws come on its device.

    Returns:
        (N, 5) int64 classes.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``count`` is negative, or a fixed factor has an unknown name or a class out of
            range.
    """
    count = whole_number("count", count, least=0)
    if fixed is not None and not isinstance(fixed, Mapping):
        raise TypeError(f"fixed is {fixed!r}; wanted classes by name, as {{'shape': 0}}")
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is {_kind(generator)}; wanted a torch.Generator")
    fixed = dict(fixed or {})
    for name, value in fixed.items():
        if name not in FACTOR_NAMES:
            raise ValueError(f"fixed names the factor {name!r}; wanted some of {FACTOR_NAMES}")
        size = FACTOR_SIZES[FACTOR_NAMES.index(name)]
        if not 0 <= whole_number(f"fixed[{name!r}]", value) < size:
            raise ValueError(f"fixed sets {name} to class {value}; wanted 0 to {size - 1}")
    device = torch.device("cpu") if generator is None else generator.device
    columns = [
        torch.full((count,), fixed[name], device=device)
        if name in fixed
        else torch.randint(size, (count,), generator=generator, device=device)
        for name, size in zip(FACTOR_NAMES, FACTOR_SIZES, strict=True)
    ]
    return torch.stack(columns, dim=1)


def check_factor_columns(name: str, table: Tensor) -> None:
    """Refuse a table that is not (N, 5).

    Args:
        name: What the caller calls it.
        table: The table of factors.

    Raises:
        TypeError: It is no tensor.
        ValueError: It has another shape.
    """
    if not isinstance(table, Tensor):
        raise TypeError(f"{name} is {_kind(table)}; wanted a tensor (N, 5)")
    if table.ndim != 2 or table.shape[1] != len(FACTOR_NAMES):
        raise ValueError(
            f"{name} has shape {tuple(table.shape)}; wanted (N, 5) with the columns {FACTOR_NAMES}"
            " (drop the original's first column, the colour)"
        )


def _is_integer(table: Tensor) -> bool:
    floating = table.is_floating_point() or table.is_complex()
    return not floating and table.dtype != torch.bool


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _check_classes(classes: Tensor) -> None:
    check_factor_columns("classes", classes)
    if not _is_integer(classes):
        raise TypeError(f"classes is {classes.dtype}; wanted integers (render() takes values)")
    sizes = torch.tensor(FACTOR_SIZES, device=classes.device)
    wrong = (classes < 0) | (classes >= sizes)
    if wrong.any():
        row, factor = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{FACTOR_NAMES[factor]} has class {int(classes[row, factor])}; "
            f"wanted 0 to {FACTOR_SIZES[factor] - 1}"
        )
