"""The scatter matrix of more numbers than fit a square matrix, gathered image by image."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

_COLUMNS = 4096
"""Columns that are widened to float64 at a time."""


class FeatureScatter:
    r"""The principal directions of vectors that come one after the other.

    With m_n the mean of the first n vectors, Welford's recursion writes the scatter matrix as a sum
    of one outer product a vector,

        sum_n (x_n - m)(x_n - m)' = sum_n r_n r_n',  r_n = sqrt((n - 1) / n) (x_n - m_(n-1)),

    and no vector needs a second look. The rows r_n are kept as they are as long as they fit: the
    eigenvectors of the scatter follow exactly from their Gram matrix, which is as large as there
    are vectors (Turk & Pentland, Eigenfaces, 1991).

    The rows are orthonormal contrasts of the vectors: where these are independent with covariance
    C, the rows are uncorrelated, each with covariance C and mean zero. So every second of them is a
    sample of the same distribution.

    Args:
        width: P, the numbers in a vector.
        capacity: How many rows are kept, at least 4.
        when_full: What makes room. ``"compress"`` replaces the rows by the leading half of their
            principal axes (incremental SVD; Ross et al., IJCV 2008): only what lies outside of
            these is lost, from the directions, not from ``total``. ``"thin"`` drops every second
            row, and from then on of those that come.
        like: A tensor of the device and type that the vectors have.

    Attributes:
        count: N, how many vectors came.
        mean: Their mean (P,), in float64.
        total: Trace of the scatter matrix, a float64 tensor without axes.
        exact: Whether the rows hold the whole scatter matrix.
    """

    def __init__(
        self, width: int, capacity: int, *, when_full: Literal["compress", "thin"], like: Tensor
    ) -> None:
        """Reserve the rows; memory that no vector needs yet stays untouched on a CPU."""
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=like.device)
        self.total = torch.zeros((), dtype=torch.float64, device=like.device)
        self.exact = True
        self._when_full = when_full
        self._stride = 1
        self._rows = like.new_empty((capacity, width))
        self._used = 0

    @property
    def rows(self) -> Tensor:
        """The rows that are kept, (n, P); a view."""
        return self._rows[: self._used]

    def add(self, vectors: Tensor) -> None:
        """Take further vectors (B, P)."""
        for vector in vectors:
            difference = vector.double() - self.mean
            self.count += 1
            self.mean += difference / self.count
            if self.count > 1:
                self._add_row(difference * ((self.count - 1) / self.count) ** 0.5)

    def _add_row(self, row: Tensor) -> None:
        row = row.to(self._rows.dtype)
        # What is stored counts, so that rounding does not pass for variance in further directions.
        self.total += row.double().square().sum()
        if (self.count - 2) % self._stride:
            return
        self._rows[self._used] = row
        self._used += 1
        if self._used == len(self._rows):
            if self._when_full == "compress":
                self._compress()
            else:
                self._thin()

    def gram(self) -> Tensor:
        """Inner products (n, n) of the rows, in float64."""
        return _inner(self.rows, self.rows)

    def principal(self, count: int) -> tuple[Tensor, Tensor]:
        """Leading eigenvectors and eigenvalues of the scatter matrix.

        Args:
            count: D, at most the number of rows.

        Returns:
            Directions (D, P), orthonormal rows in float64, and eigenvalues (D,), falling.
        """
        values, vectors = torch.linalg.eigh(self.gram())
        leading = vectors.flip(1)[:, :count].T
        scales = values.flip(0)[:count].clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
        directions = _combine(scales[:, None] * leading, self.rows)
        # An eigenvector of a small eigenvalue inherits rounding errors of the largest: make the
        # rows orthonormal once more, then take the axes within their span (Rayleigh-Ritz).
        norms, axes = torch.linalg.eigh(_inner(directions, directions))
        directions = _combine(axes * norms.rsqrt() @ axes.T, directions)
        axes, roots, _ = torch.linalg.svd(_inner(directions, self.rows), full_matrices=False)
        return _combine(axes.T, directions), roots.square()

    def _compress(self) -> None:
        keep = self._used // 2
        _, vectors = torch.linalg.eigh(self.gram())
        leading = vectors.flip(1)[:, :keep].T
        for start in range(0, self._rows.shape[1], _COLUMNS):
            part = self.rows[:, start : start + _COLUMNS]
            part[:keep] = (leading @ part.double()).to(part.dtype)
        self._used = keep
        # As many axes as numbers in a vector hold everything.
        self.exact = self.exact and keep >= self._rows.shape[1]

    def _thin(self) -> None:
        kept = range(0, self._used, 2)
        for place, row in enumerate(kept):
            self._rows[place] = self._rows[row]
        self._used = len(kept)
        self._stride *= 2
        self.exact = False


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right.T`` in float64, a few columns at a time."""
    product = torch.zeros(len(left), len(right), dtype=torch.float64, device=left.device)
    for start in range(0, left.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        product.addmm_(left[:, columns].double(), right[:, columns].double().T)
    return product


def _combine(weights: Tensor, rows: Tensor) -> Tensor:
    """``weights @ rows`` in float64, a few columns at a time."""
    product = rows.new_empty((len(weights), rows.shape[1]), dtype=torch.float64)
    for start in range(0, rows.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        product[:, columns] = weights @ rows[:, columns].double()
    return product
