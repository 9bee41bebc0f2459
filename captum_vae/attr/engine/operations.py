"""Operations that a path from features to codes is known to take, as autograd's nodes name them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import Node

ORDER_PRESERVING = {
    "AliasBackward0",
    "CloneBackward0",
    "ReshapeAliasBackward0",
    "SqueezeBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
    "ToCopyBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "ViewBackward0",
}
"""Every value stays what it is, and their order too."""
ELEMENTWISE = {
    "AbsBackward0",
    "AddBackward0",
    "CeluBackward0",
    "ClampBackward1",
    "DivBackward0",
    "EluBackward0",
    "EluBackward1",
    "ExpBackward0",
    "GeluBackward0",
    "HardshrinkBackward0",
    "HardsigmoidBackward0",
    "HardswishBackward0",
    "HardtanhBackward0",
    "LeakyReluBackward0",
    "LeakyReluBackward1",
    "LogSigmoidBackward0",
    "MaximumBackward0",
    "MinimumBackward0",
    "MishBackward0",
    "MulBackward0",
    "NativeDropoutBackward0",
    "NegBackward0",
    "PowBackward0",
    "PreluKernelBackward0",
    "ReluBackward0",
    "RsubBackward0",
    "RsubBackward1",
    "SigmoidBackward0",
    "SiluBackward0",
    "SoftplusBackward0",
    "SoftshrinkBackward0",
    "SubBackward0",
    "TanhBackward0",
    "ThresholdBackward0",
}
"""Every value becomes a function of itself, or of values at the same place."""
BATCH_NORM = {"CudnnBatchNormBackward0", "MiopenBatchNormBackward0", "NativeBatchNormBackward0"}
"""Elementwise where running statistics are used."""
SELECTIONS = {"SelectBackward0", "SliceBackward0", "SplitBackward0", "SplitWithSizesBackward0"}
"""Some values are picked."""
SUMS = {"MeanBackward1", "SumBackward1"}
"""Values are added."""
POOLED_AXES = {
    "AdaptiveAvgPool2DBackward0": 2,
    "AdaptiveAvgPool3DBackward0": 3,
    "AdaptiveMaxPool2DBackward0": 2,
    "AdaptiveMaxPool3DBackward0": 3,
    "AvgPool2DBackward0": 2,
    "AvgPool3DBackward0": 3,
    "MaxPool2DBackward0": 2,
    "MaxPool2DWithIndicesBackward0": 2,
    "MaxPool3DWithIndicesBackward0": 3,
}
"""Poolings, with the number of last axes that they pool: 1-d ones are recorded as 2-d ones."""
LINEAR_INPUT = {"AddmmBackward0": 1, "MmBackward0": 0, "ConvolutionBackward0": 0}
"""Linear maps, with the place of their input among the node's inputs."""


def is_linear(node: Node) -> bool:
    """Whether the node multiplies its input by a weight: a Linear, or a convolution."""
    return node.name() in LINEAR_INPUT


def touches_batch(node: Node) -> bool:
    """Whether a selection or a sum runs over the images of the batch."""
    dim = saved(node, "dim")
    dims = signed(dim if isinstance(dim, tuple) else (dim,))
    return not dims or any(d in (0, -len(saved(node, "self_sym_sizes"))) for d in dims)


def pools_each_channel(node: Node, input_shape: tuple[int, ...], channels: int) -> bool:
    """Whether the node certainly pools positions, and only positions, of each channel by itself.

    A pooling pools its last axes and leaves every axis before them alone. It pools positions where
    exactly the axes behind (B, K) are its last axes: given one axis less, as ``MaxPool3d`` is on
    (B, K, h, w), it takes the batch for channels and pools the channels among the positions.

    Args:
        node: An operation with one input on the path.
        input_shape: Shape of that input, whose values lie in the order (B, K, *positions), so that
            a second axis of K values is the channels.
        channels: K.
    """
    if len(input_shape) < 3 or input_shape[1] != channels:
        return False
    name, positions = node.name(), len(input_shape) - 2
    if name == "MeanBackward1":
        dims = {d % len(input_shape) for d in signed(saved(node, "dim"))}
        return dims == set(range(2, len(input_shape)))
    output = shape_of(node, 0)
    return (
        POOLED_AXES.get(name) == positions
        and len(output) == len(input_shape)
        and output[:2] == input_shape[:2]
    )


def pool_share(node: Node) -> Tensor | None:
    """How much weight each pooled position gives to its inputs in all, (O,).

    1 for a maximum and for an average over what is there; less where an average counts padding.
    """
    pooled = shape_of(node, 0)[2:]
    name = node.name()
    if not name.startswith("AvgPool"):
        return torch.ones(math.prod(pooled), dtype=torch.float64)
    spatial = saved(node, "self").shape[2:]
    pool = {2: F.avg_pool2d, 3: F.avg_pool3d}[POOLED_AXES[name]]
    options: dict[str, Any] = {
        "kernel_size": saved(node, "kernel_size"),
        "stride": saved(node, "stride") or None,
        "padding": saved(node, "padding"),
        "ceil_mode": saved(node, "ceil_mode"),
        "count_include_pad": saved(node, "count_include_pad"),
        "divisor_override": saved(node, "divisor_override"),
    }
    share: Tensor = pool(torch.ones(1, 1, *spatial, dtype=torch.float64), **options)
    return share.flatten() if tuple(share.shape[2:]) == tuple(pooled) else None


def saved(node: Node, name: str) -> Any:
    """What the forward left in the node under a name."""
    return getattr(node, f"_saved_{name}")


def signed(values: Iterable[int]) -> list[int]:
    """Axes as Python counts them: nodes keep negative ones as unsigned 64-bit numbers."""
    return [v - 2**64 if v >= 2**63 else v for v in values]


def metadata_of(node: Node) -> list[Any]:
    """Shape, dtype and device of each of the node's outputs."""
    return getattr(node, "_input_metadata", [])


def shape_of(node: Node, number: int) -> tuple[int, ...]:
    """Shape of one of the node's outputs; () where it is unknown."""
    metadata = metadata_of(node)
    return tuple(metadata[number].shape) if number < len(metadata) else ()
