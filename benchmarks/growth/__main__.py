"""Measure how cost grows with the size of the work.

    python -m benchmarks.growth attribution --out docs/results/growth_attribution.json
    python -m benchmarks.growth pixels --out docs/results/growth_pixels.json
    python -m benchmarks.growth evaluation --out docs/results/growth_evaluation.json
    python -m benchmarks.growth prediction --out docs/results/growth_prediction.json
    python -m benchmarks.growth files --out docs/results/growth_files.json
    python -m benchmarks.growth processes --out docs/results/growth_processes.json

Each takes minutes of one core; ``--largest`` leaves out the sizes above a number. ``--smoke`` takes
small sizes, whose numbers say nothing. Processor
seconds are counted, since other work on the machine changes them less than the time on the wall;
the machine's load is written down. Linux only: the memory of a process is read from /proc.
"""

import argparse
import math
import os
from importlib import import_module
from pathlib import Path

import torch

from captum_vae.files import write_json
from captum_vae.provenance import run_record

SUBJECTS = ("attribution", "pixels", "evaluation", "prediction", "files", "processes")


def main(arguments: list[str] | None = None) -> None:
    """Measure a subject and write its file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="small sizes")
    parser.add_argument("--largest", type=float, default=math.inf, help="size to stop at")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record = run_record(torch.device("cpu"), seed=0)
    before = os.getloadavg()[0]
    measured = import_module(f"benchmarks.growth.{options.subject}").measure(
        options.smoke, options.largest
    )
    load = [round(before, 1), round(os.getloadavg()[0], 1)]
    growths = [growth.to_dict() for growth in measured]
    found = {**record, "subject": options.subject, "load_average": load, "growths": growths}
    write_json(options.out, found)
    for growth in growths:
        print(growth["title"], *growth["slopes"], sep="\n  ")


if __name__ == "__main__":
    main()
