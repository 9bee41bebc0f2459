"""The list of an explorer's images: names, kinds and numbers to sort and filter by."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_vae.files import write_text
from captum_vae.report.tables import Table
from captum_vae.report.text import legible


class ImageIndex:
    """What is known of all images at once; some tens of bytes for each."""

    def __init__(self) -> None:
        """No image yet."""
        self.dimensions = 0
        self._names: list[str] = []
        self._kinds: dict[str, int] = {}
        self._kind_of: array[int] = array("l")
        self._columns: dict[str, array[float]] = {}
        self._kl: list[array[float]] = []

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self._names)

    def add(
        self,
        *,
        name: str,
        kind: str,
        score: float | None,
        error: float | None,
        kl: Tensor | Sequence[float] | float | None,
        values: Mapping[str, float | None],
    ) -> None:
        """Add an image; see :meth:`captum_vae.report.explorer.Explorer.add`.

        Raises:
            TypeError: The name or the kind is no string.
            ValueError: The KL has another number of dimensions than that of earlier images.
        """
        for argument, word in (("name", name), ("kind", kind)):
            if not isinstance(word, str):
                raise TypeError(f"{argument} is a {type(word).__name__}; wanted a string")
        row: dict[str, float | None] = {"score": score, "error": error}
        if kl is not None:
            per_dimension = torch.as_tensor(kl).detach().double().cpu()
            if per_dimension.dim() == 1:
                self._add_kl(per_dimension)
            row["KL"] = float(per_dimension.sum())
        row |= {legible(label): value for label, value in values.items()}
        for label, value in row.items():
            if value is not None:
                missing = array("d", [math.nan]) * self.count
                self._columns.setdefault(label, missing).append(float(value))
        self._names.append(legible(name))
        self._kind_of.append(self._kinds.setdefault(legible(kind), len(self._kinds)))
        for column in (*self._columns.values(), *self._kl):
            if len(column) < self.count:
                column.append(math.nan)

    def _add_kl(self, kl: Tensor) -> None:
        if not self.dimensions:
            self.dimensions = len(kl)
            missing = array("f", [math.nan]) * self.count
            self._kl = [missing[:] for _ in range(self.dimensions)]
        if len(kl) != self.dimensions:
            raise ValueError(
                f"kl has {len(kl)} dimensions, that of earlier images {self.dimensions}; wanted "
                "the same for all"
            )
        for column, value in zip(self._kl, kl.tolist(), strict=True):
            column.append(value)

    def to_dict(self) -> dict[str, Any]:
        """Names, kinds and columns, for the page; an unknown number is None."""
        return {
            "names": self._names,
            "kinds": list(self._kinds),
            "kindOf": self._kind_of.tolist(),
            "columns": {
                label: [short_number(value) for value in column]
                for label, column in self._columns.items()
            },
            "meanKL": [short_number(float(np.nanmean(column))) for column in self._kl],
        }

    def kl_columns(self) -> str:
        """KL by dimension and image, float32 (D, N), as base64."""
        return base64.b64encode(b"".join(column.tobytes() for column in self._kl)).decode("ascii")

    def write_csv(self, path: Path) -> None:
        """Write a table with a row per image."""
        kinds = list(self._kinds)
        labels = list(self._columns)
        rows = [
            [name, kinds[self._kind_of[place]], *(self._columns[label][place] for label in labels)]
            for place, name in enumerate(self._names)
        ]
        write_text(path, Table(["name", "kind", *labels], rows).csv())


def short_number(value: float) -> float | None:
    """The number for JSON, None for NaN; nine digits tell any float32 apart."""
    return float(f"{value:.9g}") if math.isfinite(value) else None
