"""Maps lie over positions, never over channels: known from evidence, or asked for."""

import pytest
import torch
from torch import Tensor, nn

from captum_vae import LatentGradCAM, watch_forward
from tests.attr.toys import assert_equal

T, C, D = 10, 4, 3


class Sequence(nn.Module):
    """(B, T, C) or (B, C, T) through a body, then the mean over time and two Linears."""

    def __init__(self, body: nn.Module, time: int = 1, width: int = 8) -> None:
        super().__init__()
        self.body, self.time = body, time
        self.fc_mu, self.fc_logvar = nn.Linear(width, D), nn.Linear(width, D)
        self.double().eval()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        # Positions weigh differently, so that maps over them are no constants.
        ramp = torch.linspace(0, 1, hidden.shape[self.time]).to(hidden)
        pooled = (hidden.movedim(self.time, -1) * ramp).mean(-1)
        return self.fc_mu(pooled), self.fc_logvar(pooled)


class TimeFirst(nn.Module):
    """A module that wants (T, B, C), between two transpositions."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x.transpose(0, 1))
        return (out[0] if isinstance(out, tuple) else out).transpose(0, 1)


class Residual(nn.Module):
    """A block of the user's: LayerNorm, Linear, added to what came."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self.norm(x)).relu()


def lift(*modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(C, 8), *modules)


def encoder_layer(**options) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, **options)


LAST = {
    "LSTM": (lambda: nn.LSTM(C, 8, batch_first=True), "body"),
    "GRU": (lambda: nn.GRU(C, 8, batch_first=True), "body"),
    "RNN": (lambda: nn.RNN(C, 8, batch_first=True), "body"),
    "bidirectional LSTM": (lambda: nn.LSTM(C, 4, batch_first=True, bidirectional=True), "body"),
    "Linear": (lambda: lift(nn.Tanh()), "body.0"),
    "activation behind a Linear": (lambda: lift(nn.Tanh()), "body.1"),
    "dropout behind a Linear": (lambda: lift(nn.Dropout(0.5), nn.Tanh()), "body.1"),
    "LayerNorm": (lambda: lift(nn.LayerNorm(8)), "body.1"),
    "encoder layer": (lambda: lift(encoder_layer(batch_first=True)), "body.1"),
    "encoder": (
        lambda: lift(
            nn.TransformerEncoder(
                encoder_layer(batch_first=True, norm_first=True), 2, enable_nested_tensor=False
            )
        ),
        "body.1",
    ),
    "a block of the user's": (lambda: lift(Residual()), "body.1"),
    "a Sequential of blocks": (lambda: lift(nn.Sequential(Residual(), Residual())), "body.1"),
}
FIRST = {
    "Conv1d": (lambda: nn.Sequential(nn.Conv1d(C, 8, 3, padding=1), nn.Tanh()), "body.0"),
    "activation behind a Conv1d": (
        lambda: nn.Sequential(nn.Conv1d(C, 8, 3, padding=1), nn.Tanh()),
        "body.1",
    ),
    "BatchNorm1d": (
        lambda: nn.Sequential(nn.Conv1d(C, 8, 3, padding=1), nn.BatchNorm1d(8)),
        "body.1",
    ),
    "pooling": (
        lambda: nn.Sequential(nn.Conv1d(C, 8, 3, padding=1), nn.AvgPool1d(3, 1, 1)),
        "body.1",
    ),
    "GroupNorm": (
        lambda: nn.Sequential(nn.Conv1d(C, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU()),
        "body.2",
    ),
}
TIME = {
    "LSTM": (lambda: TimeFirst(nn.LSTM(C, 8)), "body.inner"),
    "GRU": (lambda: TimeFirst(nn.GRU(C, 8)), "body.inner"),
    "encoder layer": (
        lambda: nn.Sequential(nn.Linear(C, 8), TimeFirst(encoder_layer())),
        "body.1.inner",
    ),
}


def expected(vae: nn.Module, layer: str, x: Tensor, permute: tuple[int, ...]) -> Tensor:
    """The map of features brought to (B, K, positions) by hand, with gradients from autograd."""
    kept = []

    def keep(_module, _inputs, output):
        tensor = output[0] if isinstance(output, tuple) else output
        tensor = tensor.detach().clone().requires_grad_()
        kept.append(tensor)
        return (tensor, *output[1:]) if isinstance(output, tuple) else tensor

    handle = vae.get_submodule(layer).register_forward_hook(keep)
    mean = vae.encode(x)[0]
    handle.remove()
    rows = [
        torch.autograd.grad(mean[:, d].sum(), kept[0], retain_graph=True)[0].permute(permute)
        for d in range(D)
    ]
    alpha = torch.stack(rows, 1).mean(3)
    return torch.einsum("bdk,bkn->bdn", alpha, kept[0].detach().permute(permute))


def cam_of(vae: nn.Module, layer: str, **options) -> LatentGradCAM:
    return LatentGradCAM(vae, layer, posterior="encode:[0],[1]", **options)


def sequences(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("batch", [2, T])
@pytest.mark.parametrize("kind", LAST)
def test_the_channels_of_tokens_are_found_on_the_last_axis(kind, batch):
    torch.manual_seed(0)
    make, layer = LAST[kind]
    vae, x = Sequence(make()), sequences(batch, T, C)
    found = cam_of(vae, layer).attribute(x, rectifier="none")
    assert_equal(found, expected(vae, layer, x, (0, 2, 1)))


@pytest.mark.parametrize("kind", FIRST)
def test_the_channels_of_convolutions_are_found_on_axis_one(kind):
    torch.manual_seed(0)
    make, layer = FIRST[kind]
    vae, x = Sequence(make(), time=2), sequences(2, C, T)
    found = cam_of(vae, layer).attribute(x, rectifier="none")
    assert_equal(found, expected(vae, layer, x, (0, 1, 2)))


@pytest.mark.parametrize("batch", [2, T])
@pytest.mark.parametrize("kind", TIME)
def test_a_module_that_takes_time_first_puts_out_time_first(kind, batch):
    torch.manual_seed(0)
    make, layer = TIME[kind]
    vae, x = Sequence(make()), sequences(batch, T, C)
    found = cam_of(vae, layer).attribute(x, rectifier="none")
    assert_equal(found, expected(vae, layer, x, (1, 2, 0)))


@pytest.mark.parametrize("kind", ["LSTM", "Linear", "LayerNorm"])
def test_what_a_layer_of_tokens_takes_in_has_its_channels_last_too(kind):
    torch.manual_seed(0)
    make, layer = LAST[kind]
    vae, x = Sequence(make()), sequences(2, T, C)
    cam = cam_of(vae, layer)
    for weighting in ("pooled", "elementwise", "integrated"):
        maps = cam.attribute(x, attribute_to_layer_input=True, weighting=weighting)
        assert maps.shape == (2, D, T)


def test_tokens_of_convolutions_are_followed_through_their_transposition():
    """Patch embedding of a sequence: Conv1d, transposed, then blocks."""

    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.tokens, self.norm = (
                nn.Conv1d(C, 8, 2, 2),
                nn.Identity(),
                nn.LayerNorm(8),
            )

        def forward(self, x):
            return self.norm(self.tokens(self.conv(x).transpose(1, 2)))

    vae, x = Sequence(Patches()), sequences(2, C, T)
    found = cam_of(vae, "body.tokens").attribute(x, rectifier="none")
    assert_equal(found, expected(vae, "body.tokens", x, (0, 2, 1)))


class Unknown(nn.Module):
    """Nothing before or behind tells the axes: products of numbers alone."""

    def __init__(self):
        super().__init__()
        self.look, self.fc_mu, self.fc_logvar = nn.Tanh(), nn.Linear(C, D), nn.Linear(C, D)
        self.double().eval()

    def encode(self, x):
        hidden = self.look(x * 2).sum(1)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


def test_tokens_without_evidence_are_asked_for_with_both_transforms_written_out():
    message = (
        r"layer Tanh\(\) puts out \(2, 10, 4\), and nothing tells which axis holds the channels; "
        r"pass reshape_transform=lambda t: t if it is axis 1, or reshape_transform=lambda t: "
        r"t.transpose\(1, 2\) if it is the last"
    )
    vae, x = Unknown(), sequences(2, T, C)
    with pytest.raises(ValueError, match=message):
        cam_of(vae, "look").attribute(x)
    asked = cam_of(vae, "look", reshape_transform=lambda t: t.transpose(1, 2))
    assert asked.attribute(x).shape == (2, D, T)


@pytest.mark.parametrize("kind", ["LSTM", "Linear", "encoder layer", "a block of the user's"])
def test_the_size_of_an_input_of_sequences_is_its_number_of_steps(kind):
    torch.manual_seed(0)
    make, layer = LAST[kind]
    vae = Sequence(nn.Sequential(nn.Linear(3, C), make()) if kind != "Linear" else make())
    layer = layer if kind == "Linear" else layer.replace("body", "body.1")
    x = sequences(2, 32, C if kind == "Linear" else 3)
    assert cam_of(vae, layer).attribute(x, size="input").shape == (2, D, 32)


def test_the_size_of_an_input_with_channels_first_is_its_length():
    make, layer = FIRST["Conv1d"]
    vae = Sequence(make(), time=2)
    assert cam_of(vae, layer).attribute(sequences(2, C, 32), size="input").shape == (2, D, 32)


def test_an_input_of_which_nothing_tells_the_positions_asks_for_the_size():
    cam = cam_of(Unknown(), "look", reshape_transform=lambda t: t.transpose(1, 2))
    with pytest.raises(
        ValueError, match="size='input': nothing tells which axes of the inputs are"
    ):
        cam.attribute(sequences(2, T, C), size="input")


class Image(nn.Module):
    """A small vision transformer: patches, class tokens, a block; the head reads their mean."""

    def __init__(self, prefix: int = 1) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, 4)
        self.prefix = nn.Parameter(torch.zeros(1, prefix, 8))
        self.block = encoder_layer(batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.fc_mu, self.fc_logvar = nn.Linear(8, D), nn.Linear(8, D)
        self.double().eval()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1)
        hidden = self.norm(self.block(tokens)).mean(1)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize("layer", ["block", "norm", "block.linear2"])
def test_tokens_of_an_image_are_refused_with_the_transform_to_write(layer, prefix):
    vae, x = Image(prefix), sequences(2, 1, 8, 16)
    with pytest.raises(ValueError, match="tokens of an image of 8 x 16 pixels") as refusal:
        cam_of(vae, layer).attribute(x)
    transform = str(refusal.value).split("reshape_transform=")[1]
    maps = cam_of(vae, layer, reshape_transform=eval(transform)).attribute(x, size="input")
    assert maps.shape == (2, D, 8, 16)
    assert ("[:, " in transform) == bool(prefix)


class LastAxisImage(nn.Module):
    """Convolution, then blocks on (B, H, W, C), as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.mix = nn.Conv2d(1, 8, 2, 2), nn.LayerNorm(8), nn.Linear(8, 8)
        self.act, self.fc_mu, self.fc_logvar = nn.GELU(), nn.Linear(8, D), nn.Linear(8, D)
        self.double().eval()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.act(self.mix(self.norm(self.patches(x).permute(0, 2, 3, 1))))
        return self.fc_mu(hidden.mean((1, 2))), self.fc_logvar(hidden.mean((1, 2)))


@pytest.mark.parametrize("layer", ["norm", "mix"])
def test_image_features_with_channels_last_are_refused_with_the_permutation(layer):
    vae, x = LastAxisImage(), sequences(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"last axis.*lambda t: t.permute\(0, 3, 1, 2\)"):
        cam_of(vae, layer).attribute(x)
    asked = cam_of(vae, layer, reshape_transform=lambda t: t.permute(0, 3, 1, 2))
    assert asked.attribute(x).shape == (2, D, 4, 4)
    assert cam_of(vae, "patches").attribute(x).shape == (2, D, 4, 4)


def test_a_layer_norm_that_permutes_to_channels_and_back_keeps_its_channels_on_axis_one():
    class LayerNorm2d(nn.LayerNorm):
        """As timm's and torchvision's."""

        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class ConvNeXt(LastAxisImage):
        def __init__(self):
            super().__init__()
            self.norm2d = LayerNorm2d(8).double()

        def encode(self, x):
            hidden = self.norm2d(self.patches(x)).mean((2, 3))
            return self.fc_mu(hidden), self.fc_logvar(hidden)

    maps = cam_of(ConvNeXt(), "norm2d").attribute(sequences(2, 1, 8, 8))
    assert maps.shape == (2, D, 4, 4)


class Stage(nn.Module):
    """A block of the user's whose class tells nothing: what it puts out ends the encoder."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.conv, self.mix, self.last = nn.Conv2d(1, 8, 2, 2), nn.Linear(8, 8), last

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv(x).permute(0, 2, 3, 1)
        hidden = hidden + self.mix(hidden)
        return hidden if self.last else hidden.permute(0, 3, 1, 2)


class Flat(nn.Module):
    """A body, flattened into the heads."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body = body
        self.fc_mu, self.fc_logvar = nn.Linear(width, D), nn.Linear(width, D)
        self.double().eval()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x).flatten(1)
        return self.fc_mu(hidden), self.fc_logvar(hidden)


def test_what_made_the_features_tells_where_nothing_behind_them_does():
    x = sequences(2, 1, 8, 8)
    with pytest.raises(ValueError, match=r"\(2, 4, 4, 8\) with the channels on the last axis"):
        cam_of(Flat(Stage(last=True), 128), "body").attribute(x)
    assert cam_of(Flat(Stage(last=False), 128), "body").attribute(x).shape == (2, D, 4, 4)


def test_windows_of_images_are_no_images():
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 8)

        def forward(self, x: Tensor) -> Tensor:
            pieces = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(-1, 4, 4)
            return self.inner(pieces).reshape(len(x), -1)

    with pytest.raises(ValueError, match=r"\(8, 4, 8\) for a batch of 2 images: pieces of images"):
        cam_of(Flat(Windows(), 128), "body.inner").attribute(sequences(2, 1, 8, 8))


@pytest.mark.parametrize("batch", [2, 6])
def test_a_linear_on_time_first_is_explained_over_time(batch):
    """Also with as many samples as steps, where the shape alone does not tell them apart."""
    torch.manual_seed(0)
    vae, x = Sequence(TimeFirst(nn.Sequential(nn.Linear(C, 8), nn.ReLU()))), sequences(6, 6, C)
    cam = cam_of(vae, "body.inner.0")
    maps = cam.attribute(x[:batch])
    assert maps.shape == (batch, D, 6)
    alone = torch.cat([cam_of(vae, "body.inner.0").attribute(one[None]) for one in x[:batch]])
    assert_equal(maps, alone)


def test_an_image_given_with_channels_last_is_resized_to_its_rows_and_columns():
    class ChannelsLastInput(LastAxisImage):
        def encode(self, x):
            return super().encode(x.permute(0, 3, 1, 2))

    maps = cam_of(ChannelsLastInput(), "patches").attribute(sequences(2, 12, 8, 1), size="input")
    assert maps.shape == (2, D, 12, 8)


@pytest.mark.parametrize("kind", ["LSTM", "Linear", "encoder layer"])
def test_a_watched_forward_finds_the_channels_too(kind):
    torch.manual_seed(0)
    make, layer = LAST[kind]
    vae, x = Sequence(make()), sequences(2, T, C)
    with watch_forward(vae, layer) as watched:
        mean, _ = vae.encode(x)
    assert_equal(watched.maps(mean, rectifier="none").detach(), expected(vae, layer, x, (0, 2, 1)))
