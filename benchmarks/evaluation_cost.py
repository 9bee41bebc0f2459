"""What one ``captum-vae evaluate`` costs, and the same by the code of another environment.

    python -m benchmarks.evaluation_cost RUN [--other PYTHON] [--json FILE] [options ...]

RUN is the folder of a trained run; the configuration's data are found by ``CAPTUM_VAE_DATA``.
PYTHON is the interpreter of an environment in which other code of this package is installed, such
as an older commit's. Further options go to the first command alone, such as
``--choose_among.families=[latent_attention]`` for candidates that older code has too. Everything
runs in one thread. Prints one JSON object: processor seconds (user and system, which other work on
the machine changes less than wall time) and peak resident memory of each, imports included, their
ratios, and how far apart the pixel metrics of rows of the same name are.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from captum_vae.files import write_json
from captum_vae.provenance import run_record

_RUN = "import sys; from captum_vae.commands.main import main; sys.exit(main(sys.argv[1:]))"


def cost(python: str, run: str, config: str, options: list[str]) -> tuple[dict[str, float], Any]:
    """Run one evaluation; what it took, and its results."""
    with tempfile.TemporaryDirectory() as out:
        words = ["evaluate", "--config", config, "--model.checkpoint", str(Path(run).resolve())]
        words += ["--out", f"{out}/evaluation", "--progress", "off", *options]
        process = subprocess.Popen(
            [python, "-c", _RUN, *words],
            cwd=out,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"the evaluation by {python} ended with status {status}")
        results = json.loads(Path(out, "evaluation", "results.json").read_text())
    seconds = used.ru_utime + used.ru_stime
    return {"cpu_seconds": round(seconds, 1), "peak_mb": round(used.ru_maxrss / 1024)}, results


def furthest(first: Any, second: Any) -> dict[str, float]:
    """The largest difference of a pixel metric, by the name of the row."""
    found = {}
    others = {row["name"]: row for row in second["rows"]}
    for row in first["rows"]:
        if row["name"] in others:
            pairs = zip(_values(row), _values(others[row["name"]]), strict=True)
            found[row["name"]] = max(abs(one - other) for one, other in pairs)
    return found


def _values(row: dict[str, Any]) -> list[float]:
    return [
        row["scores"][name]["value"] for name in ("auroc", "aupro", "average_precision", "f1_max")
    ]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a trained run")
    parser.add_argument("--config", default="bottle", help="name or file of the configuration")
    parser.add_argument("--other", help="interpreter of an environment with other code")
    parser.add_argument("--json", type=Path, help="file for what was found")
    asked, options = parser.parse_known_args()
    now, results = cost(sys.executable, asked.run, asked.config, options)
    report: dict[str, Any] = {**run_record(torch.device("cpu")), "now": now}
    if asked.other:
        python = os.path.abspath(asked.other)
        other, others_results = cost(python, asked.run, asked.config, [])
        report["other_commit"] = others_results["commit"]
        report["other"] = other
        report["ratios"] = {name: round(other[name] / now[name], 2) for name in now}
        report["largest_differences"] = furthest(results, others_results)
    print(json.dumps(report, indent=1))
    if asked.json:
        write_json(asked.json, report)


if __name__ == "__main__":
    main()
