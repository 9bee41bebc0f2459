"""Filling in removed pixels from their neighbours, so that a mask's shape tells nothing (ROAD)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from captum_vae.checks import checked_seed, floating_tensor, real_number

_NEIGHBOURS = [(dy, dx, 1 / 6 if dy == 0 or dx == 0 else 1 / 12) for dy in (-1, 0, 1)
               for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]  # fmt: skip
"""Offsets of the eight neighbours and their weights: 1/6 beside, 1/12 across the corner."""


def noisy_linear_imputation(
    images: Tensor, removed: Tensor, *, noise: float = 0.01, seed: int = 0
) -> Tensor:
    """Removed pixels as weighted means of their neighbours, plus a little noise.

    Every removed pixel equals the mean of its eight neighbours, with twice the weight for those
    beside it; the removed ones among them are unknown too, so that the values solve a sparse linear
    system (Rong et al., A consistent and efficient evaluation strategy for attribution methods,
    ICML 2022, section 4.3). Where all pixels are removed, they are the image's mean.

    Args:
        images: (B, C, H, W).
        removed: (B, H, W) bool, True where a pixel is removed.
        noise: Standard deviation of the Gaussian noise on what is filled in.
        seed: Seed of the noise.

    Returns:
        (B, C, H, W), equal to ``images`` where nothing is removed.

    Raises:
        TypeError: The images are no tensor of floats, or the mask is none of bool.
        ValueError: The shapes do not fit, or the noise is negative.
    """
    floating_tensor("images", images)
    if not isinstance(removed, Tensor) or removed.dtype != torch.bool:
        raise TypeError("removed must be a bool tensor (B, H, W)")
    if images.dim() != 4 or removed.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"images has shape {tuple(images.shape)} and removed {tuple(removed.shape)}; wanted "
            "(B, C, H, W) and (B, H, W)"
        )
    noise = real_number("noise", noise, least=0)
    generator = torch.Generator().manual_seed(checked_seed(seed))
    filled = images.detach().cpu().double().clone()
    for image, mask in zip(filled, removed.cpu(), strict=True):
        if bool(mask.any()):
            values = _solved(image.numpy(), mask.numpy())
            drawn = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            image[:, mask] = torch.from_numpy(values) + noise * drawn
    return filled.to(images)


def _solved(image: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(C, P) values of the P removed pixels of an image (C, H, W)."""
    if mask.all():
        mean: np.ndarray[Any, Any] = image.mean((1, 2))[:, None]
        everywhere: np.ndarray[Any, Any] = np.repeat(mean, mask.sum(), 1)
        return everywhere
    height, width = mask.shape
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(mask.sum())
    ys, xs = np.nonzero(mask)
    own = number[ys, xs]
    known = np.zeros((len(own), len(image)))
    weights = np.zeros(len(own))
    entries: list[tuple[Any, Any, Any]] = []
    for dy, dx, weight in _NEIGHBOURS:
        y, x = ys + dy, xs + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x, row = y[inside], x[inside], own[inside]
        weights[row] += weight
        gone = mask[y, x]
        entries.append((row[gone], number[y[gone], x[gone]], np.full(gone.sum(), -weight)))
        known[row[~gone]] += weight * image[:, y[~gone], x[~gone]].T
    entries.append((own, own, weights))  # at the border fewer neighbours share the weight
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    system = coo_matrix((values, (rows, columns)), shape=(len(own), len(own))).tocsc()
    solution: np.ndarray[Any, Any] = np.asarray(spsolve(system, known)).reshape(len(own), -1)
    by_channel: np.ndarray[Any, Any] = solution.T
    return by_channel
