"""Operations that a path from features to codes is known to take, as autograd's nodes name them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
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
PIECEWISE_LINEAR = {
    "AbsBackward0",
    "ClampBackward1",
    "HardshrinkBackward0",
    "HardtanhBackward0",
    "LeakyReluBackward0",
    "LeakyReluBackward1",
    "ReluBackward0",
    "SoftshrinkBackward0",
    "ThresholdBackward0",
}
"""Elementwise with a slope that is constant where it exists: its own derivative is zero."""
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
MAX_POOLS = {name for name in POOLED_AXES if "MaxPool" in name}
CHANNELWISE_LINEAR = {
    **{name: "" for name in POOLED_AXES if name.startswith("AvgPool")},
    **{name: "keeps" for name in POOLED_AXES if name.startswith("AdaptiveAvg")},
    "ConstantPadNdBackward0": "",
    **{
        f"Re{kind}Pad{axes}DBackward0": "keeps"
        for kind in ("flection", "plication")
        for axes in (1, 2, 3)
    },
    **{
        f"Upsample{kind}DBackward0": "keeps"
        for kind in (
            "Nearest1",
            "Nearest2",
            "Nearest3",
            "Linear1",
            "Bilinear2",
            "Trilinear3",
            "Bicubic2",
        )
    },
}
"""Maps that every channel's positions go through by themselves, alike and linearly.

``keeps`` where an output is a weighted mean of inputs, so that equal numbers stay what they are.
"""
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


def moves_positions_only(node: Node, input_shape: tuple[int, ...], channels: int) -> bool:
    """Whether the node pads or resizes each channel's positions by themselves, linearly.

    Enlarging takes (B, K, *positions) alone; padding takes any number of last axes, here at most
    those behind (B, K).

    Args:
        node: An operation with one input on the path.
        input_shape: Shape of that input, whose values lie in the order (B, K, *positions).
        channels: K.
    """
    name, output = node.name(), shape_of(node, 0)
    if len(input_shape) < 3 or input_shape[1] != channels or output[:2] != input_shape[:2]:
        return False
    if name.startswith("Upsample"):
        return name in CHANNELWISE_LINEAR
    if "Pad" not in name or name not in CHANNELWISE_LINEAR:
        return False
    return _padded_axes(node) <= len(input_shape) - 2


def keeps_samples_apart(node: Node, batch: int) -> bool:
    """Whether the node certainly computes each sample's values from that sample's alone.

    Args:
        node: An operation whose inputs on the path start with an axis of samples.
        batch: The number of samples.
    """
    name, rank = node.name(), len(shape_of(node, 0))
    if any(tuple(meta.shape[:1]) != (batch,) for meta in metadata_of(node)):
        return False
    if name in ELEMENTWISE:
        shapes = [shape_of(child, number) for child, number in node.next_functions if child]
        return all(len(shape) in (0, rank) or shape[:1] != (batch,) for shape in shapes)
    if name in ORDER_PRESERVING or name in LINEAR_INPUT or name == "NativeGroupNormBackward0":
        return True
    if name in BATCH_NORM:
        return not saved(node, "training")
    if name in SELECTIONS | SUMS:
        return not touches_batch(node)
    if name in POOLED_AXES:
        return rank == POOLED_AXES[name] + 2
    if name == "NativeLayerNormBackward0":
        return len(saved(node, "normalized_shape")) < rank
    if name in ("SoftmaxBackward0", "LogSoftmaxBackward0", "CatBackward0"):
        return signed([saved(node, "dim")])[0] not in (0, -rank)
    if name in CHANNELWISE_LINEAR:
        return name.startswith("Upsample") or _padded_axes(node) < rank
    return False


def pool_share(node: Node) -> Tensor | None:
    """How much weight each pooled position gives to its inputs in all, (O,).

    1 for a maximum and for an average over what is there; less where an average counts padding.
    """
    pooled = shape_of(node, 0)[2:]
    if not node.name().startswith("AvgPool"):
        return torch.ones(math.prod(pooled), dtype=torch.float64)
    spatial = saved(node, "self").shape[2:]
    share = average_pool(node)(torch.ones(1, 1, *spatial, dtype=torch.float64))
    return share.flatten() if tuple(share.shape[2:]) == tuple(pooled) else None


def average_pool(node: Node) -> Callable[[Tensor], Tensor]:
    """The average pooling that a node recorded, as a function of (N, K, *positions)."""
    options: dict[str, Any] = {
        "kernel_size": saved(node, "kernel_size"),
        "stride": saved(node, "stride") or None,
        "padding": saved(node, "padding"),
        "ceil_mode": saved(node, "ceil_mode"),
        "count_include_pad": saved(node, "count_include_pad"),
        "divisor_override": saved(node, "divisor_override"),
    }
    return partial({2: F.avg_pool2d, 3: F.avg_pool3d}[POOLED_AXES[node.name()]], **options)


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


def largest_value(nodes: Iterable[Node]) -> int:
    """Number of elements of the largest value that any of the operations gave; 0 without one."""
    return max((math.prod(meta.shape) for node in nodes for meta in metadata_of(node)), default=0)


def _padded_axes(node: Node) -> int:
    """How many last axes a padding pads."""
    name = "pad" if node.name().startswith("Constant") else "padding"
    return len(saved(node, name)) // 2
