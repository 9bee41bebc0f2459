"""Random small encoders of every shape that the engine has to recognise or to leave alone."""

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
    """conv ... -> layer -> tail -> flatten or pool -> linears -> (mean, log-variance)."""

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
        self.tail = nn.Sequential(*tail)
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
            features = self.tail.eval()(self.layer.eval()(self.stem(self.inputs(1))))
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
                Skip(
                    {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}[self.axes](
                        3, stride=1, padding=1
                    )
                ),
            ]
        )

    def inputs(self, batch: int) -> Tensor:
        return torch.randn(batch, 2, *([self.side] * self.axes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.hidden(self.flatten(self.tail(self.layer(self.stem(x))))))


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
