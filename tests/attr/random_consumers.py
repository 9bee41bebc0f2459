"""Random operations that take features: convolutions of every kind, in branches and blocks."""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
PADDING_MODES = ("zeros", "zeros", "zeros", "reflect", "replicate", "circular")


def convolution(rng: random.Random, axes: int, channels: int) -> nn.Module:
    """Any kernel, stride, padding, dilation, number of groups and padding mode."""
    groups = rng.choice([g for g in (1, 1, 2, channels) if channels % g == 0])
    dilation = [rng.choice([1, 1, 2]) for _ in range(axes)]
    same = rng.random() < 0.15
    return CONV[axes](
        channels,
        groups * rng.choice([1, 2]),
        [rng.choice([1, 2, 3, 3, 4]) for _ in range(axes)],
        stride=1 if same else [rng.choice([1, 1, 2, 3]) for _ in range(axes)],
        padding="same" if same else [rng.choice([0, 1, 2]) for _ in range(axes)],
        dilation=dilation,
        groups=groups,
        bias=rng.random() < 0.8,
        padding_mode=rng.choice(PADDING_MODES),
    )


def transposed_convolution(rng: random.Random, axes: int, channels: int) -> nn.Module:
    """One whose output padding may reach as far as its stride or dilation allows."""
    groups = rng.choice([g for g in (1, 2, channels) if channels % g == 0])
    stride = [rng.choice([1, 2, 3]) for _ in range(axes)]
    dilation = [rng.choice([1, 1, 2]) for _ in range(axes)]
    return TRANSPOSED[axes](
        channels,
        groups * rng.choice([1, 2]),
        [rng.choice([1, 2, 3]) for _ in range(axes)],
        stride=stride,
        padding=[rng.choice([0, 1]) for _ in range(axes)],
        output_padding=[rng.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True)],
        groups=groups,
        dilation=dilation,
    )


class Branches(nn.Module):
    """Several consumers of the same features, whose outputs are added or joined."""

    def __init__(self, branches: list[nn.Module], join: str) -> None:
        super().__init__()
        self.branches, self.join = nn.ModuleList(branches), join

    def forward(self, x: Tensor) -> Tensor:
        made = [branch(x) for branch in self.branches]
        if self.join == "add":
            return made[0] + made[1]
        if self.join == "subtract":
            return torch.sub(made[0], made[1], alpha=0.5)
        if self.join == "multiply":
            return made[0] * made[1].sigmoid()
        return torch.cat(made, 1)


class Joined(nn.Module):
    """A convolution's output at every position plus a Linear's of all values or of their means."""

    def __init__(self, conv: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.conv, self.linear = conv, linear

    def forward(self, x: Tensor) -> Tensor:
        values = x.flatten(1)
        if values.shape[1] != self.linear.in_features:
            values = x.flatten(2).mean(2)
        return self.conv(x) + self.linear(values).reshape(len(x), -1, *[1] * (x.dim() - 2))


class Padded(nn.Module):
    """A convolution behind padding or enlarging of its own."""

    def __init__(self, conv: nn.Module, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = conv, kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "constant":
            x = F.pad(x, (2, 1) + (0, 1) * (x.dim() - 3))
        elif self.kind == "cropped":
            x = F.pad(x, (-1, 0))
        elif self.kind == "nearest":
            x = F.interpolate(x, scale_factor=2)
        elif self.kind == "linear":
            mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[x.dim()]
            x = F.interpolate(x, scale_factor=1.5, mode=mode)
        else:
            x = F.pad(x, (1, 1) * (x.dim() - 2), mode=self.kind)
        return self.conv(x)


def _block(rng: random.Random, axes: int, channels: int) -> nn.Module:
    """conv -> batch norm -> ReLU -> conv, as many channels out as in and as many positions."""
    middle = channels * rng.choice([1, 2])
    return nn.Sequential(
        CONV[axes](channels, middle, 3, padding=1),
        NORM[axes](middle),
        nn.ReLU(),
        CONV[axes](middle, channels, 1),
    )


def _residual(rng: random.Random, axes: int, channels: int) -> nn.Module:
    join = rng.choice(["add", "add", "subtract", "multiply", "cat"])
    branches = [nn.Identity(), _block(rng, axes, channels)]
    rng.shuffle(branches)
    return nn.Sequential(Branches(branches, join), rng.choice([nn.ReLU, nn.Identity, nn.Tanh])())


def _downsampling(rng: random.Random, axes: int, channels: int) -> nn.Module:
    """As at the start of a ResNet's stage."""
    wide = channels + 1
    body = nn.Sequential(
        CONV[axes](channels, wide, 3, stride=2, padding=1, bias=False),
        NORM[axes](wide),
        nn.ReLU(inplace=True),
        CONV[axes](wide, wide, 3, padding=1, bias=False),
    )
    shortcut = nn.Sequential(CONV[axes](channels, wide, 1, stride=2, bias=False), NORM[axes](wide))
    return nn.Sequential(Branches([body, shortcut], "add"), nn.ReLU())


def _preactivated(rng: random.Random, axes: int, channels: int) -> nn.Module:
    """Batch norm, perhaps a ReLU, then a convolution."""
    between = [nn.ReLU()] if rng.random() < 0.5 else []
    return nn.Sequential(NORM[axes](channels), *between, convolution(rng, axes, channels))


def _pooled(rng: random.Random, axes: int, channels: int) -> nn.Module:
    kind = rng.choice(["MaxPool", "AvgPool"])
    options = {} if kind == "MaxPool" else {"count_include_pad": rng.random() < 0.5}
    pool = getattr(nn, f"{kind}{axes}d")(3, stride=rng.choice([1, 2]), padding=1, **options)
    between = [nn.ReLU()] if rng.random() < 0.5 else []
    return nn.Sequential(*between, pool, convolution(rng, axes, channels))


def _with_linear(rng: random.Random, axes: int, channels: int) -> nn.Module:
    """Used where the features' means are as many as their channels; see ``Joined``."""
    return Joined(CONV[axes](channels, 3, 2), nn.Linear(channels, 3))


CONSUMERS = {
    "convolution": convolution,
    "transposed convolution": transposed_convolution,
    "residual block": _residual,
    "downsampling block": _downsampling,
    "preactivated": _preactivated,
    "behind a pool": _pooled,
    "with a Linear": _with_linear,
    **{
        f"behind {kind}": lambda rng, axes, channels, kind=kind: Padded(
            convolution(rng, axes, channels), kind
        )
        for kind in ("constant", "cropped", "reflect", "replicate", "circular", "nearest", "linear")
    },
    "two convolutions": lambda rng, axes, channels: Branches(
        [CONV[axes](channels, 2, 3, padding=1), CONV[axes](channels, 3, 1)], "cat"
    ),
}


def random_consumer(rng: random.Random, axes: int, channels: int) -> nn.Module:
    """One of ``CONSUMERS``, the convolution more often than the others."""
    names = [*sorted(CONSUMERS), *["convolution"] * 4, *["residual block"] * 2]
    return CONSUMERS[rng.choice(names)](rng, axes, channels)
