"""The type of number in which sums are taken."""

import torch
from torch import Tensor


def at_least_float32(value: Tensor) -> Tensor:
    """Widen half precision, which is too coarse for sums over an image; leave the rest."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
