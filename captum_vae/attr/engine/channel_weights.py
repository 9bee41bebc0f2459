r"""Channel weights: the pooled gradient of every latent code with respect to the features.

alpha[b, d, k] = mean over positions p of d codes[b, d] / d A[b, k, p]   (paper section 3.1)

Only the *pooled* gradient is needed. Where the features reach a Linear through a flatten or a
pooling, pooling commutes with the product: the Linear's weight is pooled over positions once, and
all latent dimensions cost two small matrix products instead of one backward pass each. That is
exact, not an approximation, and made of plain matrix products, so that with ``create_graph`` its
own gradient is exact as well. Elsewhere one batched vector-Jacobian product does the work, chunked
over dimensions to a memory budget.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_vae.attr.engine.autograd_path import AutogradPath, LinearCut

_CPU_BUDGET = 64 * 2**20  # what stays in cache: larger passes were slower, not faster
_CHANNELS_PER_BLOCK = 32


@dataclass(frozen=True)
class LayerPlan:
    """How one layer's channel weights are computed, and why.

    Attributes:
        path: ``pooled`` (the weight is pooled over positions once), ``masked`` (an elementwise
            operation lies between, so it is pooled once per image), ``vector_jacobian`` (batched
            backward passes) or ``off_path`` (the codes do not depend on the layer).
        reason: one sentence for people.
        cut: the linear maps that the closed forms use; None for the other paths.
    """

    path: str
    reason: str
    cut: LinearCut | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PassSettings:
    """How vector-Jacobian products are run.

    Args:
        create_graph: keep the graph, so that the weights can be trained through.
        dims_per_pass: latent dimensions in one batched pass; None chooses by ``memory_budget``.
        memory_budget: bytes that one pass may take for its gradients; None takes 64 MiB on the
            CPU and half of what is free on a CUDA device.
    """

    create_graph: bool = False
    dims_per_pass: int | None = None
    memory_budget: int | None = None


def plan_layer(codes: Tensor, features: Tensor) -> LayerPlan:
    """Choose the way to the channel weights from what the forward really did.

    Args:
        codes: (B, D), with the graph of the forward.
        features: (B, K, *spatial), a tensor of that graph.
    """
    path = AutogradPath(codes, get_gradient_edge(features))
    if not path.connected:
        return LayerPlan("off_path", "the codes do not depend on the features")
    cut = path.linear_cut(tuple(features.shape))
    if cut is None:
        return LayerPlan("vector_jacobian", "the features do not go straight into a linear map")
    target = " and ".join(
        f"a linear map {linear.weight.shape[1]} -> {linear.weight.shape[0]}"
        for linear in cut.linears
    )
    via = "".join(f" through {name}" for name in (*cut.pooling, *cut.elementwise))
    kind = "masked" if cut.elementwise else "pooled"
    return LayerPlan(kind, f"the features reach {target}{via or ' unchanged'}", cut)


def closed_form_weights(
    codes: Tensor,
    features: Tensor,
    cut: LinearCut,
    dims: Sequence[int],
    *,
    create_graph: bool = False,
) -> Tensor:
    """Channel weights through the linear maps of ``cut``, in float32 or better.

    Args:
        codes: (B, D).
        features: (B, K, *spatial).
        cut: as found by ``plan_layer``.
        dims: latent dimensions wanted, T of them.
        create_graph: make the result differentiable.

    Returns:
        alpha, (B, T, K).
    """
    batch, channels = features.shape[:2]
    positions = math.prod(features.shape[2:])
    dtype = _weight_dtype(features)
    no_autocast = torch.autocast(features.device.type, enabled=False)
    with no_autocast, torch.set_grad_enabled(create_graph):
        weight = _joined([linear.weight for linear in cut.linears], 0).to(dtype)
        jacobian = _jacobian(codes, cut, dims, dtype, create_graph).averaged_over(positions)
        if weight.shape[1] == channels:
            alpha = jacobian.times(weight)
            if cut.elementwise or any("AvgPool2D" in n or "AvgPool3D" in n for n in cut.pooling):
                gate = _derivative(cut, get_gradient_edge(features), features.shape, create_graph)
                alpha = alpha * gate.flatten(2).sum(2)[:, None].to(dtype)
            return alpha
        weight = weight.reshape(len(weight), channels, -1)
        if cut.pool_share is not None:
            weight = weight * cut.pool_share.to(weight)
        if not cut.elementwise:
            return jacobian.times(weight.sum(2))
        source, shape = get_gradient_edge(features), features.shape
        if cut.pool_output is not None:
            source = cut.pool_output
            shape = torch.Size((batch, channels, weight.shape[2]))
        derivative = _derivative(cut, source, shape, create_graph)
        gate = derivative.to(dtype).reshape(batch, channels, -1).permute(1, 2, 0).contiguous()
        del derivative  # as large as the features, and no longer needed
        return _masked_product(jacobian, weight, gate)


def vector_jacobian_products(
    codes: Tensor,
    features: Sequence[Tensor],
    dims: Sequence[int],
    settings: PassSettings,
) -> Iterator[list[Tensor]]:
    """Gradients of the codes with respect to the features, some dimensions at a time.

    Args:
        codes: (B, D).
        features: (B, K_l, *spatial_l), one per layer.
        dims: latent dimensions wanted.
        settings: chunk size or memory budget, and whether to keep the graph.

    Yields:
        One gradient (B, t, K_l, *spatial_l) per layer for the next t of ``dims``. On a CUDA
        out-of-memory error t is halved.
    """
    chunk = settings.dims_per_pass or _dims_within_budget(codes, features, settings)
    batched, start = True, 0
    while start < len(dims):
        wanted = dims[start : start + chunk]
        try:
            gradients = _pass(codes, features, wanted, settings.create_graph, batched)
        except torch.OutOfMemoryError:
            if chunk == 1:
                raise
            chunk = max(1, len(wanted) // 2)
            continue
        except RuntimeError:
            if not batched or len(wanted) == 1:
                raise
            batched = False
            continue
        yield gradients
        start += len(wanted)


def pass_budget(like: Tensor) -> int:
    """Bytes that one pass may take, on the device of ``like``."""
    return torch.cuda.mem_get_info(like.device)[0] // 2 if like.is_cuda else _CPU_BUDGET


@dataclass(frozen=True)
class _Jacobian:
    """Derivative of the codes with respect to the output of the linear maps.

    Either ``dense`` (B, T, H), or ``shared`` (T, H) times ``gate`` (B, H) where only an elementwise
    operation depends on the image.
    """

    batch: int
    dense: Tensor | None = None
    shared: Tensor | None = None
    gate: Tensor | None = None

    def averaged_over(self, positions: int) -> _Jacobian:
        """Divided by the number of positions here, where it is smallest."""
        if self.dense is not None:
            return replace(self, dense=self.dense / positions)
        assert self.shared is not None
        return replace(self, shared=self.shared / positions)

    def times(self, weight: Tensor) -> Tensor:
        """(B, T, H) @ (H, K) -> (B, T, K)."""
        if self.dense is not None:
            return self.dense @ weight
        assert self.shared is not None
        if self.gate is None:
            return (self.shared @ weight).expand(self.batch, -1, -1)
        if torch.is_grad_enabled() or weight.is_cuda:
            return (self.shared * self.gate[:, None]) @ weight
        rows = weight.new_empty(len(self.shared), self.batch, weight.shape[1])
        gated = torch.empty_like(self.gate)  # one small buffer, which stays in cache
        for row, out in zip(self.shared, rows, strict=True):
            torch.mm(torch.mul(self.gate, row, out=gated), weight, out=out)
        return rows.transpose(0, 1)


def _jacobian(
    codes: Tensor, cut: LinearCut, dims: Sequence[int], dtype: torch.dtype, create_graph: bool
) -> _Jacobian:
    edges = [linear.output for linear in cut.linears]
    batch = codes.shape[0]
    if len(edges) == 1:
        shared = _constant_jacobian(codes, edges[0], dims)
        if shared is not None:
            return _Jacobian(batch, shared=shared.to(dtype))
        width = cut.linears[0].weight.shape[0]
        above = AutogradPath(codes, edges[0]).linear_cut((batch, width))
        if above is not None and len(above.linears) == 1 and not above.pooling:
            shared = _constant_jacobian(codes, above.linears[0].output, dims)
            if shared is not None:
                gate = None
                if above.elementwise:
                    gate = _derivative(above, edges[0], None, create_graph)
                    gate = gate.reshape(batch, width).to(dtype)
                weight = above.linears[0].weight.to(dtype)
                return _Jacobian(batch, shared=shared.to(dtype) @ weight, gate=gate)
    gradients = _vjp(codes, edges, dims, create_graph, batched=True)
    return _Jacobian(batch, dense=_joined([g.flatten(2) for g in gradients], 2).to(dtype))


def _constant_jacobian(codes: Tensor, edge: GradientEdge, dims: Sequence[int]) -> Tensor | None:
    """(T, H) where codes are picked or summed from the edge's values, the same for all samples."""
    if not AutogradPath(codes, edge).is_constant(codes.shape[0]):
        return None
    (gradient,) = _vjp(codes, [edge], dims, create_graph=False, batched=True)
    return gradient[0].flatten(1)


def _masked_product(jacobian: _Jacobian, weight: Tensor, gate: Tensor) -> Tensor:
    """Sum over h and p of J[b, t, h] weight[h, k, p] gate[k, p, b] -> (B, T, K).

    Channel by channel on the CPU, so that the (H, B) product of each stays in cache; by blocks of
    channels elsewhere.
    """
    if jacobian.shared is not None and not torch.is_grad_enabled() and not weight.is_cuda:
        return _masked_product_by_channel(jacobian.shared, jacobian.gate, weight, gate)
    blocks = []
    for start in range(0, weight.shape[1], _CHANNELS_PER_BLOCK):
        block = slice(start, start + _CHANNELS_PER_BLOCK)
        product = gate[block].transpose(1, 2) @ weight[:, block].permute(1, 2, 0)
        if jacobian.dense is not None:
            blocks.append((jacobian.dense @ product.permute(1, 2, 0)).permute(2, 0, 1))
            continue
        if jacobian.gate is not None:
            product = product * jacobian.gate
        assert jacobian.shared is not None
        blocks.append(product @ jacobian.shared.t())
    return torch.cat(blocks).permute(1, 2, 0)


def _masked_product_by_channel(
    shared: Tensor, hidden_gate: Tensor | None, weight: Tensor, gate: Tensor
) -> Tensor:
    width, channels, _ = weight.shape
    batch = gate.shape[2]
    hidden_first = None if hidden_gate is None else hidden_gate.t().contiguous()
    product = weight.new_empty(width, batch)
    alpha = weight.new_empty(channels, len(shared), batch)
    for channel in range(channels):
        torch.mm(weight[:, channel], gate[channel], out=product)
        if hidden_first is not None:
            product *= hidden_first
        torch.mm(shared, product, out=alpha[channel])
    return alpha.permute(2, 1, 0)


def _derivative(
    cut: LinearCut, source: GradientEdge, shape: torch.Size | None, create_graph: bool
) -> Tensor:
    """Derivative of the region's elementwise operations, one number per value of ``source``.

    In the region no value depends on another one's position, so one backward pass with ones gives
    the whole diagonal.
    """
    edge = cut.linears[0].input
    metadata = edge.node._input_metadata[edge.output_nr]
    ones = torch.ones(metadata.shape, dtype=metadata.dtype, device=metadata.device)
    (gradient,) = torch.autograd.grad(
        [edge], [source], [ones], retain_graph=True, create_graph=create_graph
    )
    return gradient if shape is None else gradient.reshape(shape)


def _pass(
    codes: Tensor,
    features: Sequence[Tensor],
    dims: Sequence[int],
    create_graph: bool,
    batched: bool,
) -> list[Tensor]:
    return _vjp(codes, [get_gradient_edge(f) for f in features], dims, create_graph, batched)


def _vjp(
    codes: Tensor,
    edges: Sequence[GradientEdge],
    dims: Sequence[int],
    create_graph: bool,
    batched: bool,
) -> list[Tensor]:
    """One gradient (B, T, *shape) per edge, for the codes of ``dims``."""
    picks = torch.zeros(len(dims), *codes.shape, dtype=codes.dtype, device=codes.device)
    picks[torch.arange(len(dims)), :, list(dims)] = 1
    backward = partial(
        torch.autograd.grad, codes, edges, retain_graph=True, create_graph=create_graph
    )
    if len(dims) == 1 or not batched:
        passes = [backward(pick) for pick in picks]
        return [torch.stack(gradients, 1) for gradients in zip(*passes, strict=True)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*batching rule.*")
        gradients = backward(picks, is_grads_batched=True)
    return [gradient.transpose(0, 1) for gradient in gradients]


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)  # cat copies a single one


def _dims_within_budget(codes: Tensor, features: Sequence[Tensor], settings: PassSettings) -> int:
    budget = settings.memory_budget or pass_budget(codes)
    largest = max(AutogradPath(codes, get_gradient_edge(f)).largest_value() for f in features)
    bytes_per_dim = 3 * largest * codes.element_size() + sum(
        f.numel() * f.element_size() for f in features
    )
    return max(1, budget // max(1, bytes_per_dim))


def _weight_dtype(features: Tensor) -> torch.dtype:
    return torch.promote_types(features.dtype, torch.float32)
