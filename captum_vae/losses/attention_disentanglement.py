"""Attention disentanglement: latent dimensions should look at different places.

Liu et al., Towards visually explaining variational autoencoders, CVPR 2020, section 3.3, Eq. 5:
two attention maps A1 and A2 of an image overlap by

    L(A1, A2) = 2 sum min(A1, A2) / sum (A1 + A2)          in [0, 1], 1 for equal maps.

Three modes, of which only the first is the paper's:

- ``paper``: L per image, its mean over images. Its exact gradient can lower L by shrinking one of
  the two maps rather than by moving it.
- ``normalised``: every map is first divided by its mass, so that only shapes count. Then every
  denominator is 2, and the sum over all pairs takes one sort: position by position, the k-th
  smallest of D values is the smaller one of D - 1 - k pairs.
- ``replication``: what the public replication of the paper computed: sums over the whole batch in
  numerator and denominator, and the ratio divided by the batch size again.

In ``paper`` and ``replication`` each pair has a denominator of its own, so that all pairs need the
D (D - 1) / 2 sums of minima themselves; these come from the L1 distances of the maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from captum_vae.attr import LatentGradCAM
from captum_vae.attr.during_training import WatchedForward, watch_forward
from captum_vae.attr.options import Order, Rectifier
from captum_vae.checks import check_choice, checked_seed, floating_tensor, whole_number
from captum_vae.losses.elbo import kl_per_dimension
from captum_vae.losses.options import Aggregation, Gate, Mode
from captum_vae.precision import at_least_float32

MAP_OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {"rectifier": "relu", "order": "after_sum", "channel_weights": "exact"},
    "replication": {"rectifier": "relu", "order": "channelwise", "channel_weights": "detached"},
    "normalised": {"rectifier": "abs", "order": "after_sum", "channel_weights": "exact"},
}
"""The maps that each mode is made for, as options of ``WatchedForward.maps``."""


class NonFiniteMapsError(ValueError):
    """Attention maps hold NaN or infinite values, so that their overlap means nothing."""


class AttentionDisentanglementLoss(nn.Module):
    """Overlap of the attention maps of pairs of latent dimensions, to be minimised.

    Maps that hold NaN or infinite values are refused on the CPU. On an accelerator they give NaN,
    since looking at them would stall every step.

    Call it with maps, or let it make them: from the forward of the training step (``of_forward``),
    or from images in a forward of its own (``of_images``).

    Example::

        overlap = AttentionDisentanglementLoss()
        with watch_forward(vae, vae.encoder.conv4) as watched:
            reconstruction, mean, log_variance = vae(images)
        loss = elbo(...) + weight * overlap.of_forward(watched, mean, log_variance)
    """

    def __init__(
        self,
        mode: Mode = "normalised",
        *,
        pairs: Literal["all"] | int | Sequence[Sequence[int]] = "all",
        aggregation: Aggregation = "mean",
        gate: Gate = "none",
        rectifier: Rectifier | None = None,
        order: Order | None = None,
        seed: int = 0,
    ) -> None:
        """Choose what overlap means and which pairs count.

        Args:
            mode: ``paper``, ``replication`` or ``normalised``: the overlap as published, as the
                public replication computed it, or of maps of unit mass. See this module's
                docstring.
            pairs: ``all`` pairs of latent dimensions, a number of them drawn anew at every call, or
                a list of pairs.
            aggregation: ``mean`` over pairs, weighted by the gates, or their ``sum``.
            gate: ``kl`` weighs a pair by the product of its dimensions' ``1 - exp(-KL)``, without
                gradient, so that collapsed dimensions, whose maps are noise, do not count.
            rectifier: Rectifier of the maps made here; None takes the mode's, see ``MAP_OPTIONS``.
            order: Whether these maps are rectified after the channel sum or before it; None takes
                the mode's, see ``MAP_OPTIONS``.
            seed: Seed of the pairs drawn. Which ones a call draws depends on the seed and the
                number of calls before it; the latter travels in ``state_dict``.

        Raises:
            TypeError: A number is none, or ``pairs`` is something else.
            ValueError: A name is unknown, the rectifier leaves maps negative, or the pairs are not
                pairs.
        """
        super().__init__()
        check_choice("mode", mode, get_args(Mode))
        check_choice("aggregation", aggregation, get_args(Aggregation))
        check_choice("gate", gate, get_args(Gate))
        if isinstance(rectifier, str) and rectifier == "none":
            raise ValueError("rectifier='none' leaves maps negative; choose 'relu' or 'abs'")
        check_choice("rectifier", rectifier, (*get_args(Rectifier), None))
        check_choice("order", order, (*get_args(Order), None))
        self.mode: Mode = mode
        self.pairs = _checked_pairs(pairs)
        self.aggregation: Aggregation = aggregation
        self.gate = gate
        self.rectifier = rectifier
        self.order = order
        self.seed = checked_seed(seed)
        self._calls = 0

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that rebuild this object."""
        names = ("mode", "pairs", "aggregation", "gate", "rectifier", "order", "seed")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        """The configuration, as ``print(loss)`` shows it."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config.items())

    def get_extra_state(self) -> dict[str, int]:
        """How many times pairs were drawn."""
        return {"calls": self._calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Go on drawing pairs where a checkpoint left off."""
        self._calls = state["calls"]

    def forward(self, maps: Tensor, *, kl: Tensor | None = None) -> Tensor:
        """The overlap of given maps, a scalar.

        Args:
            maps: Maps (B, D, *spatial), not negative, with a graph if they are to be trained.
            kl: KL to the prior in nats, (D,) or (B, D), for ``gate="kl"``.

        Raises:
            TypeError: An argument is no floating-point tensor.
            ValueError: Shapes do not fit, the batch is empty, maps are negative, NaN or infinite,
                or there is no ``kl`` for the gate.
        """
        _check_maps(maps)
        gates = None
        if self.gate == "kl":
            if kl is not None:
                floating_tensor("kl", kl, wanted="(D,) or (B, D)")
            if kl is None or kl.shape[-1:] != maps.shape[1:2] or kl.dim() > 2:
                raise ValueError(
                    f"gate='kl' needs kl of shape ({maps.shape[1]},) or (B, {maps.shape[1]}), got "
                    f"{None if kl is None else tuple(kl.shape)}"
                )
            gates = kl_gates(kl)
        return attention_overlap(
            maps,
            mode=self.mode,
            pairs=self._drawn_pairs(maps.shape[1]),
            aggregation=self.aggregation,
            gates=gates,
        )

    def of_forward(
        self, watched: WatchedForward, mean: Tensor, log_variance: Tensor | None = None
    ) -> Tensor:
        """The overlap of the maps of a watched forward.

        Args:
            watched: The forward of the training step, see :func:`captum_vae.attr.watch_forward`.
            mean: Posterior means (B, D) that the forward returned.
            log_variance: Logarithms of the posterior variances (B, D), for ``gate="kl"``.

        Raises:
            TypeError: An argument is of another kind.
            ValueError: The maps of this forward cannot be used, see :meth:`forward`.
        """
        if not isinstance(watched, WatchedForward):
            raise TypeError(
                f"watched is a {type(watched).__name__}; wanted what `with watch_forward(model, "
                "layer) as watched` gives"
            )
        floating_tensor("mean", mean, wanted="(B, D)")
        options = dict(MAP_OPTIONS[self.mode])
        options.update({k: v for k in ("rectifier", "order") if (v := getattr(self, k))})
        kl = None
        if self.gate == "kl" and log_variance is not None:
            kl = kl_per_dimension(mean.detach(), log_variance.detach())
        overlap: Tensor = self(watched.maps(mean, **options), kl=kl)
        return overlap

    def of_images(self, cam: LatentGradCAM, images: Tensor) -> Tensor:
        """The overlap of the maps of images, at the price of one forward.

        Args:
            cam: The attribution that names the model, one layer and how to read the posterior.
            images: Images (B, C, H, W).

        Raises:
            TypeError: An argument is of another kind.
            ValueError: The maps of these images cannot be used, see :meth:`forward`.
        """
        if not isinstance(cam, LatentGradCAM):
            raise TypeError(f"cam is a {type(cam).__name__}; wanted a LatentGradCAM")
        floating_tensor("images", images, wanted="(B, C, H, W)")
        cam.posterior.prepare(images)
        with watch_forward(
            cam.forward_func,
            cam.layer,
            reshape_transform=cam.reshape_transform,
            dims_per_pass=cam.dims_per_pass,
            memory_budget=cam.memory_budget,
        ) as watched:
            posterior = cam.posterior(images)
        return self.of_forward(watched, posterior.mean, posterior.log_variance)

    def _drawn_pairs(self, dims: int) -> Tensor | None:
        if self.pairs == "all":
            return None
        if not isinstance(self.pairs, int):
            return torch.tensor(self.pairs)
        self._calls += 1
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._calls)
        return random_pairs(dims, self.pairs, generator=generator)


def attention_overlap(
    maps: Tensor,
    *,
    mode: Mode = "normalised",
    pairs: Tensor | None = None,
    aggregation: Aggregation = "mean",
    gates: Tensor | None = None,
) -> Tensor:
    """Overlap of the maps of pairs of latent dimensions (Eq. 5), a scalar.

    Args:
        maps: Maps (B, D, *spatial), not negative.
        mode: ``paper``, ``replication`` or ``normalised``, see this module's docstring.
        pairs: Two different dimensions in each row, (n, 2) integers; None for all D (D - 1) / 2.
        aggregation: ``mean`` over pairs or their ``sum``.
        gates: Weights (D,) in [0, 1], taken as constants; a pair is weighted by the product of its
            two gates. ``mean`` divides by the sum of these weights.

    Returns:
        The aggregate over pairs of the mean over images; per pair in [0, 1], and in [0, 1 / B] for
        ``replication``. Maps without any mass overlap by 0.

    Raises:
        TypeError: Maps, pairs or gates are no tensors of that kind.
        ValueError: A name is unknown, the batch is empty, there are fewer than two maps, maps are
            negative, NaN or infinite, or pairs or gates do not fit.
    """
    check_choice("mode", mode, get_args(Mode))
    check_choice("aggregation", aggregation, get_args(Aggregation))
    _check_maps(maps)
    flat = at_least_float32(maps).flatten(2)
    images, dims = flat.shape[:2]
    first, second = _pair_columns(pairs, dims, flat.device)
    if gates is None:
        weights = torch.ones(len(first), dtype=flat.dtype, device=flat.device)
    else:
        floating_tensor("gates", gates, wanted=f"({dims},)")
        if gates.shape != (dims,):
            raise ValueError(f"gates has shape {tuple(gates.shape)}; wanted ({dims},)")
        gates = gates.detach().to(flat)
        weights = gates[first] * gates[second]
    if mode == "normalised":
        flat = unit_mass(flat)
    if mode == "normalised" and pairs is None:
        total = sum_of_all_minima(flat, gates).mean()
    else:
        minima = all_minima(flat) if pairs is None else minima_of(flat, first, second)
        if mode == "normalised":
            overlaps = minima.mean(0)
        else:
            masses = flat.sum(2)
            masses = masses[:, first] + masses[:, second]
            if mode == "paper":
                overlaps = _ratio(2 * minima, masses).mean(0)
            else:
                overlaps = _ratio(2 * minima.sum(0), masses.sum(0)) / images
        total = overlaps @ weights
    return total if aggregation == "sum" else _ratio(total, weights.sum())


def pair_overlap(first: Tensor, second: Tensor) -> Tensor:
    """L(A1, A2) of Eq. 5 for each image, (B,); 0 where both maps are zero.

    Args:
        first: Maps (B, *spatial), not negative.
        second: Maps of the same shape.

    Raises:
        TypeError: An argument is no floating-point tensor.
        ValueError: The shapes differ, or have no spatial axis.
    """
    floating_tensor("first", first, wanted="(B, *spatial)")
    floating_tensor("second", second, wanted="(B, *spatial)")
    if first.shape != second.shape or first.dim() < 2:
        raise ValueError(
            "first and second must be maps (B, *spatial) of one shape, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
    first, second = first.flatten(1), second.flatten(1)
    return _ratio(2 * torch.minimum(first, second).sum(1), (first + second).sum(1))


def unit_mass(maps: Tensor) -> Tensor:
    """Maps (B, D, P) divided by their sums over positions; zero maps stay zero."""
    return _ratio(maps, maps.sum(2, keepdim=True))


def sum_of_all_minima(maps: Tensor, gates: Tensor | None = None) -> Tensor:
    """Sum over all pairs and positions of the smaller value, by one sort: (B, D, P) -> (B,).

    Args:
        maps: Maps (B, D, P) over P positions.
        gates: Weights (D,), of which a pair has the product of its two; None weighs all alike.
    """
    values, order = maps.sort(dim=1)
    dims = maps.shape[1]
    if gates is None:
        larger = torch.arange(dims - 1, -1, -1, dtype=maps.dtype, device=maps.device)
        return values.sum(2) @ larger
    gate = gates[order]
    larger = gate.sum(1, keepdim=True) - gate.cumsum(1)
    return (values * gate * larger).sum((1, 2))


def all_minima(maps: Tensor) -> Tensor:
    """Sum over positions of the smaller value, for all pairs: (B, D, P) -> (B, D (D - 1) / 2).

    Pairs in the order of ``itertools.combinations``. From the L1 distances of the maps, since
    ``min(a, b) = (a + b - |a - b|) / 2``: nothing of the size of the pairs times P is ever held.
    """
    first, second = torch.triu_indices(maps.shape[1], maps.shape[1], 1, device=maps.device)
    masses = maps.sum(2)
    distances: Tensor = _L1Distances.apply(maps)
    minima = (masses[:, first] + masses[:, second] - distances[:, first, second]) / 2
    # Rounding must not make a sum of non-negative values negative; the gradient stays.
    return minima - minima.detach().clamp(max=0)


def minima_of(maps: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Sum over positions of the smaller value, for n pairs: (B, D, P) -> (B, n)."""
    return torch.minimum(maps[:, first], maps[:, second]).sum(2)


def random_pairs(dims: int, count: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Different pairs of latent dimensions, (count, 2), the smaller one first.

    Args:
        dims: D, the number of latent dimensions.
        count: How many pairs; all D (D - 1) / 2 where that is fewer.
        generator: Source of randomness, on the CPU; PyTorch's own when None.
    """
    pairs = torch.combinations(torch.arange(dims), 2)
    return pairs[torch.randperm(len(pairs), generator=generator)[:count]]


def kl_gates(kl: Tensor) -> Tensor:
    """How much a dimension counts: ``1 - exp(-KL)`` of its mean KL, detached.

    It is 0 for a dimension that equals the prior, 0.01 at the 0.01 nats above which a dimension can
    be active (:mod:`captum_vae.posterior.usage`), and 0.63 at one nat.

    Args:
        kl: KL to the prior in nats, (D,) or (B, D).

    Returns:
        Weights (D,) in [0, 1).
    """
    mean = kl.detach() if kl.dim() == 1 else kl.detach().mean(0)
    return -torch.expm1(-mean.clamp(min=0))


class _L1Distances(torch.autograd.Function):
    """``cdist`` of maps (B, D, P) with themselves, p = 1, that can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        ctx.save_for_backward(maps)
        return torch.cdist(maps, maps, p=1.0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (maps,) = ctx.saved_tensors
        return _L1Gradient.apply(gradient + gradient.mT, maps)


class _L1Gradient(torch.autograd.Function):
    """``sum over j of g[i, j] sign(a[i] - a[j])``: linear in g, piecewise constant in the maps."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(maps)
        with torch.enable_grad():
            moved = maps.detach().requires_grad_()
            distances = torch.cdist(moved, maps.detach(), p=1.0)
        return torch.autograd.grad(distances, moved, gradient.contiguous())[0]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> Any:
        (maps,) = ctx.saved_tensors
        rows = [
            ((maps[:, dim : dim + 1] - maps).sign() * cotangent[:, dim : dim + 1]).sum(2)
            for dim in range(maps.shape[1])
        ]
        return torch.stack(rows, 1), None


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Their quotient, and 0 (with gradient 0) where the denominator is 0."""
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1)).masked_fill(empty, 0)


def _pair_columns(pairs: Tensor | None, dims: int, device: torch.device) -> tuple[Tensor, Tensor]:
    if pairs is not None and not isinstance(pairs, Tensor):
        raise TypeError(f"pairs is a {type(pairs).__name__}; wanted a tensor (n, 2) of integers")
    if pairs is None:
        first, second = torch.triu_indices(dims, dims, 1, device=device)
        return first, second
    if pairs.dim() != 2 or pairs.shape[1] != 2 or not len(pairs) or pairs.is_floating_point():
        raise ValueError(
            f"pairs has shape {tuple(pairs.shape)} and dtype {pairs.dtype}; wanted (n, 2) integers"
        )
    for one, other in pairs.tolist():
        if not (0 <= one < dims and 0 <= other < dims) or one == other:
            raise ValueError(
                f"pairs holds ({one}, {other}); wanted two different ones of the latent dimensions "
                f"0 to {dims - 1}"
            )
    first, second = pairs.to(device).unbind(1)
    return first, second


def _checked_pairs(pairs: Any) -> Any:
    """The option ``pairs``, with a list of pairs as a list of tuples."""
    wanted = "wanted 'all', a number of at least 1, or pairs such as [(0, 1), (0, 2)]"
    if isinstance(pairs, str):
        check_choice("pairs", pairs, ("all",))
        return pairs
    if not isinstance(pairs, Sequence):
        return whole_number("pairs", pairs, least=1, hint=wanted)
    found = [tuple(pair) if isinstance(pair, Sequence) else (pair,) for pair in pairs]
    if not found or any(len(pair) != 2 for pair in found):
        raise ValueError(f"pairs={pairs!r}; {wanted}")
    for one, other in found:
        whole_number("pairs", one, least=0, hint=wanted)
        whole_number("pairs", other, least=0, hint=wanted)
        if one == other:
            raise ValueError(f"pairs holds {(one, other)}; wanted two different dimensions")
    return found


def _check_maps(maps: Tensor) -> None:
    floating_tensor("maps", maps, wanted="(B, D, *spatial)")
    if maps.dim() < 3 or maps.shape[1] < 2:
        raise ValueError(
            f"maps has shape {tuple(maps.shape)}; wanted (B, D, *spatial) with D of at least 2"
        )
    if not maps.numel():
        raise ValueError(f"maps has shape {tuple(maps.shape)}: the batch or the maps are empty")
    # On an accelerator reading a value back would stall every step.
    if maps.device.type != "cpu":
        return
    low, high = (float(bound) for bound in maps.detach().aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        image = int((~maps.detach().isfinite()).flatten(1).any(1).nonzero()[0])
        raise NonFiniteMapsError(
            f"maps hold NaN or infinite values, first those of image {image} of the batch: the "
            "model has diverged, or the image itself is not finite"
        )
    if low < 0:
        raise ValueError("maps has negative values; rectify them, with 'relu' or 'abs'")
