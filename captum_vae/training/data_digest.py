"""Whether a resumed run sees the images that it was started on."""

import hashlib
import struct
from collections.abc import Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.training.batches import SeededImages
from captum_vae.training.random_state import isolated_randomness

SAMPLED = 64
"""Images read for the digest of a data set that gives none of its own."""


def data_digest(dataset: Dataset[Any]) -> str:
    """A short text that tells two data sets apart, the same at every call.

    This package's readers tell their own, over the names and contents of all files, each of which
    is read once (their ``digest``). Of any other data set 64 images are read, evenly spaced, or
    all of a smaller one, and their pixels digested to 8 bits, since decoders differ in the last
    bits between machines: a change between those images goes unnoticed. The price is that of one
    such reading per run and process.

    Args:
        dataset: A data set of images, see :func:`captum_vae.training.batches.image_of`.
    """
    with isolated_randomness(0):
        own = getattr(dataset, "digest", None)
    if isinstance(own, str):
        return own
    length = len(cast(Sized, dataset))
    count = min(SAMPLED, length)
    seen = hashlib.sha256(struct.pack("<q", length))
    images = SeededImages(dataset, seed=0)
    for index in (place * length // count for place in range(count)):
        image = images[(0, index)]
        seen.update(repr(tuple(image.shape)).encode())
        seen.update(_as_bytes(image))
    return seen.hexdigest()[:32]


def _as_bytes(image: Tensor) -> bytes:
    levels = (image.detach().cpu().float() * 255).round().nan_to_num(nan=-1.0)
    return bytes(levels.clamp(-(2.0**30), 2.0**30).to(torch.int32).numpy().tobytes())
