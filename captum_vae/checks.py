"""Checks of single arguments, for every room: each error names the argument, what came, the fix.

Needs nothing but Python, so that modules which describe options import it without torch.
"""

from __future__ import annotations

import math
import operator
import sys
import warnings
from collections.abc import Iterable
from numbers import Real
from typing import Any, TypeGuard


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is not among the words of an option.

    Args:
        name: Name of the argument.
        value: What was given for it; any object, also an array, whose ``==`` gives no truth value.
        choices: The words allowed, which are strings, or None.

    Raises:
        ValueError: The value is none of them; the message lists them.
    """
    words = tuple(choices)
    if any(value is word or (isinstance(value, str) and value == word) for word in words):
        return
    raise ValueError(
        f"{name}={_shown(value)} is not known; choose one of {', '.join(map(str, words))}"
    )


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        TypeError: The message names the argument.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name}={_shown(value)} is neither True nor False")


def whole_number(
    name: str, value: Any, *, least: int | None = None, most: int | None = None, hint: str = ""
) -> int:
    """The value as an int.

    Args:
        name: Name of the argument.
        value: What was given for it: an int, or a NumPy integer or tensor of one integer.
        least: Smallest number allowed; None sets no limit.
        most: Largest number allowed; None sets no limit.
        hint: What to give, put at the end of the message.

    Raises:
        TypeError: It is a bool, or no whole number.
        ValueError: It is out of range.
    """
    advice = f"; {hint}" if hint else ""
    if isinstance(value, bool):
        raise TypeError(f"{name}={value} is a bool; wanted a whole number{advice}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={_shown(value)} is no whole number{advice}") from None
    if least is not None and number < least:
        raise ValueError(f"{name}={number} must be at least {least}{advice}")
    if most is not None and number > most:
        raise ValueError(f"{name}={number} must be at most {most}{advice}")
    return number


LARGEST_SEED = 2**63 - 1
"""The largest seed that every generator of PyTorch takes."""


def checked_seed(value: Any, *, name: str = "seed", most: int = LARGEST_SEED) -> int:
    """The value as a seed of random numbers, a whole number from 0 on.

    Args:
        value: What was given for it.
        name: Name of the argument.
        most: Largest seed allowed, where others are counted up from it.

    Raises:
        TypeError: It is a bool, or no whole number.
        ValueError: It is negative or too large.
    """
    return whole_number(name, value, least=0, most=most)


def real_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    hint: str = "",
) -> float:
    """The value as a finite float.

    Args:
        name: Name of the argument.
        value: What was given for it: an int or a float, of Python or NumPy.
        least: Smallest number allowed; None sets no limit.
        above: The number must be larger than this; None sets no limit.
        hint: What to give, put at the end of the message.

    Raises:
        TypeError: It is a bool, or no real number.
        ValueError: It is NaN, infinite or out of range.
    """
    advice = f"; {hint}" if hint else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={_shown(value)} is no number{advice}")
    if not math.isfinite(value):
        raise ValueError(f"{name}={value} is not finite{advice}")
    if least is not None and value < least:
        raise ValueError(f"{name}={value} must be at least {least:g}{advice}")
    if above is not None and value <= above:
        raise ValueError(f"{name}={value} must be larger than {above:g}{advice}")
    return float(value)


def floating_tensor(name: str, value: Any, *, wanted: str = "") -> None:
    """Refuse what is no floating-point tensor.

    Args:
        name: Name of the argument.
        value: What was given for it. It is judged by its methods, so that this needs no torch.
        wanted: The shape or the range to give, put at the end of the message.

    Raises:
        TypeError: It is no tensor, or holds whole numbers, truth values or complex numbers.
    """
    advice = f" {wanted}" if wanted else ""
    if not callable(getattr(value, "is_floating_point", None)) or not hasattr(value, "dtype"):
        raise TypeError(
            f"{name} is a {type(value).__name__}; wanted a floating-point tensor{advice}"
        )
    if not value.is_floating_point():
        raise TypeError(
            f"{name} holds {value.dtype}; wanted a floating-point tensor{advice}, as of .float()"
        )


def is_sequence(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether a value can be gone through: arrays and tensors without an axis cannot."""
    return isinstance(value, Iterable) and getattr(value, "ndim", 1) != 0


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line of the user's code, or of the command, that called into the library.

    Args:
        message: What is wrong and what to do.
        category: Class of the warning.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back and _is_library(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_library(module: str) -> bool:
    return module.split(".")[0] in ("captum", "captum_vae", "contextlib", "torch")


def _shown(value: object) -> str:
    """The value as one short line: arrays and other large objects by their type."""
    text = repr(value)
    return text if len(text) <= 80 and "\n" not in text else f"a {type(value).__name__}"
