"""Options and records of all benchmarks: ``pytest benchmarks --benchmark-only [--quick]``."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.machine import describe_machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="small batches and few rounds: three minutes on two cores, not for publishing",
    )
    parser.addoption(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time of a single thread, for machines that are busy with other work",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "bench_*.py")
    config.skipped_rows = []  # type: ignore[attr-defined]
    if config.getoption("--clock") == "cpu":
        torch.set_num_threads(1)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: Any) -> None:
    machine_info.update(describe_machine())


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: Any, output_json: Any) -> None:
    """Add what was skipped, and the command that ran."""
    words = (str(word) for word in config.invocation_params.args)
    output_json["command"] = shlex.join(["pytest", *map(_without_folders, words)])
    output_json["skipped"] = config.skipped_rows  # type: ignore[attr-defined]


def _without_folders(word: str) -> str:
    """An argument with an absolute path cut to its last part, alone or behind ``option=``."""
    option, equals, value = word.rpartition("=")
    return option + equals + (Path(value).name if Path(value).is_absolute() else value)
