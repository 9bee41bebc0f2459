"""Images per second of method 1 and method 2: every precision, eager and as a CUDA graph.

    python -m benchmarks.throughput [--quick] [--devices cuda] [--out docs/results/throughput.json]

Method 1 is ``LatentGradCAM``, all D maps; method 2 is ``MeanSumGradCAM``, one map; beside them
method 2 done with one autograd backward. D is 10, 32, 128 and 1000, precisions are float32 and
bfloat16 autocast, on the CPU and on a CUDA device; there every call is also captured in a CUDA
graph and replayed. Weights and images are random (seed 0), so that nothing but the package is
needed. Calls of a row alternate with method 2's by autograd, and the device is synchronised around
each; a number is the median over rounds. What cannot run (a missing device, too little memory, a
call that cannot be captured) is listed with its reason.
"""

import argparse
import gc
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import describe_machine
from benchmarks.pairing import rounds_within, timed
from benchmarks.settings import ENCODERS, Case, Setting, build_case
from benchmarks.ways import prepare
from captum_vae.provenance import commit

LAYERS = {
    "MNIST": ("relu2", "conv2", "relu1"),
    "UCSD": ("relu3", "conv3"),
    "FactorVAE": ("relu4", "conv4", "relu1"),
    "ResNet18": ("layer4", "layer3", "layer2"),
}
DIMS = (10, 32, 128, 1000)
BATCH = {"cuda": {"ResNet18": 64}, "cpu": {"UCSD": 16, "ResNet18": 4}}
METHODS = {"method 1": "method1", "method 2": "method2", "method 2 by autograd": "method2_autograd"}
REFERENCE = "method 2 by autograd"
Call = Callable[[], Tensor]


def settings(device: str, quick: bool) -> Iterator[Setting]:
    """Every line of the table on one device."""
    for name, layers in LAYERS.items():
        encoder = ENCODERS[name]
        batch = BATCH[device].get(name, 128)
        size = encoder.image_size
        if quick:
            layers, batch, size = layers[-1:], 2, min(size, 64)
        for layer in layers:
            for dims in DIMS[:2] if quick else DIMS:
                for dtype in ("float32", "bfloat16"):
                    yield Setting(name, layer, dims, batch, size, device, dtype)


def captured(call: Call) -> Call:
    """The call as one CUDA graph, which is replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        maps = call()

    def replay() -> Tensor:
        graph.replay()
        return maps

    return replay


def measured(setting: Setting, budget: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of one setting, and what of it was skipped."""
    case = build_case(setting)
    eager = {
        name: partial(prepare(way, case), range(setting.dims)) for name, way in METHODS.items()
    }
    calls: dict[tuple[str, str], Call] = {(name, "eager"): call for name, call in eager.items()}
    skipped = []
    for name, call in eager.items() if setting.device == "cuda" else ():
        try:
            calls[name, "CUDA graph"] = captured(call)
            assert_same(calls[name, "CUDA graph"](), call(), case)
        except (RuntimeError, AssertionError) as error:
            calls.pop((name, "CUDA graph"), None)
            reason = str(error).strip().splitlines()[0][:200]
            skipped.append(
                {**asdict(setting), "method": name, "mode": "CUDA graph", "reason": reason}
            )
            torch.cuda.synchronize()
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    once = sum(timed(call, setting.device) for call in calls.values())  # warm-up as well
    for _ in range(rounds_within(budget, once, 3, 50)):
        for key, call in calls.items():
            seconds[key].append(timed(call, setting.device))
    reference = seconds[REFERENCE, "eager"]
    rows = []
    for (name, mode), values in seconds.items():
        ratios = [own / other for own, other in zip(values, reference, strict=True)]
        rows.append(
            {
                **asdict(setting),
                "method": name,
                "mode": mode,
                "images_per_second": float(f"{setting.batch / median(values):.4g}"),
                "seconds": float(f"{median(values):.4g}"),
                "times_method_2_by_autograd": float(f"{median(ratios):.4g}"),
                "rounds": len(values),
            }
        )
    return rows, skipped


def assert_same(found: Tensor, wanted: Tensor, case: Case) -> None:
    """A replayed graph gives the maps of the call that it was captured from."""
    tolerance = 1e-1 if case.dtype == "bfloat16" else 2e-2
    worst = float((found.float() - wanted.float()).abs().max() / wanted.float().abs().max())
    assert worst < tolerance, f"the graph's maps differ by {worst:.1e} of the largest value"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Images per second in Markdown, a line per setting and mode."""
    titles = ["encoder, layer", "B", "D", "device", "precision", "mode", *METHODS]
    lines = [titles, ["---"] * 6 + ["---:"] * len(METHODS)]
    settings: dict[tuple[Any, ...], dict[str, float]] = {}
    for row in rows:
        place = f"{row['encoder']} {row['layer']}"
        key = (place, *(row[k] for k in ("batch", "dims", "device", "dtype", "mode")))
        settings.setdefault(key, {})[row["method"]] = row["images_per_second"]
    for key, found in settings.items():
        cells = [f"{found[name]:.4g}" if name in found else "–" for name in METHODS]
        lines.append([*map(str, key), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="one small batch a line, in a minute")
    parser.add_argument(
        "--devices",
        nargs="+",
        choices=("cuda", "cpu"),
        default=["cuda", "cpu"],
        help="where to measure; a device that is not here is listed as skipped",
    )
    parser.add_argument("--out", type=Path, help="also write the results to this JSON file")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    for device in options.devices:
        if device == "cuda" and not torch.cuda.is_available():
            skipped.append({"device": "cuda", "reason": "no CUDA device is here"})
            continue
        for setting in settings(device, options.quick):
            try:
                made, left = measured(setting, 0.2 if options.quick else 3.0)
            except torch.OutOfMemoryError:
                made, left = [], [{**asdict(setting), "reason": "out of memory"}]
            rows += made
            skipped += left
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
            print(f"{setting}: {len(made)} rows", file=sys.stderr, flush=True)
    report = {
        "command": shlex.join(
            ["python", "-m", "benchmarks.throughput", *(arguments or sys.argv[1:])]
        ),
        "commit": commit(),
        "machine": describe_machine(),
        "rows": rows,
        "skipped": skipped,
    }
    print(table(rows))
    for row in skipped:
        print("skipped:", ", ".join(f"{key}={value}" for key, value in row.items()))
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
