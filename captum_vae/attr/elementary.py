"""Operations written out for derivatives of a third order.

The loss on a decoder's derivative is differentiated once more than torch is made for. Behind a
layer norm torch then gives a wrong gradient without a word, since the formulas of its second
derivative take the mean and the standard deviation for constants; a batch norm and a hard sigmoid
raise. Written as means, products and roots, each is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_vae.attr.engine.graph import AutogradPath
from captum_vae.attr.engine.operations import BATCH_NORM

_FUSED = BATCH_NORM | {"HardsigmoidBackward0", "NativeLayerNormBackward0"}


class WrittenOut(TorchFunctionMode):
    """Inside it, norms and hard sigmoids run as elementary operations."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, or what it is made of."""
        return _WRITTEN_OUT.get(func, func)(*args, **(kwargs or {}))


def check_thrice_differentiable(path: AutogradPath) -> None:
    """Check that none of the operations that had to be written out is left on a path.

    Raises:
        ValueError: One was called where ``WrittenOut`` does not reach it, as in a scripted module.
    """
    left = sorted({node.name() for node in path.nodes} & _FUSED)
    if left:
        raise ValueError(
            f"create_graph=True: the decoder holds {' and '.join(left)}, whose third derivative "
            "torch gives wrong or not at all; call torch.nn.functional's or torch.nn's own norms, "
            "not scripted and not in training mode, or take change='traversal'"
        )


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    return _scaled(_standardized(input, axes, eps), weight, bias)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    normalized = _standardized(input, tuple(range(2, input.dim())), eps)
    return _scaled(normalized, _per_channel(weight, input), _per_channel(bias, input))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    mean, variance = _per_channel(running_mean, input), _per_channel(running_var, input)
    if training or mean is None or variance is None:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    normalized = (input - mean) * (variance + eps).rsqrt()
    return _scaled(normalized, _per_channel(weight, input), _per_channel(bias, input))


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return F.relu6(input + 3) / 6


def _standardized(values: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    centred = values - values.mean(axes, keepdim=True)
    return centred * (centred.square().mean(axes, keepdim=True) + eps).rsqrt()


def _scaled(values: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    values = values if weight is None else values * weight
    return values if bias is None else values + bias


def _per_channel(numbers: Tensor | None, values: Tensor) -> Tensor | None:
    """(C,) made to go with (B, C, ...)."""
    return None if numbers is None else numbers.reshape(-1, *[1] * (values.dim() - 2))


_WRITTEN_OUT: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm,
    F.instance_norm: _instance_norm,
    F.batch_norm: _batch_norm,
    F.hardsigmoid: _hardsigmoid,
}
