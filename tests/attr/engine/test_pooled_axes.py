"""Operations between features and heads that move, mix or pool channels, or nearly do.

The closed forms hold only where positions, and nothing but positions, are pooled. Whatever an
operation does, the channel weights equal float64 autograd's.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.attr.engine.test_channel_weights import engine_weights, relative_error


def _pools(kind: str, axes: int):
    """``max_pool2d`` and the like by name, for one, two or three axes."""
    return getattr(F, f"{kind}_pool{axes}d")


def _unbatched(kind: str, kernel: int, *others: int):
    """A pool of one axis more than there are positions: it takes channels for an axis to pool."""

    def pool(x: Tensor) -> Tensor:
        x = x.flatten(3) if x.dim() == 5 else x  # torch pools three axes at most
        x, axes = x.contiguous(), x.dim() - 1  # its backward pass takes no channels_last here
        rest = (*others, *others, *others)[: axes - 1]
        if kind.startswith("adaptive"):
            return _pools(kind, axes)(x, (kernel, *rest))
        padding = (kernel // 2, *(side // 2 for side in rest))
        return _pools(kind, axes)(x, (kernel, *rest), stride=1, padding=padding)

    return pool


def _last_axis(kind: str):
    """A pool over the last axis of positions alone, seen as a signal of every row."""

    def pool(x: Tensor) -> Tensor:
        rows = x.flatten(1, -2)
        return _pools(kind, 1)(rows, 2).unflatten(1, x.shape[1:-1])

    return pool


def _among_channels(kind: str):
    """A pool over neighbouring channels, as inside a local response norm."""

    def pool(x: Tensor) -> Tensor:
        flat = x.flatten(2)[:, None]
        pooled = _pools(kind, 2)(flat, (3, 1), stride=1, padding=(1, 0))
        return pooled[:, 0].reshape(x.shape)

    return pool


def _as_images(function):
    """A function of images (B, K, h, w) for features with any number of positions' axes."""

    def on_images(x: Tensor) -> Tensor:
        image = x[..., None] if x.dim() == 3 else x.flatten(3)
        even = image[:, :, : image.shape[2] // 2 * 2]
        return function(torch.cat([even, even], 3) if even.shape[3] % 2 else even)

    return on_images


def _unshuffled(x: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, 2)


def _shuffled(x: Tensor) -> Tensor:
    return F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2)


def _folded(x: Tensor) -> Tensor:
    columns = F.unfold(x, (2, 1), stride=(2, 1))
    return F.fold(columns * columns.sigmoid(), x.shape[2:], (2, 1), stride=(2, 1))


def _shuffled_by_hand(x: Tensor) -> Tensor:
    return x.unflatten(1, (1, x.shape[1])).transpose(1, 2).flip(1).flatten(1, 2)


def _in_place(x: Tensor) -> Tensor:
    copy = x.clone()
    copy[:, 0].mul_(2).tanh_()
    return copy


def _overwritten(x: Tensor) -> Tensor:
    copy = x.clone()
    copy[:, :1] = x[:, -1:].sin()
    return copy


MIXERS = {
    **{
        f"{kind} over channels {sides}": _unbatched(kind, *sides)
        for kind in ("max", "avg")
        for sides in ((3, 1), (3, 3), (1, 3), (1, 1), (2, 1))
    },
    **{
        f"{kind} over channels {sides}": _unbatched(kind, *sides)
        for kind in ("adaptive_max", "adaptive_avg")
        for sides in ((2, 1), (2, 2), (3, 2), (4, 1), (1, 2))
    },
    **{f"{kind} of the last axis": _last_axis(kind) for kind in ("max", "avg")},
    **{f"{kind} among channels": _among_channels(kind) for kind in ("max", "avg")},
    "max over the last axis": lambda x: x.amax(-1),
    "mean over the first positions": lambda x: x.mean(2, keepdim=True),
    "mean over channels": lambda x: x.mean(1, keepdim=True),
    "mean over channels and positions": lambda x: x - x.mean(tuple(range(1, x.dim())), True),
    "mean over the batch": lambda x: x - x.mean(0, keepdim=True),
    "batch turned": lambda x: x.flip(0),
    "channel shuffle": lambda x: F.channel_shuffle(x.unsqueeze(-1), x.shape[1]).squeeze(-1),
    "channel shuffle in pairs": lambda x: F.channel_shuffle(
        torch.cat([x, x.square()], 1).flatten(2)[..., None], 2
    ),
    "channel shuffle by hand": _shuffled_by_hand,
    "unfold and fold": _as_images(_folded),
    "unfold": _as_images(lambda x: F.unfold(x, 2)),
    "unfold of a tensor": lambda x: x.unfold(2, 2, 1).movedim(-1, 1).flatten(1, 2),
    "unfold over channels": lambda x: x.unfold(1, 2, 1).sum(-1),
    "pixel unshuffle": _as_images(_unshuffled),
    "pixel shuffle": _as_images(_shuffled),
    "local response norm of 2": lambda x: F.local_response_norm(x, 2, alpha=0.5),
    "local response norm of 3": lambda x: F.local_response_norm(x, 3, alpha=0.5),
    "local response norm of 1": lambda x: F.local_response_norm(x, 1, alpha=0.5),
    "channels rolled": lambda x: x.roll(1, 1),
    "positions rolled": lambda x: x.roll(1, -1),
    "channels turned": lambda x: x.flip(1),
    "channels and positions exchanged": lambda x: x.transpose(1, 2),
    "channels and positions exchanged in a flatten": lambda x: x.flatten(2).mT,
    "positions taken for channels": lambda x: x.reshape(len(x), x.shape[2], x.shape[1], -1),
    "pool of positions taken for channels": lambda x: F.max_pool2d(
        x.reshape(len(x), x.shape[2], x.shape[1], -1), (2, 1)
    ),
    "pool of permuted positions": lambda x: F.avg_pool1d(x.flatten(2).mT, 2),
    "pool of channels' halves": lambda x: (
        F.avg_pool1d(x.reshape(len(x), 2 * x.shape[1], -1), 2) if x[0, 0].numel() % 2 == 0 else x
    ),
    "running sum over channels": lambda x: x.cumsum(1),
    "running sum over positions": lambda x: x.cumsum(-1),
    "sorted channels": lambda x: x.sort(1).values,
    "sorted positions": lambda x: x.flatten(2).sort(-1).values,
    "softmax over channels": lambda x: x.softmax(1),
    "softmax over positions": lambda x: x.flatten(2).softmax(-1),
    "enlarged": lambda x: F.interpolate(x, scale_factor=2),
    "enlarged linearly over channels": lambda x: F.interpolate(
        x.flatten(2)[:, None], size=(x.shape[1] + 1, 5), mode="bilinear"
    ),
    "padded channels": lambda x: F.pad(x, (0, 0) * (x.dim() - 2) + (1, 1)),
    "padded positions": lambda x: F.pad(x, (1, 1)),
    "joined along channels": lambda x: torch.cat([x.relu(), -x], 1),
    "joined along positions": lambda x: torch.cat([x, x.tanh()], 2),
    "maximum of halves": lambda x: torch.maximum(*torch.cat([x, x.flip(1)], 1).chunk(2, 1)),
    "gated linear unit": lambda x: F.glu(torch.cat([x, x.flip(1)], 1), 1),
    "repeated": lambda x: x.repeat_interleave(2, 1),
    "tiled": lambda x: x.repeat(1, 2, *[1] * (x.dim() - 2)),
    "expanded": lambda x: x[:, None].expand(-1, 2, *x.shape[1:]).flatten(1, 2),
    "einsum": lambda x: torch.einsum("bkp,bjp->bkj", x.flatten(2), x.flatten(2)),
    "picked": lambda x: x.index_select(1, torch.arange(x.shape[1] - 1, -1, -1)),
    "selected": lambda x: x[:, 1:],
    "strided": lambda x: x.contiguous().as_strided(
        (len(x), *x.shape[1:]), (x[0].numel(), *x[0].contiguous().stride())
    ),
    "strided across": lambda x: (
        x.flatten(2)
        .contiguous()
        .as_strided((len(x), x[0, 0].numel(), x.shape[1]), (x[0].numel(), 1, x[0, 0].numel()))
    ),
    "turned rows": lambda x: x.flip(-1),
    "lower triangle": lambda x: x.flatten(2).tril(),
    "masked": lambda x: x.masked_fill(x < 0.1, 0.3),
    "chosen": lambda x: torch.where(x > 0, x, x.flip(1)),
    "differences of channels": lambda x: x.diff(dim=1),
    "norm of channels": lambda x: F.normalize(x, dim=1),
    "batch of one channel": lambda x: F.max_pool1d(x.reshape(-1, 1, x[0, 0].numel()), 2).reshape(
        len(x), x.shape[1], -1
    ),
    "in place on a part": _in_place,
    "overwritten channel": _overwritten,
}


CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIDES = {1: (12,), 2: (6, 8), 3: (4, 6, 4)}


class Encoder(nn.Module):
    """A convolution, one of the operations above, and two linear heads."""

    def __init__(self, name: str, axes: int) -> None:
        super().__init__()
        self.layer = CONVOLUTIONS[axes](1, 4, 3, padding=1)
        self.operation = MIXERS[name]
        self.inputs = torch.randn(3, 1, *SIDES[axes], dtype=torch.float64)
        with torch.no_grad():
            width = self.double().before_heads(self.inputs).shape[1]
        self.fc_mu, self.fc_logvar = (nn.Linear(width, 3).double() for _ in range(2))

    def before_heads(self, x: Tensor) -> Tensor:
        return self.operation(self.layer(x)).flatten(1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.before_heads(x)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


def takes(name: str, axes: int) -> bool:
    """Whether the operation is defined for features with so many axes of positions."""
    try:
        with torch.no_grad():
            MIXERS[name](torch.randn(3, 4, *SIDES[axes]))
    except (RuntimeError, ValueError, IndexError, NotImplementedError):
        return False
    return True


CASES = [(name, axes) for name in MIXERS for axes in SIDES if takes(name, axes)]


@pytest.mark.parametrize(("name", "axes"), CASES)
def test_weights_behind_the_operation_equal_float64_autograd(name: str, axes: int) -> None:
    torch.manual_seed(axes)
    model = Encoder(name, axes).eval()
    features = model.layer(model.inputs).detach().requires_grad_()
    mean = model.fc_mu(model.operation(features).flatten(1))
    rows = [
        torch.autograd.grad(mean[:, d].sum(), features, retain_graph=True)[0].flatten(2).mean(2)
        for d in range(3)
    ]
    found, _ = engine_weights(model, model.layer, model.inputs)
    assert relative_error(found, torch.stack(rows, 1)) < 1e-10


@pytest.mark.parametrize(
    ("operation", "axes", "path"),
    [
        (nn.MaxPool3d((3, 1, 1), stride=1, padding=(1, 0, 0)), 2, "vector_jacobian"),
        (nn.AvgPool3d((3, 1, 1), stride=1, padding=(1, 0, 0)), 2, "vector_jacobian"),
        (nn.AdaptiveMaxPool3d((4, 2, 2)), 2, "vector_jacobian"),
        (nn.AdaptiveAvgPool3d((4, 2, 2)), 2, "vector_jacobian"),
        (nn.MaxPool2d((3, 1), stride=1, padding=(1, 0)), 1, "vector_jacobian"),
        (nn.AvgPool2d((1, 2)), 1, "vector_jacobian"),
        (nn.MaxPool1d(2), 1, "pooled"),
        (nn.AvgPool1d(2), 1, "pooled"),
        (nn.MaxPool2d(2), 2, "pooled"),
        (nn.AvgPool2d(3, 2, 1), 2, "pooled"),
        (nn.AdaptiveAvgPool2d(2), 2, "pooled"),
        (nn.MaxPool3d(2), 3, "pooled"),
        (nn.AvgPool3d(2), 3, "pooled"),
    ],
    ids=str,
)
def test_only_a_pool_of_all_positions_and_no_channel_has_a_closed_form(
    operation: nn.Module, axes: int, path: str
) -> None:
    torch.manual_seed(0)
    MIXERS["tried"] = operation
    try:
        model = Encoder("tried", axes).eval()
        assert engine_weights(model, model.layer, model.inputs)[1] == path
        test_weights_behind_the_operation_equal_float64_autograd("tried", axes)
    finally:
        del MIXERS["tried"]
