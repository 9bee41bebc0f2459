"""Operations of torch that ONNX has no word for, written in those that it has.

Backward passes hold the transposes of what the forward does. Of a convolution that is a transposed
convolution. A pooling by averages, a resizing and a padding work on each axis by itself, y = M x,
so that their transposes are products with M', M being what the operation makes of unit vectors. A
maximum hands its gradient to the place where it was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table

aten = torch.ops.aten

Sizes = Sequence[int]

_LEFT: Any = NotImplemented
"""The operation stays as it is."""


def onnx_forms() -> dict[Any, Callable[..., Any]]:
    """A function for each operation, by the operation; they do what it does."""
    forms: dict[Any, Callable[..., Any]] = {
        # Torch's own, of which torch.onnx takes a part.
        **{
            operation: form
            for operation, form in decomposition_table.items()
            if "backward" in str(operation)
        },
        aten.convolution_backward.default: _convolution_backward,
        aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
        aten.max_pool3d_with_indices_backward.default: _max_pool_backward,
        aten.adaptive_max_pool2d_backward.default: partial(_adaptive_max_pool_backward, 2),
        aten.adaptive_max_pool3d_backward.default: partial(_adaptive_max_pool_backward, 3),
        aten.adaptive_max_pool2d.default: _adaptive_max_pool,
        aten.adaptive_max_pool3d.default: _adaptive_max_pool,
        aten._adaptive_avg_pool2d.default: _adaptive_avg_pool,
        aten._adaptive_avg_pool3d.default: _adaptive_avg_pool,
        aten._adaptive_avg_pool2d_backward.default: partial(_adaptive_avg_pool_backward, 2),
        aten._adaptive_avg_pool3d_backward.default: partial(_adaptive_avg_pool_backward, 3),
        aten.unfold_backward.default: _unfold_backward,
        aten.view.default: _view,
        aten.as_strided.default: _as_strided,
        aten.as_strided_scatter.default: _as_strided_scatter,
    }
    for name in ("avg_pool2d", "avg_pool3d"):
        forms[getattr(aten, f"{name}_backward").default] = _pooled_backward(getattr(aten, name))
    for axes in (1, 2, 3):
        forms[getattr(aten, f"replication_pad{axes}d_backward").default] = _padded_backward(
            getattr(aten, f"replication_pad{axes}d").default
        )
    for name in (
        "upsample_linear1d",
        "upsample_bilinear2d",
        "upsample_trilinear3d",
        "upsample_bicubic2d",
        "_upsample_bilinear2d_aa",
        "_upsample_bicubic2d_aa",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d",
        "_upsample_nearest_exact3d",
    ):
        forms[getattr(aten, f"{name}_backward").default] = _resized_backward(
            getattr(aten, name).default, has_corners="nearest" not in name
        )
    return forms


def _convolution_backward(
    gradient: Tensor,
    values: Tensor,
    weight: Tensor,
    bias_sizes: Sizes | None,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    transposed: bool,
    output_padding: Sizes,
    groups: int,
    output_mask: Sequence[bool],
) -> Any:
    if any(output_mask[1:]):
        return _LEFT  # gradients of weights, which no map of fixed weights needs
    axes = range(gradient.dim() - 2)
    stride, padding, dilation = (
        [*list(x), *list(x)[-1:] * (len(axes) - len(x))] for x in (stride, padding, dilation)
    )
    if transposed:
        zeros = [0 for _ in axes]
        return (
            aten.convolution(
                gradient, weight, None, stride, padding, dilation, False, zeros, groups
            ),
            None,
            None,
        )
    # What the forward left over at the far border, where the stride did not come out even.
    left_over = [
        values.shape[2 + i]
        - (
            (gradient.shape[2 + i] - 1) * stride[i]
            - 2 * padding[i]
            + dilation[i] * (weight.shape[2 + i] - 1)
            + 1
        )
        for i in axes
    ]
    return (
        aten.convolution(
            gradient, weight, None, stride, padding, dilation, True, left_over, groups
        ),
        None,
        None,
    )


def _max_pool_backward(
    gradient: Tensor,
    values: Tensor,
    kernel_size: Sizes,
    stride: Sizes,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    return _to_where_found(gradient, indices, values.shape, len(kernel_size))


def _adaptive_max_pool_backward(
    axes: int, gradient: Tensor, values: Tensor, indices: Tensor
) -> Tensor:
    return _to_where_found(gradient, indices, values.shape, axes)


def _to_where_found(gradient: Tensor, indices: Tensor, shape: Sizes, axes: int) -> Tensor:
    flat = [*shape[:-axes], math.prod(shape[-axes:])]
    zeros = torch.zeros(flat, dtype=gradient.dtype, device=gradient.device)
    found = zeros.scatter_add(-1, indices.flatten(-axes), gradient.flatten(-axes))
    return found.reshape(shape)


def _adaptive_max_pool(values: Tensor, output_size: Sizes) -> tuple[Tensor, Tensor]:
    """Maxima over windows of unequal size, one by one, with the places where they were found."""
    sizes = values.shape[-len(output_size) :]
    flat = values.flatten(-len(sizes))
    places = torch.arange(math.prod(sizes), device=values.device).reshape(sizes)
    windows: list[tuple[slice, ...]] = [()]
    for size, wanted in zip(sizes, output_size, strict=True):
        ranges = [slice(*_window(i, size, wanted)) for i in range(wanted)]
        windows = [(*window, one) for window in windows for one in ranges]
    maxima, found = [], []
    for window in windows:
        inside = places[window].flatten()
        maximum, index = flat.index_select(-1, inside).max(-1)
        maxima.append(maximum)
        found.append(inside[index])
    shape = [*values.shape[: -len(sizes)], *output_size]
    return torch.stack(maxima, -1).reshape(shape), torch.stack(found, -1).reshape(shape)


def _as_strided(values: Tensor, size: Sizes, stride: Sizes, offset: int | None = None) -> Any:
    """Values by their place in memory, where these are all of them in their order."""
    if not _in_order(values, size, stride, offset):
        return _LEFT
    return values.contiguous().reshape(size)


def _as_strided_scatter(
    values: Tensor, placed: Tensor, size: Sizes, stride: Sizes, offset: int | None = None
) -> Any:
    if not _in_order(values, size, stride, offset):
        return _LEFT
    return placed.contiguous().reshape(values.shape)


def _in_order(values: Tensor, size: Sizes, stride: Sizes, offset: int | None) -> bool:
    if offset or values.numel() != math.prod(size) or not values.is_contiguous():
        return False
    expected = 1
    for length, step in zip(reversed(size), reversed(stride), strict=True):
        if length > 1 and step != expected:
            return False
        expected *= length
    return True


def _pooled_backward(pool: Any) -> Callable[..., Tensor]:
    """The transpose of an average pooling; what is counted is a product over the axes too."""

    def backward(
        gradient: Tensor,
        values: Tensor,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Sizes,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: int | None,
    ) -> Tensor:
        axes = len(kernel_size)
        matrices = []
        for axis in range(axes):

            def alone(numbers: Sizes, neutral: int, axis: int = axis) -> list[int]:
                return [numbers[i] if i == axis else neutral for i in range(axes)]

            def on_axis(units: Tensor, alone: Any = alone) -> Tensor:
                pooled = pool(
                    units,
                    alone(kernel_size, 1),
                    alone(stride or kernel_size, 1),
                    alone(padding, 0),
                    ceil_mode,
                    count_include_pad,
                    None if divisor_override is None else 1,
                )
                return pooled  # type: ignore[no-any-return]

            matrices.append(_matrix(on_axis, values, axis, axes))
        if divisor_override is not None:
            matrices[0] = matrices[0] / divisor_override
        return _times_matrices(gradient, [matrix.t() for matrix in matrices])

    return backward


def _adaptive_avg_pool(values: Tensor, output_size: Sizes) -> Tensor:
    sizes = values.shape[-len(output_size) :]
    return _times_matrices(values, _windows(values, sizes, output_size))


def _adaptive_avg_pool_backward(axes: int, gradient: Tensor, values: Tensor) -> Tensor:
    windows = _windows(values, values.shape[-axes:], gradient.shape[-axes:])
    return _times_matrices(gradient, [matrix.t() for matrix in windows])


def _windows(like: Tensor, sizes: Sizes, output_size: Sizes) -> list[Tensor]:
    """For each axis the matrix (after, before) that averages over an adaptive pool's windows."""
    matrices = []
    for size, wanted in zip(sizes, output_size, strict=True):
        ranges = [_window(i, size, wanted) for i in range(wanted)]
        rows = [[(first <= i < end) / (end - first) for i in range(size)] for first, end in ranges]
        matrices.append(torch.tensor(rows, dtype=like.dtype, device=like.device))
    return matrices


def _window(place: int, size: int, wanted: int) -> tuple[int, int]:
    """Where the window of an adaptive pool begins and ends."""
    return place * size // wanted, -((-(place + 1) * size) // wanted)


def _unfold_backward(
    gradient: Tensor, input_sizes: Sizes, dim: int, size: int, step: int
) -> Tensor:
    """Every window's gradient added to where the window lay, (n windows of s, length)."""
    length = input_sizes[dim]
    places = torch.arange(length, device=gradient.device).unfold(0, size, step).flatten()
    matrix = torch.eye(length, dtype=gradient.dtype, device=gradient.device)[places]
    back = gradient.movedim(dim, -2).flatten(-2) @ matrix
    return back.movedim(-1, dim).contiguous()


def _view(values: Tensor, size: Sizes) -> Tensor:
    """A view; forms given here may order their values in memory otherwise than torch's do."""
    return _LEFT if values.is_contiguous() else values.contiguous().view(size)


def _padded_backward(pad: Any) -> Callable[..., Tensor]:
    def backward(gradient: Tensor, values: Tensor, padding: Sizes) -> Tensor:
        axes = len(padding) // 2
        matrices = []
        for axis in range(axes):
            place = 2 * (axes - 1 - axis)  # the last axis comes first in a padding

            def on_axis(units: Tensor, place: int = place) -> Tensor:
                amounts = [
                    amount if i in (place, place + 1) else 0 for i, amount in enumerate(padding)
                ]
                return pad(units, amounts)  # type: ignore[no-any-return]

            matrices.append(_matrix(on_axis, values, axis, axes))
        return _times_matrices(gradient, [matrix.t() for matrix in matrices])

    return backward


def _resized_backward(resize: Any, has_corners: bool) -> Callable[..., Tensor]:
    def backward(gradient: Tensor, output_size: Sizes, input_size: Sizes, *how: Any) -> Tensor:
        axes = len(output_size)
        corners = how[:1] if has_corners else ()
        scales = [*how[len(corners) :], *[None] * axes]
        matrices = []
        for axis in range(axes):

            def on_axis(units: Tensor, axis: int = axis) -> Tensor:
                wanted = [output_size[i] if i == axis else 1 for i in range(axes)]
                factors = [scales[i] if i == axis else None for i in range(axes)]
                return resize(units, wanted, *corners, *factors)  # type: ignore[no-any-return]

            like = gradient.new_empty(()).expand(list(input_size))
            matrices.append(_matrix(on_axis, like, axis, axes))
        return _times_matrices(gradient, [matrix.t() for matrix in matrices])

    return backward


def _matrix(operation: Callable[[Tensor], Tensor], like: Tensor, axis: int, axes: int) -> Tensor:
    """What a linear operation on one axis does to unit vectors, (values before, values after).T.

    Args:
        operation: Takes (N, 1, *spatial), all spatial axes but one of size 1.
        like: Tells the size of that axis, the type and the device.
        axis: Which of the spatial axes.
        axes: Number of spatial axes.
    """
    size = like.shape[like.dim() - axes + axis]
    shape = [size, 1, *[size if i == axis else 1 for i in range(axes)]]
    units = torch.eye(size, dtype=like.dtype, device=like.device).reshape(shape)
    return operation(units).reshape(size, -1).t()


def _times_matrices(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Each of the last axes multiplied by its matrix (after, before)."""
    for place, matrix in enumerate(reversed(matrices)):
        axis = -1 - place
        values = (values.transpose(axis, -1) @ matrix.t()).transpose(axis, -1)
    return values.contiguous()
