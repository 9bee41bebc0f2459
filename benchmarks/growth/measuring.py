"""Processor seconds and peak memory of one point, and the slope through many."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captum_vae.provenance import peak_memory

Row = dict[str, Any]

COSTS = ("cpu_seconds", "peak_mb")
"""What is measured of a point, and what slopes are fitted to."""


@dataclass(frozen=True)
class Growth:
    """One kind of work at several sizes.

    Attributes:
        title: A heading.
        size: What grows, with its unit.
        about: What is done at each size, in sentences.
        rows: A mapping per point with ``series``, ``size``, ``cpu_seconds`` (user and system) and
            ``peak_mb``; what else it holds is shown beside them.
        at_most: The slope of processor seconds by series that is to be expected at most.
    """

    title: str
    size: str
    about: str
    rows: Sequence[Row]
    at_most: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Everything, with the slopes, for JSON."""
        return {
            "title": self.title,
            "size": self.size,
            "about": self.about,
            "slopes": slopes(self.rows, self.at_most),
            "rows": list(self.rows),
        }


def up_to(largest: float, sizes: Sequence[int]) -> list[int]:
    """The sizes that are not above the largest one wanted."""
    return [size for size in sizes if size <= largest]


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """The slope of the least-squares line through the logarithms: 1 for a cost in proportion.

    None where fewer than two points have a cost above zero.
    """
    points = [(math.log(x), math.log(y)) for x, y in zip(sizes, costs, strict=True) if y > 0]
    if len({x for x, _ in points}) < 2:
        return None
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    across = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / across


def slopes(rows: Sequence[Row], at_most: dict[str, float]) -> list[Row]:
    """The slopes of every series, over all its points and over its last three.

    What every call costs however small hides the growth at small sizes, and so the last three
    points, the largest, are fitted by themselves as well.
    """
    found = []
    for series in dict.fromkeys(row["series"] for row in rows):
        points = [row for row in rows if row["series"] == series]
        entry: Row = {"series": series}
        for cost in COSTS:
            for name, part in (("all", points), ("last_three", points[-3:])):
                fitted = slope([p["size"] for p in part], [p[cost] for p in part])
                entry[f"{cost}_{name}"] = None if fitted is None else round(fitted, 3)
        found.append({**entry, "at_most": at_most[series]})
    return found


_before = [0.0]


def peak_above() -> float:
    """MB that the process came to hold, in :func:`in_child` above what it began with."""
    return max((peak_memory() or 0) / 2**20 - _before[-1], 0.0)


def in_child(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run work in a forked process: what it returns, its processor seconds and peak memory.

    The memory is what the process came to hold above what it began with, in MB of 2^20 bytes; its
    own children are counted in the seconds alone. A ``cpu_seconds`` that the work returns itself
    stays.

    Raises:
        RuntimeError: The work failed; its traceback is printed.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        status = 1
        try:
            _before.append(_resident_mb())
            start = time.perf_counter()
            found = work()
            used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
            measured = {
                "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in used), 4),
                "wall_seconds": round(time.perf_counter() - start, 4),
                "peak_mb": round(peak_above(), 1),
            }
            os.write(writer, json.dumps({**measured, **found}).encode())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:
        raise RuntimeError("the measured work failed; its traceback stands above")
    returned: dict[str, Any] = json.loads(told)
    return returned


@contextmanager
def timing(seconds: list[float]) -> Iterator[None]:
    """Append the processor seconds of the block."""
    start = time.process_time()
    yield
    seconds.append(time.process_time() - start)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20
