"""What a call is given, checked; and whether its values are looked at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from captum_vae.attr._captum import format_additional_forward_args, format_inputs
from captum_vae.checks import warn_caller
from captum_vae.posterior.read_back import may_read_back


def forward_arguments(
    inputs: Tensor | tuple[Tensor, ...], additional_forward_args: Any
) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
    """The inputs and the further positional arguments, as tuples.

    Raises:
        RuntimeError: Under inference mode, or with tensors made there.
        TypeError: Something other than tensors of real numbers.
        ValueError: An empty batch.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "attribution needs gradients, which torch.inference_mode() forbids; use "
            "torch.no_grad() instead, in which attribute() works"
        )
    for tensor in inputs if isinstance(inputs, tuple) else (inputs,):
        check_images("inputs", tensor)
        if tensor.is_inference():
            raise RuntimeError(
                "inputs were made under torch.inference_mode() and cannot carry gradients; pass "
                "inputs.clone()"
            )
    if isinstance(inputs, tuple) and not inputs:
        raise ValueError("inputs is an empty tuple; give the model's input")
    tensors: tuple[Tensor, ...] = format_inputs(inputs)
    extra = format_additional_forward_args(additional_forward_args) or ()
    return tuple(map(_plain, tensors)), tuple(map(_plain, extra))


def _plain(value: Any) -> Any:
    """A tensor of a subclass that adds no behaviour of its own as a torch.Tensor; else the value.

    Such a subclass only marks its results, which would hide from autograd what was marked where.
    """
    if not isinstance(value, Tensor) or type(value) in (Tensor, Parameter):
        return value
    behaves = getattr(type(value).__torch_function__, "__func__", None)
    plain = behaves is getattr(Tensor.__torch_function__, "__func__", None)
    return value.as_subclass(Tensor) if plain else value


def check_images(name: str, value: Any) -> None:
    """Refuse what is no batch of numbers.

    Where its values may be looked at, NaN and infinite ones are warned of.

    Args:
        name: Name of the argument.
        value: What was given for it; wanted is a tensor (B, ...).

    Raises:
        TypeError: No tensor, or one of complex numbers.
        ValueError: An empty batch, or one on the meta device.
    """
    if not isinstance(value, Tensor):
        advice = {
            "ndarray": "torch.from_numpy makes one of it",
            "dict": "for a model that takes a mapping pass forward_func=lambda x: model({KEY: x})",
            "list": "torch.stack makes one of several images; several inputs are a tuple",
        }.get(type(value).__name__, "give a batch of images (B, C, H, W), or what the model takes")
        raise TypeError(f"{name} is a {type(value).__name__}; wanted a tensor: {advice}")
    if value.is_complex():
        raise TypeError(f"{name} holds complex numbers ({value.dtype}); wanted real ones")
    if value.is_meta:
        raise ValueError(
            f"{name} is on the meta device, where tensors have a shape and no numbers; give a "
            "tensor on the model's device"
        )
    if value.dim() == 0 or value.shape[0] == 0:
        raise ValueError(f"{name} has shape {tuple(value.shape)}: the batch is empty")
    if value.is_floating_point() and (broken := broken_values(value)):
        warn_caller(f"{name} holds {broken}, whose maps mean nothing")


def broken_values(values: Tensor) -> str | None:
    """Which NaN or infinite values there are, and where; None where none may be looked at.

    Args:
        values: Floating-point numbers (B, ...).
    """
    if not may_read_back(values) or torch.isfinite(values.detach().sum()):
        return None
    broken = (~values.detach().isfinite()).flatten(1).any(1).nonzero()
    if not len(broken):  # the sum alone was too large
        return None
    kind = "NaN" if values.detach().isnan().any() else "infinite values"
    return f"{kind}, first in sample {int(broken[0])}"
