r"""Pooled gradients where the features reach a Linear, in closed form.

alpha[b, d, k] = mean over positions p of d codes[b, d] / d A[b, k, p]   (paper section 3.1)

Only the *pooled* gradient is needed. Where the features reach a Linear through a flatten or a
pooling, pooling commutes with the product. With h = W a + c the Linear's output, a its input, P
positions, J[b, d, h] = d codes[b, d] / d h[b, h]:

    a = flatten(A):       alpha[b, d, k] = sum_h J[b, d, h] (1/P) sum_p W[h, k, p]
    a = mean_p A[k, p]:   alpha[b, d, k] = sum_h J[b, d, h] (1/P) W[h, k]
    a = flatten(f(A)):    alpha[b, d, k] = sum_h J[b, d, h] (1/P) sum_p W[h, k, p] f'(A)[b, k, p]

The first two pool the weight over positions once for all images; the last, with an elementwise f
such as a ReLU between, once per image. All latent dimensions then cost two small matrix products
instead of one backward pass each. That is exact, not an approximation, and made of plain matrix
products, so that with ``create_graph`` its own gradient is exact as well. Elsewhere one batched
vector-Jacobian product does the work, chunked over dimensions to a memory budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_vae.attr.engine.derivatives import ones_of
from captum_vae.attr.engine.gradients import gradients_of, weight_dtype
from captum_vae.attr.engine.graph import AutogradPath
from captum_vae.attr.engine.plans import LayerPlan, SharedDerivative
from captum_vae.attr.engine.propagation import Propagation, one_hot
from captum_vae.attr.engine.region import LinearCut
from captum_vae.posterior.read_back import is_traced

_CHANNELS_PER_BLOCK = 32


def closed_form_weights(
    codes: Tensor,
    features: Tensor,
    plan: LayerPlan,
    dims: Sequence[int],
    create_graph: bool = False,
) -> Tensor:
    """Channel weights through the linear maps of ``plan.cut``, in float32 or better.

    Args:
        codes: (B, D).
        features: (B, K, *spatial).
        plan: Plan that ``plan_layer`` found, with a cut.
        dims: Latent dimensions wanted, T of them.
        create_graph: Make the result differentiable.

    Returns:
        Channel weights alpha (B, T, K).
    """
    cut = plan.cut
    assert cut is not None
    batch, channels = features.shape[:2]
    positions = math.prod(features.shape[2:])
    dtype = weight_dtype(features)
    no_autocast = torch.autocast(features.device.type, enabled=False)
    with no_autocast, torch.set_grad_enabled(create_graph):
        weight = _joined([linear.weight for linear in cut.linears], 0).to(dtype)
        # J / P, (B, T, H): the division by the number of positions where it is smallest.
        jacobian = _jacobian(codes, cut, plan.head, dims, dtype, create_graph)
        jacobian = jacobian.averaged_over(positions)
        if weight.shape[1] == channels:
            # The Linear reads one value per channel, a mean or a maximum over positions p:
            # alpha[b, d, k] = sum_h J[b, d, h] / P * W[h, k] * sum_p d pooled[b, k] / d A[b, k, p].
            # The last sum is 1 unless an elementwise operation or a border lies between.
            alpha = jacobian.times(weight)
            if cut.elementwise or any("AvgPool2D" in n or "AvgPool3D" in n for n in cut.pooling):
                gate = _derivative(cut, get_gradient_edge(features), features.shape, create_graph)
                alpha = alpha * gate.flatten(2).sum(2)[:, None].to(dtype)
            return alpha
        # The Linear reads every position: W (H, K, P), or (H, K, O) behind a pooling to O places,
        # each of which hands ``pool_share`` of its gradient on to the positions that it gathers.
        weight = weight.reshape(len(weight), channels, -1)
        if cut.pool_share is not None:
            weight = weight * cut.pool_share.to(weight)
        if not cut.elementwise:
            # alpha[b, d, k] = sum_h J[b, d, h] / P * sum_p W[h, k, p]
            return jacobian.times(weight.sum(2))
        source, shape = get_gradient_edge(features), features.shape
        if cut.pool_output is not None:
            source = cut.pool_output
            shape = torch.Size((batch, channels, weight.shape[2]))
        # alpha[b, d, k] = sum_h J[b, d, h] / P * sum_p W[h, k, p] f'(A[b, k, p])
        derivative = _derivative(cut, source, shape, create_graph)
        gate = derivative.to(dtype).reshape(batch, channels, -1).permute(1, 2, 0).contiguous()
        del derivative  # as large as the features, and no longer needed
        return _masked_product(jacobian, weight, gate)


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
        if torch.is_grad_enabled() or weight.is_cuda or is_traced():
            return (self.shared * self.gate[:, None]) @ weight
        rows = weight.new_empty(len(self.shared), self.batch, weight.shape[1])
        gated = torch.empty_like(self.gate)  # one small buffer, which stays in cache
        for row, out in zip(self.shared, rows, strict=True):
            torch.mm(torch.mul(self.gate, row, out=gated), weight, out=out)
        return rows.transpose(0, 1)


def _jacobian(
    codes: Tensor,
    cut: LinearCut,
    head: SharedDerivative | None,
    dims: Sequence[int],
    dtype: torch.dtype,
    create_graph: bool,
) -> _Jacobian:
    """J[b, d, h] = d codes[b, d] / d h[b, h] at the output h of the cut's linear maps.

    With a head it is a product: codes = V s(h) + c, s elementwise, give J[b, d, h] = V[d, h]
    s'(h[b, h]), of which V is the same for every image and s' the same for every dimension.
    """
    edges = [linear.output for linear in cut.linears]
    if head is None:
        gradients = gradients_of(codes, edges, dims, create_graph, batched=True)
        dense = _joined([g.flatten(2) for g in gradients], 2).to(dtype)
        return _Jacobian(len(codes), dense=dense)
    if head.hidden is None:
        shared = _picked(codes, head.edge, dims).to(dtype)  # (T, ...), the same for every image
        return _Jacobian(len(codes), shared=shared)
    gate = None
    if head.hidden.elementwise:
        gate = _derivative(head.hidden, edges[0], None, create_graph)
        gate = gate.reshape(len(codes), -1).to(dtype)
    weight = head.hidden.linears[0].weight.to(dtype)
    return _Jacobian(len(codes), shared=_rows(codes, head.edge, dims, weight), gate=gate)


def _rows(codes: Tensor, edge: GradientEdge, dims: Sequence[int], weight: Tensor) -> Tensor:
    """V (T, H): derivative of the codes with respect to the input of the Linear that ends in edge.

    Where the codes are its output, V is rows of its weight. A product with one-hot rows would find
    them too, at a cost that grows with the square of the number of dimensions.
    """
    if AutogradPath(codes, edge).connected:
        return _picked(codes, edge, dims).to(weight.dtype) @ weight
    if list(dims) == list(range(len(weight))):
        return weight
    return torch.stack([weight[dim] for dim in dims])  # no index is sent to the device


def _picked(codes: Tensor, edge: GradientEdge, dims: Sequence[int]) -> Tensor:
    """Derivative of codes that are picked or summed from a value, (T, ...), for any one image."""
    path = AutogradPath(codes, edge)
    if not path.connected:  # the codes are that value
        return one_hot(codes, dims).rows[:, 0]
    at = (edge.node, edge.output_nr)
    found = Propagation(path).cotangents(codes, dims, {at})[at]
    return found.samples()[:, 0].flatten(1)


def _masked_product(jacobian: _Jacobian, weight: Tensor, gate: Tensor) -> Tensor:
    """Sum over h and p of J[b, t, h] weight[h, k, p] gate[k, p, b] -> (B, T, K).

    Channel by channel on the CPU, so that the (H, B) product of each stays in cache; by blocks of
    channels elsewhere.
    """
    if jacobian.shared is not None and len(jacobian.shared) >= len(weight):
        return _masked_product_by_image(jacobian.shared, jacobian.gate, weight, gate)
    in_place = not (torch.is_grad_enabled() or weight.is_cuda or is_traced())
    if jacobian.shared is not None and in_place:
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


def _masked_product_by_image(
    shared: Tensor, hidden_gate: Tensor | None, weight: Tensor, gate: Tensor
) -> Tensor:
    """For more codes than hidden units, where alpha is the largest tensor: written in its order."""
    product = gate.transpose(1, 2) @ weight.permute(1, 2, 0)  # (K, B, H)
    if hidden_gate is not None:
        product = product * hidden_gate
    return shared @ product.permute(1, 2, 0)


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
    ones = ones_of(edge.node, edge.output_nr)
    (gradient,) = torch.autograd.grad(
        [edge], [source], [ones], retain_graph=True, create_graph=create_graph
    )
    return gradient if shape is None else gradient.reshape(shape)


def _joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim)  # cat copies a single one
