"""Scores as integer keys of the same order and ties, so that counting them is exact and fast.

A float32 is sign, exponent and mantissa from the highest bit down, so the bit patterns of positive
numbers, read as integers, are in the order of the numbers; those of negative numbers are in the
opposite order, and flipping their other bits turns it round. Numbers next to each other have keys
next to each other. float16 and bfloat16 are float32 numbers too and share their int32 keys;
float64 has int64 keys, most of which no float32 has.
"""

import torch
from torch import Tensor


def score_keys(scores: Tensor) -> Tensor:
    """Keys in the order of the scores; -0 and 0 have the same key.

    Args:
        scores: Floats of any shape without NaN.

    Returns:
        Keys of the same shape: int64 for float64 scores, int32 for all others.
    """
    if scores.dtype == torch.float64:
        bits = (scores.detach() + 0.0).contiguous().view(torch.int64)
        return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)
    bits = (scores.detach().to(torch.float32) + 0.0).contiguous().view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def key_scores(keys: Tensor) -> Tensor:
    """The scores of :func:`score_keys`: float32 for int32 keys, float64 for int64 keys."""
    if keys.dtype == torch.int64:
        return (keys ^ ((keys >> 63) & 0x7FFFFFFFFFFFFFFF)).view(torch.float64)
    return (keys ^ ((keys >> 31) & 0x7FFFFFFF)).view(torch.float32)


def float64_keys(keys: Tensor) -> Tensor:
    """The int64 keys of the same scores; int64 keys stay as they are."""
    return keys if keys.dtype == torch.int64 else score_keys(key_scores(keys).double())


def nearest_float32(keys: Tensor) -> Tensor:
    """The int32 key of the float32 nearest to each score; int32 keys stay as they are."""
    return keys if keys.dtype == torch.int32 else score_keys(key_scores(keys).float())


def float32_at_least(keys: Tensor) -> Tensor:
    """The int32 key of the smallest float32 that is not below each score."""
    if keys.dtype == torch.int32:
        return keys
    nearest = nearest_float32(keys)
    return nearest + (float64_keys(nearest) < keys).to(torch.int32)
