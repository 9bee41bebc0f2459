"""Random small encoders of every shape that the engine has to recognise or to leave alone."""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.attr.random_consumers import random_consumer

ACTIVATIONS = {
    "relu": nn.ReLU,
    "relu_inplace": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "leaky_relu_inplace": lambda: nn.LeakyReLU(0.1, inplace=True),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "elu": nn.ELU,
    "selu_inplace": lambda: nn.SELU(inplace=True),
    "celu": nn.CELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "relu6": nn.ReLU6,
    "prelu": nn.PReLU,
    "softsign": nn.Softsign,
    "tanhshrink": nn.Tanhshrink,
    "dropout": lambda: nn.Dropout(0.5),
    "identity": nn.Identity,
}


class Functional(nn.Module):
    """An operation without a module of its own."""

    def __init__(self, name: str, function) -> None:
        super().__init__()
        self.name, self.function = name, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class Skip(nn.Module):
    """x + f(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Gate(nn.Module):
    """Squeeze and excitation: x times a gate computed from its own means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate(x.flatten(2).mean(2)).sigmoid()
        return x * gate.reshape(*gate.shape, *([1] * (x.dim() - 2)))


class Mixer(nn.Module):
    """One operation of ``MIXERS``, which moves, mixes or pools channels, or nearly does."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.function = name, MIXERS[name]

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


def _pools(kind: str, axes: int):
    """``max_pool2d`` and the like by name, for one, two or three axes."""
    return getattr(F, f"{kind}_pool{axes}d")


def _unbatched(kind: str, kernel: int, side: int):
    """A pool of one axis more than there are positions: it takes channels for an axis to pool."""

    def pool(x: Tensor) -> Tensor:
        x = x.flatten(3) if x.dim() == 5 else x  # torch pools three axes at most
        axes = x.dim() - 1
        sides = [min(pair) for pair in zip((kernel, side, side), x.shape[1:], strict=False)]
        if kind.startswith("adaptive"):
            pooled = _pools(kind, axes)(x, sides)
        else:
            padding = [side // 2 for side in sides]
            pooled = _pools(kind, axes)(x, sides, stride=1, padding=padding)
        # Torch's backward pass of it takes no gradient in channels_last order.
        return pooled.flatten(1).reshape(pooled.shape)

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


class TwoHeads(nn.Module):
    """Mean and log-variance from one shared vector, in one of the ways people write it."""

    def __init__(self, width: int, dims: int, kind: str) -> None:
        super().__init__()
        self.kind, self.dims = kind, dims
        if kind == "separate":
            self.mean, self.log_variance = nn.Linear(width, dims), nn.Linear(width, dims)
        else:
            self.both = nn.Linear(width, 2 * dims, bias=kind != "slice")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "separate":
            return self.mean(x), self.log_variance(x)
        both = self.both(x)
        if self.kind == "chunk":
            return tuple(both.chunk(2, 1))
        if self.kind == "interleaved":
            pairs = both.view(-1, self.dims, 2)
            return pairs[..., 0], pairs[..., 1]
        if self.kind == "scaled":
            return 3 * both[:, : self.dims] - 1, both[:, self.dims :]
        return both[:, : self.dims], both[:, self.dims :]


class RandomEncoder(nn.Module):
    """conv -> layer -> tail -> consumers -> mixer -> flatten or pool -> linears -> posterior."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        self.axes = rng.choice([2, 2, 2, 1, 3])
        self.side = {1: 12, 2: rng.choice([6, 7, 8]), 3: 5}[self.axes]
        channels = rng.choice([2, 3, 4])
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[self.axes]
        norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[self.axes]

        def activation() -> nn.Module:
            return ACTIVATIONS[rng.choice(sorted(ACTIVATIONS))]()

        layer = rng.choice(
            [
                lambda: conv(channels, channels, 3, padding=1),
                lambda: nn.Sequential(conv(channels, channels, 3, stride=2), nn.ReLU()),
                lambda: nn.ReLU(inplace=True),
                lambda: nn.Sequential(conv(channels, channels, 3, padding=1), nn.SiLU()),
            ]
        )()
        # An activation that needs its own output cannot be trained with an in-place one behind it.
        stem = nn.Identity() if isinstance(layer, nn.ReLU) else activation()
        self.stem = nn.Sequential(conv(2, channels, 3, padding=1), stem)
        self.layer = layer
        tail: list[nn.Module] = []
        for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
            tail.append(
                rng.choice(
                    [
                        activation,
                        activation,
                        lambda: norm(channels),
                        lambda: nn.GroupNorm(1, channels, eps=0.1),
                        lambda: conv(channels, channels, 3, padding=1),
                        lambda: Skip(activation()),
                        lambda: Skip(conv(channels, channels, 1)),
                        lambda: Gate(channels),
                        lambda: self._pool(rng),
                        lambda: Functional("swish", lambda x: x * torch.sigmoid(x)),
                        lambda: Functional("affine", lambda x: 1 - x / 2),
                        lambda: Functional("detached gate", lambda x: x * x.detach().sigmoid()),
                        lambda: Functional("double branch", lambda x: x.relu() + 0.5 * x),
                    ]
                )()
            )
        for module in tail[1:]:  # what needs its own output stands no in-place operation behind it
            if hasattr(module, "inplace"):
                module.inplace = False
        self.tail = nn.Sequential(*tail)
        self.consumers = self._consumers(rng)
        mixes = rng.random() < 0.5
        self.mixer = Mixer(rng.choice(sorted(MIXERS))) if mixes else nn.Identity()
        self.flatten = rng.choice(
            [
                nn.Flatten(),
                nn.Flatten(),
                Functional("reshape", lambda x: x.reshape(len(x), -1)),
                Functional("view of contiguous", lambda x: x.contiguous().view(x.size(0), -1)),
                Functional("channels last", lambda x: x.movedim(1, -1).flatten(1)),
                Functional("mean", lambda x: x.flatten(2).mean(2)),
                Functional("mean of all axes", lambda x: x.mean(tuple(range(2, x.dim())))),
                Functional("max", lambda x: x.flatten(2).amax(2)),
                Functional("sum", lambda x: x.flatten(2).sum(2)),
                Functional("adaptive", lambda x: _adaptive_pool(x, 1).flatten(1)),
                Functional("adaptive 2", lambda x: _adaptive_pool(x, 2).flatten(1)),
                Functional("mean and max", lambda x: x.flatten(2).mean(2) + x.flatten(2).amax(2)),
            ]
        )
        with torch.no_grad():
            features = self.consumers(self.tail(self.layer(self.stem(self.inputs(2)))))
            try:
                width = self.flatten(self.mixer(features)).shape[1]
            except RuntimeError:  # fewer positions than it needs
                self.mixer = nn.Identity()
                width = self.flatten(features).shape[1]
        hidden: list[nn.Module] = []
        for _ in range(rng.choice([0, 1, 1, 2])):
            wider = rng.choice([5, 9])
            hidden += [nn.Linear(width, wider, bias=rng.random() < 0.8), activation()]
            if rng.random() < 0.2:
                hidden.append(nn.BatchNorm1d(wider))
            if rng.random() < 0.2:
                hidden.append(Skip(nn.Linear(wider, wider)))
            width = wider
        self.hidden = nn.Sequential(*hidden)
        kinds = ["separate", "chunk", "slice", "interleaved", "scaled"]
        self.heads = TwoHeads(width, rng.choice([1, 3, 4]), rng.choice(kinds))
        if rng.random() < 0.2:
            self.requires_grad_(False)
        with torch.no_grad():  # statistics of batch norms that are not the trivial ones
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.running_mean.normal_()
                    module.running_var.uniform_(0.5, 2)

    def _consumers(self, rng: random.Random) -> nn.Sequential:
        """Up to two, with an activation behind each, none of which leaves no position."""
        self.eval()
        chosen: list[nn.Module] = []
        with torch.no_grad():
            x = self.tail(self.layer(self.stem(self.inputs(2))))
            for _ in range(rng.choice([0, 0, 1, 1, 2])):
                consumer = random_consumer(rng, self.axes, x.shape[1]).eval()
                try:
                    made = consumer(x)
                except RuntimeError:  # a kernel larger than what is there
                    continue
                if min(made.shape[2:]) > 0 and made[0, 0].numel() <= 400:
                    x = made
                    chosen += [consumer, rng.choice([nn.ReLU, nn.SiLU, nn.Identity])()]
        return nn.Sequential(*chosen)

    def _pool(self, rng: random.Random) -> nn.Module:
        return rng.choice(
            [
                {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[self.axes](2),
                {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[self.axes](
                    3, stride=2, padding=1, count_include_pad=rng.random() < 0.5
                ),
                {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[self.axes](2),
                {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[self.axes](
                    3, stride=1, padding=1
                ),
                Skip(Functional("average of neighbours", _neighbours_average)),
            ]
        )

    def inputs(self, batch: int) -> Tensor:
        return torch.randn(batch, 2, *([self.side] * self.axes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.consumers(self.tail(self.layer(self.stem(x))))
        return self.heads(self.hidden(self.flatten(self.mixer(features))))


def _neighbours_average(x: Tensor) -> Tensor:
    if min(x.shape[2:]) < 3:  # torch refuses a kernel larger than what it pools
        return x
    return _pools("avg", x.dim() - 2)(x, 3, stride=1, padding=1)


def _adaptive_pool(x: Tensor, size: int) -> Tensor:
    pool = {
        1: F.adaptive_avg_pool1d,
        2: F.adaptive_avg_pool2d,
        3: F.adaptive_avg_pool3d,
    }[x.dim() - 2]
    return pool(x, size)


def weights_by_autograd(model: nn.Module, layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The reference: one plain backward pass per latent dimension.

    Returns:
        alpha (B, D, K), and the same mean of the absolute gradients: where positions cancel, that
        is the size of what was added up, to which a rounding error has to be compared.
    """
    caught = []

    def catch(_module, _args, output: Tensor) -> Tensor:
        caught.append(output.detach().clone().requires_grad_())
        return caught[-1].clone()

    handle = layer.register_forward_hook(catch)
    try:
        mean = model(x)[0]
    finally:
        handle.remove()
    gradients = torch.stack(
        [
            torch.autograd.grad(mean[:, d].sum(), caught[0], retain_graph=True)[0].flatten(2)
            for d in range(mean.shape[1])
        ],
        1,
    )
    return gradients.mean(3), gradients.abs().mean(3)
