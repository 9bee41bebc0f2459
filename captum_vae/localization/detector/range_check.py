"""Whether a model's reconstructions show that it was trained on [-1, 1] instead of [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_vae.attr.reconstruction import reconstruct
from captum_vae.data.sample import SampleDataset
from captum_vae.data.value_range import UNIT, ValueRange, to_value_range
from captum_vae.localization.samples import evenly_spaced
from captum_vae.posterior import PosteriorAdapter

_SYMMETRIC: ValueRange = (-1.0, 1.0)
_LOOKED_AT = 8
_FAR_BETTER = 0.5
"""Ratio of the errors from which on the other range is no accident."""


def refuse_another_range(
    adapter: PosteriorAdapter, normal: SampleDataset, device: torch.device | None
) -> None:
    """Refuse a model that reconstructs normal images in [-1, 1] far better than in [0, 1].

    Maps of such a model would look like maps, of images that it never learned. Models that give no
    reconstruction pass.

    Args:
        adapter: Knows the model.
        normal: Normal images in [0, 1].
        device: Where the model is.

    Raises:
        ValueError: It is so.
    """
    try:
        images = torch.stack([normal[place].image for place in _looked_at(normal)])
        images = images if device is None else images.to(device)
        as_stated = _error(adapter, images, UNIT)
        symmetric = _error(adapter, images, _SYMMETRIC)
    # A model of any kind is asked here for what its scorers may never need.
    except Exception:
        return
    # A network that learned nothing gives about 0, the mean of images in [-1, 1].
    constant = float((images - images.mean()).abs().mean())
    if symmetric < _FAR_BETTER * as_stated and symmetric < constant:
        raise ValueError(
            f"the model reconstructs these images with a mean error of {as_stated:.3g} of their "
            f"range as images in [0, 1], and of {symmetric:.3g} as images in [-1, 1], which it "
            "seems to have been trained on; say value_range=(-1, 1), or (0, 1) if it was not"
        )


def _looked_at(normal: SampleDataset) -> list[int]:
    return evenly_spaced(range(len(normal)), _LOOKED_AT)


def _error(adapter: PosteriorAdapter, images: Tensor, value_range: ValueRange) -> float:
    """Mean absolute error of the reconstruction, as a share of the range."""
    low, high = value_range
    seen = to_value_range(images, value_range)
    return float((reconstruct(adapter, (seen,)) - seen).abs().mean() / (high - low))
