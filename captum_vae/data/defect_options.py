"""Checks of the options that synthetic defects of every kind share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from captum_vae.checks import check_choice, real_number

Kind = TypeVar("Kind", bound=str)


def checked_kinds(argument: str, kinds: Iterable[Kind], known: Iterable[str]) -> tuple[Kind, ...]:
    """Words that are used in turn, as a tuple.

    Args:
        argument: Name of the argument.
        kinds: What was given for it.
        known: The words allowed.

    Raises:
        TypeError: It is no sequence of words.
        ValueError: A word is unknown, or there is none.
    """
    words = ", ".join(known)
    if isinstance(kinds, str | bytes) or not isinstance(kinds, Iterable):
        raise TypeError(f"{argument} is {kinds!r}; wanted a list of some of {words}")
    checked = tuple(kinds)
    if not checked:
        raise ValueError(f"{argument} is empty; wanted some of {words}")
    for kind in checked:
        check_choice(argument, kind, known)
    return checked


def checked_shares(argument: str, shares: Any, most: float) -> tuple[float, float]:
    """The smallest and the largest of something, as shares above 0 and up to ``most``.

    Raises:
        TypeError: They are no pair of numbers.
        ValueError: They are out of range, or the first is above the second.
    """
    wanted = f"wanted 0 < smallest <= largest <= {most:g}"
    if isinstance(shares, str | bytes) or not isinstance(shares, Iterable):
        raise TypeError(f"{argument} is {shares!r}; {wanted}")
    pair = [real_number(argument, share, hint=wanted) for share in shares]
    if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= most:
        raise ValueError(f"{argument} is {shares!r}; {wanted}")
    return pair[0], pair[1]


def checked_contrast(contrast: Any) -> float:
    """The least difference that counts as a defect, in (0, 0.5].

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    number = real_number("contrast", contrast)
    if not 0 < number <= 0.5:
        raise ValueError(f"contrast is {contrast}; wanted more than 0, at most 0.5")
    return number


def checked_share(argument: str, share: Any, most: float = 1.0) -> float:
    """A number from 0 to ``most``.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    number = real_number(argument, share)
    if not 0 <= number <= most:
        raise ValueError(f"{argument} is {share}; wanted a number from 0 to {most:g}")
    return number


def check_random(random: Any) -> None:
    """Refuse anything but NumPy's generator as the source of randomness.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(random, np.random.Generator):
        raise TypeError(
            f"random is a {type(random).__name__}; wanted numpy.random.default_rng(seed)"
        )


def check_pixels(argument: str, pixels: Any, dimensions: int) -> None:
    """Refuse anything but an array of finite floats with some pixels.

    Args:
        argument: Name of the argument.
        pixels: What was given for it.
        dimensions: 2 for (h, w), 3 for (C, h, w).

    Raises:
        TypeError: It is no array of floats.
        ValueError: It has another number of dimensions or no pixel.
    """
    shape = {2: "(h, w)", 3: "(C, h, w)"}[dimensions]
    if not isinstance(pixels, np.ndarray) or pixels.dtype.kind != "f":
        found = pixels.dtype if isinstance(pixels, np.ndarray) else f"a {type(pixels).__name__}"
        raise TypeError(f"{argument} is {found}; wanted a NumPy array of floats {shape}")
    if pixels.ndim != dimensions or not pixels.size:
        raise ValueError(f"{argument} has the shape {pixels.shape}; wanted {shape}, none of them 0")
