"""One disentanglement score, and the checks that all metrics share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class DisentanglementScore:
    """A metric's value and what led to it.

    Attributes:
        name: The name of the metric.
        value: The score in [0, 1], higher is more disentangled; NaN where undefined.
        reason: Why the value is undefined or trivial; empty otherwise.
        details: Numbers, names and lists behind the value, ready for JSON.
    """

    name: str
    value: float
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, which has no NaN: an undefined value is None."""
        return {
            "name": self.name,
            "value": None if math.isnan(self.value) else self.value,
            "reason": self.reason,
            **self.details,
        }


def undefined(name: str, reason: str, **details: Any) -> DisentanglementScore:
    """A NaN score that says why."""
    return DisentanglementScore(name, math.nan, reason, details)


def checked(codes: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Codes as float64 and factors as int64, detached and on the CPU.

    Args:
        codes: (N, D) floats.
        factors: (N, F) integers: which value each factor has, not the value itself.

    Raises:
        TypeError: The codes are no floats or the factors no integers.
        ValueError: Shapes do not fit, a code is not finite or a factor has only one value.
    """
    for name, table in (("codes", codes), ("factors", factors)):
        if not isinstance(table, Tensor):
            raise TypeError(
                f"{name} is a {type(table).__name__}; wanted a tensor with a row per image"
            )
    if not codes.is_floating_point():
        raise TypeError(f"codes is {codes.dtype}; wanted floats, the posterior means")
    if factors.is_floating_point() or factors.is_complex():
        raise TypeError(f"factors is {factors.dtype}; wanted integer classes, not values")
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or not codes.numel():
        raise ValueError(
            f"codes has shape {tuple(codes.shape)} and factors {tuple(factors.shape)}; wanted "
            "(N, D) and (N, F) with the same N > 0"
        )
    codes, factors = codes.detach().double().cpu(), factors.long().cpu()
    if not codes.isfinite().all():
        raise ValueError("codes has values that are not finite")
    constant = (factors == factors[0]).all(0)
    if constant.any() or not factors.numel():
        raise ValueError(
            f"factors has only one value in the columns {constant.nonzero().flatten().tolist()} of "
            f"{factors.shape[1]}; drop constant factors, such as the colour of dSprites"
        )
    return codes, factors
