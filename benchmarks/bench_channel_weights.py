"""Method 1 at method 2's price: every way to the maps, on every encoder.

    pytest benchmarks/bench_channel_weights.py --benchmark-only --benchmark-json=raw.json
    python -m benchmarks.summary raw.json

A row is one way on one setting. Before it is timed, one call warms it up and has its maps
compared with the engine's, and one call counts its peak memory. Every timed round alternates the
way with its references (method 2 by autograd, and our method 1 and 2), so that the ratios kept in
``extra_info`` come from the same moments (see ``benchmarks/pairing.py``). Ways that would take
longer than a minute a call are skipped, and the JSON says so under ``skipped``.
"""

import gc
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch

from benchmarks.memory import peak_bytes
from benchmarks.pairing import PairedTimer, loop_seconds, rounds_within, spread, timed
from benchmarks.settings import SEED, Case, Setting, build_case, full_settings, quick_settings
from benchmarks.ways import LOOPS, OWN_SCALE, SUMMED, WAYS, Call, missing, plan_of, prepare

REFERENCES = ("method2_autograd", "method2", "method1")


@dataclass(frozen=True)
class Protocol:
    """How long a row may take.

    Attributes:
        slowest: seconds of one call above which a way is skipped.
        budget: seconds for the rounds of a row, its references included.
        least, most: bounds for the number of rounds.
        long: seconds of one call above which a single round is enough.
        clock: ``wall``, or ``cpu`` for the processor time of one thread.
        seed: of the weights and the images.
    """

    slowest: float = 60.0
    budget: float = 6.0
    least: int = 3
    most: int = 30
    long: float = 15.0
    clock: str = "wall"
    seed: int = SEED


FULL = Protocol()
QUICK = Protocol(slowest=4.0, budget=1.0, least=2, most=10, long=1.0)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    settings = quick_settings() if metafunc.config.getoption("--quick") else full_settings()
    if metafunc.config.getoption("--clock") == "cpu":
        settings = (setting for setting in settings if setting.device == "cpu")
    metafunc.parametrize("prepared", list(settings), ids=str, indirect=True, scope="module")


@pytest.fixture(scope="module")
def protocol(request: pytest.FixtureRequest) -> Protocol:
    quick = request.config.getoption("--quick")
    return replace(QUICK if quick else FULL, clock=request.config.getoption("--clock"))


@dataclass
class Prepared:
    """A setting's model and ways, and what was found out about them once."""

    setting: Setting
    case: Case
    plan: str
    ways: dict[str, Call]
    maps: dict[str, torch.Tensor]
    reference_seconds: dict[str, float]


@pytest.fixture(scope="module")
def prepared(request: pytest.FixtureRequest, protocol: Protocol) -> Iterator[Prepared]:
    setting = request.param
    case = build_case(setting)
    ways = {name: prepare(name, case) for name in WAYS if missing(name) is None}
    dims = range(setting.dims)
    maps = {name: ways[name](dims) for name in REFERENCES}
    seconds = {
        name: timed(partial(ways[name], dims), setting.device, protocol.clock)
        for name in REFERENCES
    }
    yield Prepared(setting, case, plan_of(case), ways, maps, seconds)
    del case, ways, maps
    gc.collect()


@pytest.mark.filterwarnings("ignore::captum_vae.posterior.CollapsedPosteriorWarning")
@pytest.mark.parametrize("way", WAYS)
def test_maps(
    benchmark: Any,
    request: pytest.FixtureRequest,
    prepared: Prepared,
    protocol: Protocol,
    way: str,
) -> None:
    setting = prepared.setting
    row = {**asdict(setting), "features": setting.features, "way": way, "plan": prepared.plan}
    clock = partial(timed, device=setting.device, clock=protocol.clock)
    reason = missing(way)
    if reason is not None:
        request.config.skipped_rows.append({**row, "reason": reason})
        pytest.skip(reason)
    if way in LOOPS:
        expected = loop_seconds(
            lambda count: clock(partial(prepared.ways[way], range(count))), setting.dims
        )
        if expected > protocol.slowest:
            reason = f"about {expected:.0f} s a call, more than {protocol.slowest:.0f} s"
            request.config.skipped_rows.append({**row, "reason": reason})
            pytest.skip(reason)

    dims = range(setting.dims)
    call = partial(prepared.ways[way], dims)
    found: list[torch.Tensor] = []
    seconds = clock(lambda: found.append(call()))
    wanted = prepared.maps["method2" if way in SUMMED else "method1"]
    maps = found.pop()
    if way not in OWN_SCALE:
        assert_same_maps(maps, wanted, setting)
    del maps
    peak = peak_bytes(call, setting.device)

    references = [name for name in REFERENCES if name != way]
    least = 1 if seconds > protocol.long else protocol.least
    round_seconds = seconds + sum(prepared.reference_seconds[name] for name in references)
    rounds = rounds_within(protocol.budget, round_seconds, least, protocol.most)
    others = {name: partial(prepared.ways[name], dims) for name in references}
    timer = PairedTimer(call, others, setting.device, protocol.clock)
    benchmark.group = str(setting)
    benchmark.pedantic(timer.run, setup=timer.run_references, rounds=rounds, warmup_rounds=0)
    benchmark.extra_info.update(
        row,
        protocol=asdict(protocol),
        seconds=spread(timer.seconds),
        ratios=timer.ratios(),
        rounds=rounds,
        peak_bytes=peak,
    )


def assert_same_maps(found: torch.Tensor, wanted: torch.Tensor, setting: Setting) -> None:
    """Ways are compared only where they give the same maps, up to the precision in use."""
    precisions = {"cpu-float32": 1e-3, "cuda-float32": 2e-2, "cuda-bfloat16": 1e-1}
    tolerance = precisions[f"{setting.device}-{setting.dtype}"]
    assert found.shape == wanted.shape
    worst = float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max())
    assert worst < tolerance, f"maps differ by {worst:.1e} of the largest value"
