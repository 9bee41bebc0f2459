"""Checks of what a user passes: a refusal names the argument, what came and what is wanted.

Needs no torch, so that options can be checked before anything heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse a value that is not one of ``choices``.

    Raises:
        ValueError: It is none of them.
    """
    # An array compares element by element and a list hashes to nothing: only words are choices.
    if not isinstance(value, (str, int, float, type(None))) or value not in choices:
        raise ValueError(f"{name} must be one of {tuple(choices)}, got {value!r}")


def whole_number(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """A whole number in a range, as a plain int.

    Args:
        name: The argument, for the message.
        value: What was passed: an int, or an integer of NumPy or PyTorch; True and 2.0 are none.
        least: The smallest value allowed.
        most: The largest value allowed; None for no limit.

    Raises:
        TypeError: It is no whole number.
        ValueError: It lies outside the range.
    """
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__index__"):
        raise TypeError(
            f"{name} must be a whole number of at least {least}, got {value!r} "
            f"({type(value).__name__})"
        )
    try:
        number = int(value.__index__())
    except TypeError as error:
        raise TypeError(f"{name} must be one whole number, got {value!r}") from error
    if number < least:
        limit = "0 or more" if least == 0 else f"at least {least}"
        raise ValueError(f"{name} must be {limit}, got {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}")
    return number


def real_number(
    name: str, value: object, *, above: float | None = None, least: float | None = None
) -> float:
    """A finite number in a range, as a plain float.

    Args:
        name: The argument, for the message.
        value: What was passed: an int or float, also of NumPy.
        above: The value must be larger than this; None for no such limit.
        least: The value must be at least this; None for no such limit.

    Raises:
        TypeError: It is no number.
        ValueError: It is NaN, infinite or outside the range.
    """
    if above is not None:
        wanted = "positive" if above == 0 else f"larger than {above:g}"
    elif least is not None:
        wanted = "0 or more" if least == 0 else f"at least {least:g}"
    else:
        wanted = "a finite number"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"{name} must be a number, {wanted}, got {value!r} ({type(value).__name__})"
        )
    number = float(value)
    too_small = (above is not None and number <= above) or (least is not None and number < least)
    if too_small or not math.isfinite(number):
        raise ValueError(f"{name} must be {wanted}, got {value}")
    return number
