"""Every committed result says which command made it, on which commit of this history."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, ROOT

FILES = sorted((DOCS / "results").glob("*.json"))

NOT_HERE = {
    "localization_features_magnetic_tile.json": "rebased; captum_vae/ is as in c8a2733a85",
    "localization_features_ped2.json": "rebased; captum_vae/ is as in c8a2733a85",
    "speed_cpu_far.json": "rebased; captum_vae/ is as in d81ba68034",
}
"""Files whose commit is not in this history, and why."""


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)


def stated(path: Path) -> tuple[str, str]:
    found = json.loads(path.read_text(encoding="utf-8"))
    return found["command"], found["commit"]


def absolute_paths(command: str) -> list[str]:
    """The words of a command that are paths from the root or from somebody's home."""
    return [
        word for word in shlex.split(command) if re.search(r"(?:^|[=:,])(?:/|~|[A-Za-z]:\\)", word)
    ]


@pytest.mark.parametrize(
    ("command", "paths"),
    [
        ("python -m benchmarks.bench_calls --out docs/results/calls.json", []),
        ("captum-vae fit --out /tmp/run", ["/tmp/run"]),
        ("captum-vae fit --data.root=/data '--title=a / b'", ["--data.root=/data"]),
        ("bench.py ~/run --scorers.PaDiM.name benchmarks.peers:PaDiM", ["~/run"]),
    ],
)
def test_absolute_paths_are_found(command: str, paths: list[str]) -> None:
    assert absolute_paths(command) == paths


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_result_states_a_command_that_runs_from_the_repository(path: Path) -> None:
    command, _ = stated(path)
    assert command
    assert not absolute_paths(command)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_result_states_a_commit_without_changes(path: Path) -> None:
    _, commit = stated(path)
    assert re.fullmatch("[0-9a-f]{40}", commit), commit


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name not in NOT_HERE], ids=lambda path: path.stem
)
def test_the_commit_of_a_result_is_in_this_history(path: Path) -> None:
    shallow = git("rev-parse", "--is-shallow-repository")
    if shallow.returncode or shallow.stdout.strip() != "false":
        pytest.skip("there is no whole history here")
    _, commit = stated(path)
    assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode == 0, commit


def test_exceptions_are_still_needed() -> None:
    names = {path.name for path in FILES}
    assert NOT_HERE.keys() <= names
    for name in NOT_HERE:
        _, commit = stated(DOCS / "results" / name)
        assert git("merge-base", "--is-ancestor", commit, "HEAD").returncode, name
