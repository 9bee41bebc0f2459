"""A number with its interval, as tables, charts and verdicts state it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    Attributes:
        value: The number; None where it is undefined.
        low: The lower end; None where there is no interval.
        high: The upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """For JSON, NaN as None; the form of a table's cell."""
        return {"value": known(self.value), "low": known(self.low), "high": known(self.high)}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Estimate:
        """The estimate that :meth:`to_dict` gave the entries of."""
        return cls(entries["value"], entries["low"], entries["high"])

    def __str__(self) -> str:
        """Three decimals, as ``0.930 [0.921, 0.938]``."""
        return format(self, "")

    def __format__(self, sign: str) -> str:
        """The same; with ``+`` as ``+0.930 [+0.921, +0.938]``, for a difference."""
        number = f"{sign}.3f"
        value, low, high = known(self.value), known(self.low), known(self.high)
        if value is None:
            return "undefined"
        if low is None or high is None:
            return format(value, number)
        return f"{value:{number}} [{low:{number}}, {high:{number}}]"


def known(value: float | None) -> float | None:
    """The value; None also for NaN."""
    return None if value is None or math.isnan(value) else value


def read_cell(cell: Any) -> Estimate | None:
    """A number of a table as JSON holds it; None where a source does not say."""
    if cell is None:
        return None
    if isinstance(cell, Mapping):
        return Estimate(**{end: known(cell[end]) for end in ("value", "low", "high")})
    return Estimate(known(float(cell)))
