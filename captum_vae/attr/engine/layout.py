"""Which axis of a tensor holds channels, decided from evidence and never guessed.

Features of images are (B, K, *spatial) nearly always. Tokens and sequences are (B, N, C) in most
models and (B, C, N) in others, and taking one for the other gives maps over hidden units without a
word. What tells is the module that puts the features out or takes them in, and the operations
before and behind it: a convolution has channels on axis 1, a Linear or a LayerNorm on the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from captum_vae.attr.engine.graph import AutogradPath
from captum_vae.attr.engine.inputs import broken_values
from captum_vae.attr.engine.layers import describe
from captum_vae.attr.engine.operations import (
    BATCH_NORM,
    ELEMENTWISE,
    ORDER_PRESERVING,
    saved,
    shape_of,
    signed,
)
from captum_vae.checks import warn_caller

CHANNELS_FIRST, CHANNELS_LAST, TIME_FIRST = "channels first", "channels last", "time first"
"""(B, C, N), (B, N, C) and (N, B, C)."""

Reshape = Callable[[Tensor], Tensor]
"""Features as the layer gives them -> (B, K, *spatial)."""

_TRANSFORMS: dict[str, Reshape | None] = {
    CHANNELS_FIRST: None,
    CHANNELS_LAST: lambda features: features.movedim(-1, 1),
    TIME_FIRST: lambda features: features.permute(1, 2, 0),
}

_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._LPPoolNd,
    nn.Upsample,
)
_LAST = (nn.Linear, nn.Bilinear, nn.Embedding)
_ATTENTION = (
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoderLayer,
    nn.TransformerDecoder,
)
_BROADCAST = {"AddBackward0", "SubBackward0", "MulBackward0", "DivBackward0", "CatBackward0"}
_POOLS = ("AvgPool", "MaxPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "Upsample", "Slice")

Axes = tuple[int | None, ...]
"""For each axis of a tensor, the axis of the features that it is; None where axes were merged."""


@dataclass(frozen=True)
class Layout:
    """Where channels are, as far as it is known.

    Attributes:
        features: Per layer, CHANNELS_FIRST, CHANNELS_LAST or TIME_FIRST; None where nothing tells.
        input_axis: The input's channel axis; None where nothing tells.
    """

    features: tuple[str | None, ...]
    input_axis: int | None


LAYOUTS: WeakKeyDictionary[nn.Module, dict[Any, Layout]] = WeakKeyDictionary()
"""What was found out about a first layer, by those beside it and the axes of input and output."""


def find_reshape(
    features: Tensor,
    layer: nn.Module,
    reshape: Reshape | None,
    *,
    layout: str | None,
    image: Sequence[int] = (),
    batch: int | None = None,
) -> Reshape | None:
    """What brings a layer's features to (B, K, *spatial); None where they are so.

    Args:
        features: The layer's output, as it came.
        layer: The layer, for the messages.
        reshape: The user's ``reshape_transform``, which is taken as it is.
        layout: Where the features' channels are, as far as it is known.
        image: Spatial size of the input, where that is an image.
        batch: Number of inputs; None where it is not known.

    Raises:
        ValueError: Features without positions or with too many axes, tokens of an image, or tokens
            of which nothing tells the channels.
    """
    shape = tuple(features.shape)
    if reshape is not None:
        return reshape
    if len(shape) == 2:
        raise ValueError(
            f"layer {describe(layer)} puts out {shape}, features without spatial positions; choose "
            "a layer before the flatten or pooling, or pass reshape_transform"
        )
    if len(shape) == 3 and len(image) > 1 and batch not in (None, shape[0]):
        raise ValueError(
            f"layer {describe(layer)} puts out {shape} for a batch of {batch} images: pieces of "
            "images, or tokens first; choose the layer around it, which puts out whole images"
        )
    if len(shape) == 3 and len(image) > 1:
        raise ValueError(
            f"layer {describe(layer)} puts out {shape}, tokens of an image of "
            f"{' x '.join(map(str, image))} pixels, which have no rows and columns; say how they "
            f"lie with reshape_transform={_token_transform(shape, image, layout)}"
        )
    if len(shape) == 3 and layout is None:
        raise ValueError(
            f"layer {describe(layer)} puts out {shape}, and nothing tells which axis holds the "
            "channels; pass reshape_transform=lambda t: t if it is axis 1, or "
            "reshape_transform=lambda t: t.transpose(1, 2) if it is the last"
        )
    if len(shape) > 3 and layout == CHANNELS_LAST:
        order = ", ".join(map(str, (0, len(shape) - 1, *range(1, len(shape) - 1))))
        raise ValueError(
            f"layer {describe(layer)} puts out {shape} with the channels on the last axis; pass "
            f"reshape_transform=lambda t: t.permute({order})"
        )
    return _TRANSFORMS[layout] if len(shape) == 3 and layout else None


def check_maplike(features: Tensor, given: Tensor, layer: nn.Module, batch: int) -> None:
    """Check that features are (B, K, *spatial) with one to three spatial axes.

    Where their values may be looked at, NaN and infinite ones are warned of.

    Args:
        features: After the transform.
        given: The layer's output, as it came.
        layer: The layer, for the messages.
        batch: B.

    Raises:
        TypeError: The user's transform gave no tensor.
        ValueError: Another number of axes, or another batch size.
    """
    if not isinstance(features, Tensor):
        raise TypeError(
            f"reshape_transform gave {type(features).__name__}; wanted a tensor (B, K, *spatial)"
        )
    if not 3 <= features.dim() <= 5 or features.shape[0] != batch:
        raise ValueError(
            f"layer {describe(layer)} puts out {tuple(given.shape)} for a batch of {batch}; wanted "
            f"(B, K, *spatial) with one to three spatial axes, and {tuple(features.shape)} it is "
            "after reshape_transform"
        )
    if broken := broken_values(features):
        warn_caller(
            f"the features of layer {describe(layer)} hold {broken}, whose maps mean nothing"
        )


def layout_of_module(layer: nn.Module) -> str | None:
    """How a module's features lie, as its class tells; None where it does not."""
    if isinstance(layer, _FIRST):
        return CHANNELS_FIRST
    # A subclass may lie otherwise, as timm's and torchvision's LayerNorm2d do.
    runs = getattr(type(layer), "forward", None)  # a TorchScript class has none
    if any(isinstance(layer, kind) and runs is kind.forward for kind in _LAST):
        return CHANNELS_LAST
    if isinstance(layer, nn.LayerNorm | nn.RMSNorm):
        plain = runs in (nn.LayerNorm.forward, nn.RMSNorm.forward)
        return CHANNELS_LAST if plain and len(layer.normalized_shape) == 1 else None
    if isinstance(layer, nn.RNNBase):
        return CHANNELS_LAST if layer.batch_first else TIME_FIRST
    if isinstance(layer, _ATTENTION):
        attention = [m for m in layer.modules() if isinstance(m, nn.MultiheadAttention)]
        return CHANNELS_LAST if attention and attention[0].batch_first else TIME_FIRST
    return None


def layout_of_features(features: Tensor, layer: nn.Module, codes: Tensor | None) -> str | None:
    """How features lie, from the module, and from the operations before and behind them.

    Args:
        features: The layer's output, as it came, in a graph.
        layer: The module that puts them out, or takes them in.
        codes: What was computed from them; None looks only at what they were computed from.
    """
    known = layout_of_module(layer)
    if known is None:
        axis = _axis_before(features)
        if axis is None and codes is not None:
            axis = axis_behind(codes, features)
        known = {1: CHANNELS_FIRST, features.dim() - 1: CHANNELS_LAST}.get(axis or 0)
    return known


def axis_behind(codes: Tensor, features: Tensor) -> int | None:
    """The channel axis that the operations on the features speak of; None where none does."""
    edge = get_gradient_edge(features)
    path = AutogradPath(codes, edge)
    consumers: dict[tuple[Node, int], list[tuple[Node, int]]] = {}
    for node in path.nodes:
        for slot, child, number in path.inputs_on_path(node):
            consumers.setdefault((child, number), []).append((node, slot))
    found: set[int] = set()
    waiting: list[tuple[Node, int, tuple[int, ...], Axes]] = [
        (edge.node, edge.output_nr, tuple(features.shape), tuple(range(features.dim())))
    ]
    seen: set[tuple[Node, int]] = set()
    while waiting:
        node, number, shape, axes = waiting.pop()
        if (node, number) in seen:
            continue
        seen.add((node, number))
        for consumer, slot in consumers.get((node, number), []):
            axis = _verdict(consumer, slot, axes)
            if axis is not None:
                found.add(axis)
                continue
            after = shape_of(consumer, 0)
            moved = _through(consumer, shape, axes, after)
            if moved is not None:
                waiting.append((consumer, 0, after, moved))
    return found.pop() if len(found) == 1 else None


def _axis_before(features: Tensor) -> int | None:
    """The channel axis that the operations which made the features speak of."""
    if features.grad_fn is None:
        return None
    waiting: list[tuple[GradientEdge, tuple[int, ...], Axes]] = [
        (get_gradient_edge(features), tuple(features.shape), tuple(range(features.dim())))
    ]
    seen: set[Node] = set()
    while waiting:
        edge, shape, axes = waiting.pop(0)
        node = edge.node
        if node in seen:
            continue
        seen.add(node)
        axis = _verdict(node, None, axes)
        if axis is not None:
            return axis
        for child, number in node.next_functions:
            if child is None:
                continue
            before = shape_of(child, number)
            if len(before) == 2 and len(shape) > 2 and before[-1:] == shape[-1:]:
                if child.name() in ("AddmmBackward0", "MmBackward0"):
                    return axes[-1]  # a Linear on tokens: (B N, C) seen as (B, N, C)
            back = _back_through(node, shape, axes, before)
            if back is not None:
                waiting.append((GradientEdge(child, number), before, back))
    return None


def _verdict(node: Node, slot: int | None, axes: Axes) -> int | None:
    """The channel axis that this operation tells, by its input's axes or, without slot, its own."""
    name = node.name()
    if name == "ConvolutionBackward0" or name in BATCH_NORM or name == "NativeGroupNormBackward0":
        return axes[1] if slot in (None, 0) and len(axes) > 2 else None
    if name in ("NativeLayerNormBackward0", "FusedRmsNormBackward0"):
        return axes[-1] if len(saved(node, "normalized_shape")) == 1 else None
    if slot is not None and name in ("AddmmBackward0", "MmBackward0"):
        reads = slot == (1 if name == "AddmmBackward0" else 0)
        return axes[-1] if reads and len(axes) == 2 and axes[0] is None else None
    return None


def _through(node: Node, shape: tuple[int, ...], axes: Axes, after: tuple[int, ...]) -> Axes | None:
    """Axes of the operation's output, from those of its input."""
    order = _permutation(node, len(axes))
    if order is not None:
        return tuple(axes[axis] for axis in order)
    return _matched(node, shape, axes, after)


def _back_through(
    node: Node, shape: tuple[int, ...], axes: Axes, before: tuple[int, ...]
) -> Axes | None:
    """Axes of the operation's input, from those of its output."""
    order = _permutation(node, len(axes))
    if order is not None:
        back: list[int | None] = [None] * len(axes)
        for place, axis in enumerate(order):
            back[axis] = axes[place]
        return tuple(back)
    return _matched(node, shape, axes, before)


def _permutation(node: Node, count: int) -> list[int] | None:
    if node.name() == "PermuteBackward0":
        return [axis % count for axis in signed(saved(node, "dims"))]
    if node.name() != "TransposeBackward0":
        return None
    one, other = (axis % count for axis in signed([saved(node, "dim0"), saved(node, "dim1")]))
    order = list(range(count))
    order[one], order[other] = other, one
    return order


def _matched(node: Node, shape: tuple[int, ...], axes: Axes, other: tuple[int, ...]) -> Axes | None:
    """Axes on the other side of an operation that leaves the order of values as it is."""
    name = node.name()
    if shape == other and (name in ORDER_PRESERVING | ELEMENTWISE):
        return axes
    if len(shape) == len(other) and (name in _BROADCAST or name.startswith(_POOLS)):
        return axes
    if name not in ORDER_PRESERVING or not other:
        return None
    # A view: axes of equal size at the beginning and at the end are the same, between is merged.
    head = 0
    while head < min(len(shape), len(other)) and shape[head] == other[head]:
        head += 1
    tail = 0
    while tail < min(len(shape), len(other)) - head and shape[-1 - tail] == other[-1 - tail]:
        tail += 1
    middle: list[int | None] = [None] * (len(other) - head - tail)
    return (*axes[:head], *middle, *axes[len(axes) - tail :])


def _token_transform(features: Sequence[int], image: Sequence[int], layout: str | None) -> str:
    """The ``reshape_transform`` to write for tokens (B, N, C) or (B, C, N) of an image.

    Args:
        features: Shape of the tokens.
        image: Spatial size of the image.
        layout: How the tokens lie, as far as it is known.
    """
    first = layout == CHANNELS_FIRST
    count = features[2] if first else features[1]
    for extra in range(0, 3):
        for rows in range(1, count - extra + 1):
            columns, rest = divmod(count - extra, rows)
            if rest or rows * image[1] != columns * image[0]:
                continue
            if first:
                dropped = f"[:, :, {extra}:]" if extra else ""
                return f"lambda t: t{dropped}.unflatten(2, ({rows}, {columns}))"
            dropped = f"[:, {extra}:]" if extra else ""
            return f"lambda t: t{dropped}.transpose(1, 2).unflatten(2, ({rows}, {columns}))"
    return "lambda t: t" if first else "lambda t: t.transpose(1, 2)"
