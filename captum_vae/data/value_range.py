"""The range of pixel values that a model was trained on: images are in [0, 1] everywhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

ValueRange = tuple[float, float]

UNIT: ValueRange = (0.0, 1.0)
"""The range of images in this package."""

_SLACK = 1e-3
"""How far beyond [0, 1] resizing and rounding may lead."""


def checked_value_range(value_range: Sequence[float]) -> ValueRange:
    """The lowest and the highest value that a user states.

    Raises:
        ValueError: They are no two finite numbers in rising order.
    """
    wanted = "wanted [low, high], such as [-1, 1]"
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError) as error:
        raise ValueError(f"value_range is {value_range!r}; {wanted}") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"value_range is {list(value_range)}; {wanted}")
    return low, high


def to_value_range(images: Tensor, value_range: ValueRange) -> Tensor:
    """Images in [0, 1], brought to the range that a model was trained on."""
    low, high = value_range
    return images if value_range == UNIT else images * (high - low) + low


def check_unit_range(images: Tensor, argument: str) -> None:
    """Refuse images whose values leave [0, 1].

    Args:
        images: One image or a batch, floating point.
        argument: What messages call it.

    Raises:
        TypeError: They are no floating-point numbers.
        ValueError: A value lies outside, or is not finite.
    """
    if not images.is_floating_point():
        raise TypeError(
            f"{argument} has dtype {images.dtype}; wanted numbers from 0 to 1, such as bytes / 255"
        )
    low, high = (float(end) for end in images.detach().aminmax())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        if not math.isfinite(low + high):
            raise ValueError(f"{argument} holds NaN or infinite values; wanted 0 to 1")
        raise ValueError(
            f"the values of {argument} run from {low:.4g} to {high:.4g}; wanted 0 to 1, which "
            "value_range= then brings to the model's own range"
        )
