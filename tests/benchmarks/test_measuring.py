"""What the benchmarks measure with: paired timing, peak memory, and ways that agree."""

import pytest
import torch

from benchmarks import pairing
from benchmarks.memory import peak_bytes
from benchmarks.pairing import PairedTimer, loop_seconds, rounds_within
from benchmarks.settings import Setting, build_case, full_settings, quick_settings
from benchmarks.ways import OWN_SCALE, SUMMED, WAYS, missing, prepare

MIB = 2**20
HERE = [way for way in WAYS if missing(way) is None]

pytestmark = pytest.mark.filterwarnings("ignore::captum_vae.posterior.CollapsedPosteriorWarning")


class Clock:
    """Time that passes only in calls, at a speed that changes from round to round."""

    def __init__(self, monkeypatch):
        self.now, self.load = 0.0, 1.0
        monkeypatch.setitem(pairing.CLOCKS, "wall", lambda: self.now)

    def takes(self, seconds):
        def call():
            self.now += seconds * self.load

        return call


def test_a_ratio_does_not_depend_on_the_load_that_a_round_shares(monkeypatch):
    clock = Clock(monkeypatch)
    timer = PairedTimer(clock.takes(3.0), {"reference": clock.takes(2.0)})
    for clock.load in (1.0, 10.0, 4.0):
        timer.run_references()
        timer.run()
    assert timer.seconds == [3.0, 30.0, 12.0]
    assert timer.ratios()["reference"] == pytest.approx({"median": 1.5, "low": 1.5, "high": 1.5})


def test_a_round_that_a_neighbour_disturbed_does_not_move_the_median(monkeypatch):
    clock = Clock(monkeypatch)
    timer = PairedTimer(clock.takes(3.0), {"reference": clock.takes(2.0)})
    for disturbance in (1.0, 50.0, 1.0):
        timer.run_references()
        clock.load = disturbance
        timer.run()
        clock.load = 1.0
    assert timer.ratios()["reference"]["median"] == pytest.approx(1.5)


def test_a_loops_duration_follows_from_one_and_three_dimensions():
    # A forward of 5 s and 2 s per dimension: 32 dimensions take 5 + 64 s.
    assert loop_seconds(lambda count: 5 + 2.0 * count, 32) == pytest.approx(69)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.1, 30), (1.0, 6), (20.0, 3)])
def test_slow_ways_get_fewer_rounds(seconds, rounds):
    assert rounds_within(6.0, seconds, least=3, most=30) == rounds


def test_peak_memory_counts_what_is_alive_at_once():
    def call():
        first = torch.ones(MIB)  # 4 MiB
        second = first + 1  # 8 MiB
        del first  # 4 MiB
        third = second + 1  # 8 MiB
        del second, third

    assert peak_bytes(call) == pytest.approx(8 * MIB, rel=0.01)


def test_peak_memory_does_not_count_what_was_there_before():
    there = torch.ones(4 * MIB)
    assert peak_bytes(lambda: there.add_(1)) < 0.01 * MIB


def test_peak_memory_counts_temporaries_inside_operations():
    x = torch.rand(MIB)  # its result is one number, but the exponentials need 4 MiB
    assert peak_bytes(lambda: x.logsumexp(0)) > 3.9 * MIB


@pytest.mark.parametrize("layer", ["relu4", "conv4"])
def test_all_ways_give_the_same_maps(layer):
    case = build_case(Setting("FactorVAE", layer, 5, 3, 64))
    maps = {name: prepare(name, case)(range(5)) for name in HERE}
    for name, found in maps.items():
        if name in OWN_SCALE:
            continue
        wanted = maps["method2" if name in SUMMED else "autograd_loop"]
        assert found.shape == (3, 1 if name in SUMMED else 5, 4, 4)
        assert wanted.abs().max() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6 * float(wanted.max()))


@pytest.mark.parametrize("way", HERE)
def test_no_way_leaves_gradients_behind(way):
    case = build_case(Setting("FactorVAE", "relu4", 3, 2, 64))
    prepare(way, case)(range(3))
    assert all(parameter.grad is None for parameter in case.vae.parameters())


def test_the_full_set_is_every_encoder_layer_and_number_of_dimensions():
    on_cpu = {(s.encoder, s.layer, s.dims) for s in full_settings() if s.device == "cpu"}
    layers = {
        "MNIST": ("relu2", "conv2", "relu1"),
        "UCSD": ("relu3", "conv3"),
        "FactorVAE": ("relu4", "conv4", "relu2", "relu1", "conv1"),
        "ResNet18": ("layer4", "layer3", "layer2", "layer1"),
    }
    assert on_cpu == {(e, n, d) for e in layers for n in layers[e] for d in (10, 32, 128, 1000)}


def test_the_quick_set_has_every_encoder_and_layer_once():
    full = {(s.encoder, s.layer) for s in full_settings()}
    quick = [(s.encoder, s.layer) for s in quick_settings() if s.device == "cpu"]
    assert set(quick) == full
    assert len(quick) == len(full)
