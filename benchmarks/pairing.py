"""Ratios that survive a noisy machine: every round times the references right before the way.

A neighbour's load changes from second to second, so the quotient of two medians taken minutes
apart means little. The quotient of two calls one after the other shares their moment's load, and
the median over rounds drops the moments that changed in between. Where the machine has more work
than cores, the clock ``cpu`` with one thread counts only the time that the process itself ran.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import torch

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Call = Callable[[], object]


@dataclass
class PairedTimer:
    """Times a call and its references in alternation.

    Args:
        call: the way timed.
        references: name -> call that each round is compared with.
        device: ``cuda`` is synchronised inside the timed region.
        clock: ``wall``, or ``cpu`` for the processor time of one thread.

    Attributes:
        seconds: of the call, one per round.
        reference_seconds: name -> the same.
    """

    call: Call
    references: Mapping[str, Call]
    device: str = "cpu"
    clock: str = "wall"
    seconds: list[float] = field(default_factory=list)
    reference_seconds: dict[str, list[float]] = field(default_factory=dict)

    def run_references(self) -> None:
        """The untimed setup of a round, as far as pytest-benchmark is concerned."""
        for name, call in self.references.items():
            self.reference_seconds.setdefault(name, []).append(timed(call, self.device, self.clock))

    def run(self) -> None:
        """The timed part of a round."""
        self.seconds.append(timed(self.call, self.device, self.clock))

    def run_rounds(self, count: int) -> None:
        """Some rounds, each the references and then the call."""
        for _ in range(count):
            self.run_references()
            self.run()

    def ratios(self) -> dict[str, dict[str, float]]:
        """Name -> seconds of the call over seconds of the reference: median, lowest, highest."""
        return {name: spread(self._quotients(name)) for name in self.reference_seconds}

    def _quotients(self, name: str) -> list[float]:
        pairs = zip(self.seconds, self.reference_seconds[name], strict=True)
        return [own / other for own, other in pairs]


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": median(values), "low": min(values), "high": max(values)}


def timed(call: Call, device: str = "cpu", clock: str = "wall") -> float:
    """Seconds of one call, the device idle before and after."""
    now = CLOCKS[clock]
    synchronize(device)
    start = now()
    call()
    synchronize(device)
    return now() - start


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def loop_seconds(seconds_of: Callable[[int], float], dims: int) -> float:
    """Seconds that a loop over ``dims`` dimensions will take, from one and from three of them."""
    one, three = seconds_of(1), seconds_of(3)
    return one + max(three - one, 0.0) / 2 * (dims - 1)


def rounds_within(budget: float, seconds: float, least: int, most: int) -> int:
    """Rounds of ``seconds`` each that fit into ``budget`` seconds, within bounds."""
    return max(least, min(most, int(budget / max(seconds, 1e-9))))
