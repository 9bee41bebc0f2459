"""The attention disentanglement loss against brute force, finite differences and transcriptions."""

import copy
import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from captum_vae.attr import LatentGradCAM, watch_forward
from captum_vae.losses import AttentionDisentanglementLoss, attention_overlap, pair_overlap
from captum_vae.losses.attention_disentanglement import kl_gates, random_pairs

MODES = ("paper", "replication", "normalised")
CHOSEN = torch.tensor([[0, 3], [2, 1], [3, 4], [0, 3]])


def some_maps(*shape: int) -> Tensor:
    maps = torch.rand(*(shape or (3, 5, 4, 2)), dtype=torch.float64)
    return maps * (maps > 0.2)


def brute_force(maps, mode, pairs, aggregation, gates):
    """Pair by pair, image by image, pixel by pixel, in Python floats."""
    images, dims = maps.shape[:2]
    values = maps.flatten(2).tolist()
    if mode == "normalised":
        values = [[[v / sum(m) for v in m] for m in image] for image in values]
    if pairs is None:
        pairs = list(itertools.combinations(range(dims), 2))
    total = weights = 0.0
    for i, j in pairs:
        lower = [sum(map(min, image[i], image[j])) for image in values]
        masses = [sum(image[i]) + sum(image[j]) for image in values]
        if mode == "replication":
            overlap = 2 * sum(lower) / sum(masses) / images
        else:
            overlap = sum(2 * m / s for m, s in zip(lower, masses, strict=True)) / images
        weight = 1.0 if gates is None else float(gates[i] * gates[j])
        total, weights = total + weight * overlap, weights + weight
    return total / weights if aggregation == "mean" else total


class SmallVAE(nn.Module):
    """Two convolutions and two linear layers, so that every way to the channel weights occurs."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.below = nn.Conv2d(1, 3, 3)
        self.conv = nn.Conv2d(3, 4, 2)
        self.activation = activation()
        self.hidden = nn.Linear(4 * 9, 6)
        self.mean = nn.Linear(6, 3)
        self.log_variance = nn.Linear(6, 3)
        self.calls = 0

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.calls += 1
        hidden = self.activation(self.conv(self.below(x).tanh())).flatten(1)
        hidden = self.activation(self.hidden(hidden))
        return x, self.mean(hidden), self.log_variance(hidden)


@pytest.fixture
def vae() -> SmallVAE:
    return SmallVAE().double()


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 1, 6, 6, dtype=torch.float64)


def test_two_known_maps_overlap_by_the_number_worked_out_by_hand():
    first = torch.tensor([[3.0, 1.0], [1.0, 0.0], [2.0, 5.0]])
    second = torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, 5.0]])
    assert pair_overlap(first, second).tolist() == pytest.approx([2 * 2 / 6, 0.0, 1.0])
    maps = torch.stack([first, second], 1)
    # unit masses: (3/4, 1/4) against (1/2, 1/2) share 1/2 + 1/4
    assert float(attention_overlap(maps)) == pytest.approx((0.75 + 0 + 1) / 3)
    assert float(attention_overlap(maps, mode="paper")) == pytest.approx((4 / 6 + 0 + 1) / 3)
    assert float(attention_overlap(maps, mode="replication")) == pytest.approx(2 * 9 / 22 / 3)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("aggregation", ["mean", "sum"])
@pytest.mark.parametrize("pairs", [None, CHOSEN, "random"], ids=["all", "chosen", "random"])
@pytest.mark.parametrize("gated", [False, True], ids=["ungated", "gated"])
def test_the_loss_equals_brute_force_over_pairs_images_and_pixels(mode, aggregation, pairs, gated):
    maps = some_maps()
    gates = torch.rand(5, dtype=torch.float64) if gated else None
    if isinstance(pairs, str):
        pairs = random_pairs(5, 4, generator=torch.Generator().manual_seed(7))
    expected = brute_force(
        maps, mode, None if pairs is None else pairs.tolist(), aggregation, gates
    )
    got = attention_overlap(maps, mode=mode, pairs=pairs, aggregation=aggregation, gates=gates)
    assert float(got) == pytest.approx(expected, abs=1e-12, rel=0)


@pytest.mark.parametrize("mode", MODES)
def test_all_496_pairs_of_32_dimensions_equal_brute_force(mode):
    maps = some_maps(2, 32, 4, 4)
    got = attention_overlap(maps, mode=mode)
    assert float(got) == pytest.approx(brute_force(maps, mode, None, "mean", None), abs=1e-12)


def test_replication_equals_a_transcription_of_the_published_formula():
    maps = some_maps(6, 2, 3, 3)

    def ad_loss(both: Tensor, batch: int) -> Tensor:  # both maps of all images, (2, everything)
        smaller = torch.min(both, dim=0).values.sum()
        return (2 * smaller / both.sum()).div(batch)

    expected = ad_loss(maps.transpose(0, 1).flatten(1), batch=6)
    assert float(attention_overlap(maps, mode="replication")) == pytest.approx(
        float(expected), abs=1e-15
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pairs", [None, CHOSEN], ids=["all", "chosen"])
def test_first_and_second_derivatives_equal_finite_differences(mode, pairs):
    maps = (0.1 + torch.rand(2, 5, 3, 2, dtype=torch.float64)).requires_grad_()

    def loss(values: Tensor) -> Tensor:
        return attention_overlap(values, mode=mode, pairs=pairs).square()

    assert gradcheck(loss, maps)
    assert gradgradcheck(loss, maps)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("pairs", [None, CHOSEN], ids=["all", "chosen"])
def test_maps_without_mass_overlap_by_zero_with_finite_gradients(mode, pairs):
    zero = torch.zeros(2, 5, 3, 2, requires_grad=True)
    loss = attention_overlap(zero, mode=mode, pairs=pairs)
    (gradient,) = torch.autograd.grad(loss, zero)
    assert loss.item() == 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
def test_one_map_without_mass_adds_nothing(mode):
    maps = some_maps(3, 4, 2, 2)
    maps[:, 1] = 0
    rest = maps[:, [0, 2, 3]]
    loss = attention_overlap(maps, mode=mode, aggregation="sum")
    assert float(loss) == pytest.approx(
        float(attention_overlap(rest, mode=mode, aggregation="sum")), abs=1e-12
    )


@pytest.mark.parametrize("mode", ["paper", "normalised"])
def test_the_loss_of_a_batch_is_the_mean_over_its_images(mode):
    maps = some_maps()
    single = torch.stack([attention_overlap(image[None], mode=mode) for image in maps])
    assert float(attention_overlap(maps, mode=mode)) == pytest.approx(float(single.mean()))


def test_only_normalised_maps_cannot_be_gamed_by_shrinking_one():
    maps = some_maps()
    shrunk = maps * torch.tensor([1, 1, 1e-5, 1, 1]).view(1, 5, 1, 1)
    assert float(attention_overlap(shrunk)) == pytest.approx(float(attention_overlap(maps)))
    lowered = attention_overlap(shrunk, mode="paper") / attention_overlap(maps, mode="paper")
    assert lowered < 0.7


def test_half_precision_maps_are_summed_in_float32():
    maps = some_maps()
    loss = attention_overlap(maps.bfloat16())
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(
        float(attention_overlap(maps.bfloat16().double())), abs=1e-6
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_collapsed_dimension_does_not_count_behind_the_kl_gate(mode):
    maps, kl = some_maps(), torch.tensor([3.0, 1.0, 0.0, 5.0, 0.2], dtype=torch.float64)
    alive = [0, 1, 3, 4]
    loss = AttentionDisentanglementLoss(mode, gate="kl")
    assert float(loss(maps, kl=kl)) == pytest.approx(
        float(loss(maps[:, alive], kl=kl[alive])), abs=1e-12
    )


def test_kl_gates_follow_their_formula_and_carry_no_gradient():
    kl = torch.tensor([[0.0, 1.0], [0.0, 3.0]], requires_grad=True)
    gates = kl_gates(kl)
    assert gates.tolist() == pytest.approx([0, 1 - math.exp(-2)])
    assert not gates.requires_grad


def test_a_batch_without_active_dimensions_gives_zero():
    loss = AttentionDisentanglementLoss(gate="kl")
    assert float(loss(some_maps(), kl=torch.zeros(5))) == 0


@pytest.mark.parametrize("mode", MODES)
def test_maps_made_here_are_those_of_latent_grad_cam(vae, mode):
    x = images()
    options = {
        "paper": {},
        "replication": {"preset": "replication_b"},
        "normalised": {"rectifier": "abs"},
    }[mode]
    cam = LatentGradCAM(vae, "conv", posterior="forward:[1]")
    expected = attention_overlap(cam.attribute(x, **options), mode=mode)
    got = AttentionDisentanglementLoss(mode).of_images(cam, x)
    assert got.item() == pytest.approx(expected.item(), abs=1e-12)


def test_other_maps_than_the_modes_own_can_be_chosen(vae):
    x = images()
    cam = LatentGradCAM(vae, "conv", posterior="forward:[1]")
    expected = attention_overlap(
        cam.attribute(x, rectifier="abs", order="channelwise"), mode="paper"
    )
    loss = AttentionDisentanglementLoss("paper", rectifier="abs", order="channelwise")
    assert loss.of_images(cam, x).item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_loss_needs_no_forward_of_its_own_in_a_training_step(vae):
    x = images()
    overlap = AttentionDisentanglementLoss(gate="kl")
    with watch_forward(vae, vae.conv) as watched:
        _, mean, log_variance = vae(x)
    overlap.of_forward(watched, mean, log_variance).backward()
    assert vae.calls == 1
    assert not vae.conv._forward_hooks


WAYS = [
    pytest.param("conv", nn.ReLU, "masked", id="masked linear"),
    pytest.param("activation", nn.Identity, "pooled", id="pooled linear"),
    pytest.param("below", nn.Softplus, "convolved", id="convolved"),
]


@pytest.mark.parametrize(("layer", "activation", "path"), WAYS)
@pytest.mark.parametrize("mode", ["paper", "normalised"])
def test_gradients_of_all_encoder_weights_equal_finite_differences(layer, activation, path, mode):
    vae = SmallVAE(activation).double()
    if layer == "activation":
        layer = "conv"
    x = images(1)
    names = [name for name, _ in vae.named_parameters() if "log_variance" not in name]
    overlap = AttentionDisentanglementLoss(mode)

    def loss(*weights: Tensor) -> Tensor:
        with watch_forward(vae, layer) as watched:
            mean = functional_call(vae, dict(zip(names, weights, strict=True)), (x,))[1]
        assert watched.plan(mean).path == path
        return overlap.of_forward(watched, mean)

    weights = tuple(vae.get_parameter(name) for name in names)
    assert gradcheck(loss, weights, fast_mode=True)


@pytest.mark.parametrize("mode", MODES)
def test_weights_behind_the_layer_are_trained_unless_the_channel_weights_are_detached(vae, mode):
    loss = AttentionDisentanglementLoss(mode).of_images(
        LatentGradCAM(vae, "conv", posterior="forward:[1]"), images()
    )
    loss.backward()
    reached = {
        name: parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        for name, parameter in vae.named_parameters()
    }
    assert reached["below.weight"] and reached["conv.weight"]
    assert reached["hidden.weight"] == reached["mean.weight"] == (mode != "replication")


@pytest.mark.parametrize("mode", ["paper", "normalised"])
def test_following_the_gradient_lowers_the_loss(vae, mode):
    x = images()
    cam = LatentGradCAM(vae, "conv", posterior="forward:[1]")
    overlap = AttentionDisentanglementLoss(mode)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    start = float(overlap.of_images(cam, x))
    for _ in range(30):
        optimizer.zero_grad()
        overlap.of_images(cam, x).backward()
        optimizer.step()
    assert float(overlap.of_images(cam, x)) < 0.9 * start


def test_random_pairs_are_different_pairs_drawn_anew_and_repeatable():
    maps = some_maps(2, 20, 3, 3)
    first, again = (AttentionDisentanglementLoss(pairs=3, seed=5) for _ in range(2))
    drawn = [float(first(maps)) for _ in range(4)]
    assert drawn == [float(again(maps)) for _ in range(4)]
    assert len(set(drawn)) == 4
    pairs = random_pairs(6, 15)
    assert sorted(map(tuple, pairs.tolist())) == list(itertools.combinations(range(6), 2))


def test_random_pairs_go_on_from_a_checkpoint():
    maps = some_maps(2, 20, 3, 3)
    whole, killed, resumed = (AttentionDisentanglementLoss(pairs=2) for _ in range(3))
    expected = [float(whole(maps)) for _ in range(4)]
    killed(maps), killed(maps)
    resumed.load_state_dict(copy.deepcopy(killed.state_dict()))
    assert [float(resumed(maps)), float(resumed(maps))] == expected[2:]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "papers"}, "mode='papers' is not known; choose one of paper"),
        ({"aggregation": "max"}, "aggregation='max'"),
        ({"gate": "std"}, "gate='std'"),
        ({"pairs": "some"}, "pairs='some'"),
        ({"pairs": 0}, "pairs=0"),
        ({"rectifier": "none"}, "rectifier='none' leaves maps negative"),
    ],
)
def test_an_unknown_option_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        AttentionDisentanglementLoss(**options)


@pytest.mark.parametrize(
    ("maps", "options", "words"),
    [
        (torch.rand(2, 1, 3, 3), {}, "D of at least 2"),
        (torch.rand(2, 3), {}, "wanted \\(B, D, \\*spatial\\)"),
        (-torch.rand(2, 3, 3), {}, "negative values"),
        (torch.rand(2, 3, 3), {"pairs": torch.tensor([[1, 1]])}, "two different ones"),
        (torch.rand(2, 3, 3), {"pairs": torch.tensor([[0, 3]])}, "0 to 2"),
        (torch.rand(2, 3, 3), {"pairs": torch.tensor([0, 1])}, "wanted \\(n, 2\\)"),
        (torch.rand(2, 3, 3), {"gates": torch.ones(2)}, "gates has shape \\(2,\\)"),
    ],
)
def test_maps_pairs_and_gates_that_do_not_fit_are_named(maps, options, words):
    with pytest.raises(ValueError, match=words):
        attention_overlap(maps, **options)


def test_the_kl_gate_asks_for_the_kl():
    with pytest.raises(ValueError, match="gate='kl' needs kl of shape \\(5,\\)"):
        AttentionDisentanglementLoss(gate="kl")(some_maps())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "arguments"),
    [("ad_loss_plain_loop.py", ["--steps", "200"]), ("ad_loss_fabric.py", ["--steps", "2"])],
)
def test_the_examples_run(example, arguments):
    script = Path(__file__).parents[2] / "examples" / example
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=True
    )
    assert "overlap" in done.stdout
